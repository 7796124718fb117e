"""Guards HTTPS and encrypted gRPC, with a certificate that the test makes."""

from __future__ import annotations

import http.client
import shutil
import ssl
import subprocess
from pathlib import Path

import grpc
import pytest

from cvpipe.errors import ConfigError, UserError
from cvpipe.grpc_messages import inference
from cvpipe.serving.server import make_server
from cvpipe.serving.settings import Settings
from toy_served import save_toy, served


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("this machine has no openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    words = (
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout {key}"
        f" -out {cert} -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    )
    subprocess.run(words.split(), check=True, capture_output=True)
    return cert, key


def test_both_protocols_are_encrypted(pair: tuple[Path, Path], tmp_path: Path) -> None:
    save_toy(tmp_path / "toy", 1)
    cert, key = pair
    with served(tmp_path, Settings(tls_cert=cert, tls_key=key, grpc_port=0)) as server:
        context = ssl.create_default_context(cafile=str(cert))
        connection = http.client.HTTPSConnection(
            "127.0.0.1", server.server_port, timeout=20, context=context
        )
        connection.request("POST", "/predict/toy", b"an image")
        assert connection.getresponse().status == 200
        connection.close()
        plain = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
        plain.request("GET", "/healthz")
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            plain.getresponse()
        credentials = grpc.ssl_channel_credentials(cert.read_bytes())
        own = inference()
        with grpc.secure_channel(f"127.0.0.1:{server.grpc_port}", credentials) as channel:
            live = channel.unary_unary(
                "/inference.GRPCInferenceService/ServerLive",
                request_serializer=own.Empty.SerializeToString,
                response_deserializer=own.ServerLiveResponse.FromString,
            )
            assert live(own.Empty(), timeout=20).live


def test_an_unusable_certificate_is_an_error(pair: tuple[Path, Path], tmp_path: Path) -> None:
    save_toy(tmp_path / "toy", 1)
    cert, key = pair
    settings = Settings(tls_cert=tmp_path / "none.pem", tls_key=key)
    with pytest.raises(UserError, match="--tls-cert and"):
        make_server(tmp_path, "127.0.0.1", 0, settings)
    with pytest.raises(ConfigError, match="belong together"):
        Settings(tls_cert=cert)
