"""Guards bodies in gzip and in chunks, and IPv6, over real sockets: what HTTP clients send."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from cvpipe.serving.bodies import MAX_CONTAINERS, JsonGuard
from cvpipe.serving.errors import RequestError
from cvpipe.serving.settings import Settings
from toy_served import served

Exchange = Callable[..., list[tuple[int, Any]]]
BODY = json.dumps({"instances": [1.0, 2.5]}).encode()
ANSWER = (200, {"predictions": [2.0, 5.0]})
LIMIT = 64 * 2**20
POST = "POST /v1/models/twice:predict HTTP/1.1"


class Twice(tf.Module):
    """A model that doubles numbers."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def serving_default(self, number: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"doubled": 2 * number}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "twice"
    twice = Twice()
    tf.saved_model.save(twice, str(folder / "1"), {"serving_default": twice.serving_default})
    return folder


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    with served(folder) as server:
        yield server.server_port


def exchange(port: int, *requests: bytes, host: str = "127.0.0.1") -> list[tuple[int, Any]]:
    """Send requests on one connection; return the status and the JSON of each answer."""
    answers: list[tuple[int, Any]] = []
    with socket.create_connection((host, port), timeout=20) as connection:
        reader = connection.makefile("rb")
        for request in requests:
            connection.sendall(request)
            while not (status := reader.readline()).strip() or b" 100 " in status:
                assert status, "the server closed the connection"
            headers = dict(
                line.decode().strip().lower().split(": ", 1)
                for line in iter(reader.readline, b"\r\n")
            )
            content = reader.read(int(headers["content-length"]))
            answers.append((int(status.split()[1]), json.loads(content)))
    return answers


def request(body: bytes, *headers: str) -> bytes:
    """A request with its length."""
    lines = [POST, "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def in_chunks(body: bytes, *headers: str, size: int = 7, trailers: str = "") -> bytes:
    """A request in chunks of `size` bytes, the first of them with an extension."""
    parts = [body[begin : begin + size] for begin in range(0, len(body), size)]
    chunks = [
        b"%x%s\r\n%s\r\n" % (len(part), b"" if n else b" ;name=value", part)
        for n, part in enumerate(parts)
    ]
    lines = [POST, "Host: x", "Transfer-Encoding: chunked", *headers, "", ""]
    return "\r\n".join(lines).encode() + b"".join(chunks) + f"0\r\n{trailers}\r\n".encode()


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip"])
def test_a_body_in_gzip_is_answered(port: int, coding: str) -> None:
    packed = gzip.compress(BODY, mtime=0)
    assert exchange(port, request(packed, f"Content-Encoding: {coding}")) == [ANSWER]


def test_a_chunked_body_is_answered_and_keeps_the_connection(port: int) -> None:
    requests = [
        in_chunks(BODY),
        in_chunks(BODY, size=1),
        in_chunks(BODY, size=1000, trailers="Checksum: 1\r\nMore: 2\r\n"),
        in_chunks(gzip.compress(BODY, mtime=0), "Content-Encoding: gzip"),
        in_chunks(BODY, "Expect: 100-continue"),
        request(BODY),
    ]
    assert exchange(port, *requests) == [ANSWER] * len(requests)


@pytest.mark.parametrize(
    "coding, body, status, sentence",
    [
        ("gzip", BODY, 400, "not gzip"),
        ("gzip", gzip.compress(BODY, mtime=0)[:-9], 400, "one complete gzip stream"),
        ("gzip", gzip.compress(BODY, mtime=0) + b"more", 400, "one complete gzip stream"),
        ("gzip", b"", 400, "one complete gzip stream"),
        ("gzip", gzip.compress(b"{", mtime=0), 400, "not JSON"),
        ("br", BODY, 415, "Content-Encoding: br is not supported"),
        ("gzip, gzip", gzip.compress(BODY, mtime=0), 415, "not supported"),
    ],
)
def test_a_damaged_gzip_body_is_a_clear_error_and_keeps_the_connection(
    port: int, coding: str, body: bytes, status: int, sentence: str
) -> None:
    bad = request(body, f"Content-Encoding: {coding}")
    (answered, content), after = exchange(port, bad, request(BODY))
    assert answered == status and sentence in content["error"]
    assert after == ANSWER


def test_a_body_that_unpacks_to_more_than_the_limit_is_refused(port: int) -> None:
    packed = gzip.compress(b" " * (LIMIT + 2**20), 1)
    assert len(packed) < 2**20
    ((status, content),) = exchange(port, request(packed, "Content-Encoding: gzip"))
    assert status == 413 and str(LIMIT) in content["error"]


@pytest.mark.parametrize(
    "head, after, status",
    [
        ([], b"7fffffff\r\n", 400),
        ([], b"1\r\n \r\n%x\r\n" % LIMIT, 400),
        ([], b"two\r\n{}\r\n0\r\n\r\n", 400),
        ([], b"-1\r\n", 400),
        ([], b"\r\n", 400),
        ([], b"1\r\n{}\r\n0\r\n\r\n", 400),
        ([], b"2\n{}\n0\n\n", 400),
        ([], b"2" + b" " * 2**13 + b"\r\n{}\r\n", 400),
        ([], b"0\r\n" + b"a: b\r\n" * 200 + b"\r\n", 400),
        (["Content-Length: 2"], b"2\r\n{}\r\n0\r\n\r\n", 400),
        (["Transfer-Encoding: chunked"], b"2\r\n{}\r\n0\r\n\r\n", 501),
    ],
)
def test_chunks_that_cannot_be_read_close_their_connection_and_harm_no_other(
    port: int, head: list[str], after: bytes, status: int
) -> None:
    lines = [POST, "Host: x", "Transfer-Encoding: chunked", *head, "", ""]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall("\r\n".join(lines).encode() + after)
        connection.shutdown(socket.SHUT_WR)
        reply = b"".join(iter(lambda: connection.recv(2**16), b""))
    headers, _, content = reply.partition(b"\r\n\r\n")
    assert headers.startswith(b"HTTP/1.1 %d " % status) and b"connection: close" in headers.lower()
    assert list(json.loads(content)) == ["error"]
    assert exchange(port, request(BODY)) == [ANSWER]


def test_chunks_beyond_the_limit_are_refused_while_the_client_still_sends(folder: Path) -> None:
    with served(folder, Settings(max_body_bytes=2**16)) as server:
        port = server.server_port
        ((status, content),) = exchange(port, in_chunks(b" " * 2**22, size=2**15))
        assert status == 413 and "65536" in content["error"]
        assert exchange(port, request(BODY)) == [ANSWER]


@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "identity"])
def test_other_transfer_encodings_are_refused(port: int, coding: str) -> None:
    lines = [POST, "Host: x", f"Transfer-Encoding: {coding}", "", ""]
    ((status, content),) = exchange(port, "\r\n".join(lines).encode())
    assert status == 501 and "chunked" in content["error"]


@pytest.mark.parametrize("container", [b"{},", b"[],", b"[1],"])
def test_json_of_too_many_lists_or_objects_is_refused(container: bytes) -> None:
    guard = JsonGuard(1024)
    guard.feed(b'{"instances": [[')
    with pytest.raises(RequestError, match="lists and objects") as error:
        guard.feed(container * MAX_CONTAINERS)
    assert error.value.status == 413


def test_80_images_of_224_pixels_are_accepted_as_lists_of_numbers() -> None:
    guard, pixel = JsonGuard(1024), b"[0.5,0.25,0.75],"
    row = b"[" + (pixel * 224)[:-1] + b"],"
    image = b"[" + (row * 224)[:-1] + b"],"
    guard.feed(b'{"instances": [')
    for _ in range(80):
        guard.feed(image)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("host, asked", [("::1", ["::1"]), ("::", ["::1", "127.0.0.1"])])
def test_addresses_of_ipv6_are_listened_on(folder: Path, host: str, asked: list[str]) -> None:
    with served(folder, host=host) as server:
        port = server.server_port
        for address in asked:
            assert exchange(port, request(BODY), host=address) == [ANSWER]


def test_a_name_is_listened_on_where_clients_of_ipv4_find_it(folder: Path) -> None:
    with served(folder, host="localhost") as server:
        port = server.server_port
        assert exchange(port, request(BODY)) == [ANSWER]
