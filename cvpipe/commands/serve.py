"""`cvpipe serve`."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path
from typing import Any

from cvpipe.commands.command import add_command
from cvpipe.interrupt import on_signals


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(
        commands,
        "serve",
        serve,
        "answer TensorFlow Serving's REST requests on this machine",
        as_json=False,
    )
    parser.add_argument(
        "folder",
        metavar="DIR",
        type=Path,
        help="a folder of models, or one model, such as saved_models",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="IPv4 or IPv6 address to listen on (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8501,
        help="port to listen on, 0 for any free one (default: %(default)s)",
    )
    parser.epilog = (
        "Answers hold the artefact's output tensors: a box is [ymin, xmin, ymax, xmax] in pixels of"
        ' the original image. In row form ("instances"), an image that can\'t be decoded is'
        ' answered by an "error".'
    )


def serve(options: argparse.Namespace) -> int:
    """Serves until Ctrl-C or SIGTERM; what was asked before that is answered."""
    from cvpipe.runtime import quiet_tensorflow

    quiet_tensorflow()
    from cvpipe.serving.server import make_server

    with make_server(options.folder, options.host, options.port) as server:
        host = f"[{options.host}]" if ":" in options.host else options.host
        address = f"http://{host}:{server.server_port}"
        print(f"serving {options.folder} at {address} (Ctrl-C stops)", file=sys.stderr, flush=True)
        # In a thread of its own: the handler interrupts the very loop that shutting down waits for.
        with on_signals(lambda number: threading.Thread(target=server.shutdown).start(), once=True):
            server.serve_forever()
    print("stopped", file=sys.stderr)
    return 0
