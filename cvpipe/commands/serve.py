"""`cvpipe serve`."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvpipe.commands.command import add_command, add_examples
from cvpipe.console import print_message
from cvpipe.errors import ConfigError
from cvpipe.interrupt import on_signals

if TYPE_CHECKING:
    from cvpipe.serving.settings import Settings

MIB = 2**20

HELP = """\
Answers contain the artifact's output tensors: a box is [ymin, xmin, ymax,
xmax] in pixels of the original image. In row form ("instances"), an image that
can't be decoded is answered by an "error".
"""


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "serve",
        serve,
        "serve exported models by the REST APIs of TensorFlow Serving and KServe, or by gRPC",
        as_json=False,
    )
    parser.add_argument(
        "folder",
        metavar="DIR",
        type=Path,
        help="a folder of models, or one model, such as saved_models; new versions are loaded",
    )
    _add_addresses(parser)
    _add_versions(parser)
    _add_batching(parser)
    _add_limits(parser)
    parser.epilog = HELP
    add_examples(
        parser,
        "cvpipe serve saved_models",
        "cvpipe serve saved_models/digits --port 8080 --grpc-port 8500",
        "cvpipe serve saved_models --api-keys keys.txt --tls-cert cert.pem --tls-key key.pem",
    )


def _add_addresses(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("addresses and access")
    group.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on, of IPv4 or IPv6 (default: %(default)s)",
    )
    group.add_argument(
        "--port",
        type=int,
        default=8501,
        help="port to listen on, 0 for any free port (default: %(default)s)",
    )
    group.add_argument(
        "--grpc-port",
        type=int,
        help="port of TensorFlow Serving's and KServe's gRPC, such as 8500 (default: none)",
    )
    group.add_argument(
        "--allow-reload",
        action="store_true",
        help="allow gRPC clients to choose the versions to serve",
    )
    group.add_argument(
        "--tls-cert",
        metavar="FILE",
        type=Path,
        help="serve HTTPS with this certificate in PEM format",
    )
    group.add_argument(
        "--tls-key", metavar="FILE", type=Path, help="the certificate's private key in PEM format"
    )
    group.add_argument(
        "--api-keys",
        metavar="FILE",
        type=Path,
        help="require one of the API keys in this file, one per line",
    )
    group.add_argument(
        "--access-log", action="store_true", help="log every request to stderr as JSON"
    )


def _add_versions(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("versions")
    group.add_argument(
        "--versions",
        metavar="CHOICE",
        action="append",
        default=[],
        help=(
            "versions to serve: all (default), latest, or numbers such as 3,4; digits:3 chooses for"
            " one model; repeatable"
        ),
    )
    group.add_argument(
        "--label",
        metavar="NAME:LABEL=N",
        action="append",
        default=[],
        help="serve version N of a model under a label, such as digits:canary=3; repeatable",
    )
    group.add_argument(
        "--poll",
        metavar="SECONDS",
        type=float,
        default=1.0,
        help="interval between checks of the folder (default: %(default)s)",
    )


def _add_batching(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("batching of images across requests")
    group.add_argument(
        "--max-batch",
        metavar="N",
        type=int,
        default=32,
        help="largest number of images in a batch (default: %(default)s)",
    )
    group.add_argument(
        "--wait-micros",
        metavar="N",
        type=int,
        default=0,
        help="microseconds that a batch waits for more images (default: %(default)s)",
    )
    group.add_argument(
        "--buckets",
        metavar="N,N",
        default="",
        help=(
            "pad batches to these sizes, such as 1,8,32, for models that compile each new size; the"
            " largest must be at least --max-batch"
        ),
    )
    group.add_argument(
        "--batch-threads",
        metavar="N",
        type=int,
        default=2,
        help="number of batches of a version computed in parallel (default: %(default)s)",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits")
    group.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=60.0,
        help="time limit for an answer (default: %(default)s)",
    )
    group.add_argument(
        "--grace",
        metavar="SECONDS",
        type=float,
        default=3.0,
        help="time after SIGTERM in which requests are still accepted, while /readyz fails"
        " (default: %(default)s)",
    )
    group.add_argument(
        "--drain",
        metavar="SECONDS",
        type=float,
        default=30.0,
        help="time limit for requests in progress after the grace time (default: %(default)s)",
    )
    for name, default, text in (
        ("max-queue", 1024, "largest number of waiting images per version"),
        ("max-instances", 1024, "largest number of images or instances per request"),
        ("max-pixels", 50_000_000, "largest number of pixels of an image"),
        ("max-body", 64, "largest request body in MiB"),
        ("max-connections", 512, "largest number of connections"),
        ("threads", 4, "number of unbatched requests answered in parallel"),
    ):
        group.add_argument(
            f"--{name}", metavar="N", type=int, default=default, help=f"{text} (default: {default})"
        )


def serve(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; requests in progress are finished."""
    from cvpipe.runtime import quiet_tensorflow

    quiet_tensorflow()
    from cvpipe.serving.server import make_server

    settings = settings_of(options)
    with make_server(options.folder, options.host, options.port, settings) as server:
        host = f"[{options.host}]" if ":" in options.host else options.host
        scheme = "https" if settings.tls_cert else "http"
        address = f"{scheme}://{host}:{server.server_port}"
        print_message(f"serving {options.folder} at {address} (Ctrl-C stops)")
        # After Ctrl-C no grace period is needed.
        grace: dict[int, float] = {signal.SIGINT: 0.0, signal.SIGTERM: settings.grace}
        with on_signals(lambda number: server.stop(grace[number]), once=True):
            server.serve_forever()
    print_message("stopped")
    return 0


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings of a command line.

    Raises:
        ConfigError: an option is invalid.
    """
    from cvpipe.serving.policy import parse_policy
    from cvpipe.serving.settings import Settings, read_api_keys

    return Settings(
        policy=parse_policy(options.versions, options.label),
        poll_seconds=options.poll,
        max_body_bytes=options.max_body * MIB,
        max_pixels=options.max_pixels,
        max_instances=options.max_instances,
        max_connections=options.max_connections,
        max_queue=options.max_queue,
        max_batch=options.max_batch,
        wait_micros=options.wait_micros,
        buckets=_buckets(options.buckets),
        batch_threads=options.batch_threads,
        threads=options.threads,
        timeout=options.timeout,
        grace=options.grace,
        drain=options.drain,
        api_keys=read_api_keys(options.api_keys) if options.api_keys else frozenset(),
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        grpc_port=options.grpc_port,
        allow_reload=options.allow_reload,
        access_log=options.access_log,
        dedicated=True,
    )


def _buckets(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(",") if size)
    except ValueError:
        raise ConfigError(f"--buckets {text}: not sizes of batches; write them as 1,8,32") from None
