"""A small model with the signatures and files of an artifact, and a server and client for it."""

from __future__ import annotations

import asyncio
import base64
import http.client
import inspect
import json
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from cvpipe.export.manifest import write_manifest
from cvpipe.serving.server import Server, make_server
from cvpipe.serving.settings import Settings

ABOUT = {
    "config": {"task": "classification"},
    "trained_on": {"images": 1, "facts": {}},
    "signatures": {
        "serving_default": {
            "inputs": {"threshold": {"meaning": "", "default": 0.0, "least": 0, "most": 1}}
        }
    },
}
BAD, POISON = b"bad", b"poison"
"""An image that can't be read, and an image because of which its whole batch fails."""


class Toy(tf.Module):
    """Answers with the version and, for each image, a number that depends on its bytes alone."""

    def __init__(self, version: int, slow: int = 0) -> None:
        super().__init__()
        self.version = tf.Variable(version)

        def serve(image_bytes: tf.Tensor, threshold: tf.Tensor) -> dict[str, tf.Tensor]:
            no_poison = tf.debugging.Assert(
                tf.reduce_all(image_bytes != POISON), ["there is poison in it"]
            )
            with tf.control_dependencies([no_poison]):
                ids = tf.strings.to_hash_bucket_fast(image_bytes, 10**6)
            # Grappler removes work whose result is known or doesn't depend on the input.
            size = tf.cast(tf.size(image_bytes), tf.float32)
            work = tf.fill([300, 300], size)
            for _ in range(slow):
                work = tf.linalg.matmul(work, work) / (300 * size)
            share = tf.cast(ids, tf.float32) / 1e6 + tf.minimum(work[0, 0], 0.0)
            valid = (image_bytes != b"") & (image_bytes != BAD)
            return {
                "top_class_ids": ids[:, tf.newaxis],
                "top_class_names": tf.strings.as_string(ids)[:, tf.newaxis],
                "top_probabilities": tf.where(share > threshold, share, 0.0)[:, tf.newaxis],
                "version": tf.fill(tf.shape(ids), self.version),
                "valid": valid,
            }

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        serve.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter("image_bytes", kind),
                inspect.Parameter("threshold", kind, default=tf.constant(0.0)),
            ]
        )
        self.serve = tf.function(
            serve,
            input_signature=[
                tf.TensorSpec([None], tf.string, "image_bytes"),
                tf.TensorSpec([], tf.float32, "threshold"),
            ],
            autograph=False,
        )

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "image")])
    def tensor(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"sum": tf.reduce_sum(image, axis=1), "twice": 2 * image}


def save_toy(folder: Path, version: int, slow: int = 0) -> Path:
    """Write a version to folder/VERSION, atomically as export does."""
    toy, aside = Toy(version, slow), folder / f"{version}.partial"
    tf.saved_model.save(
        toy,
        str(aside),
        signatures={"serving_default": toy.serve, "explain": toy.serve, "tensor": toy.tensor},
    )
    (aside / "assets.extra").mkdir(exist_ok=True)
    (aside / "assets.extra" / "cvpipe.json").write_text(json.dumps(ABOUT))
    write_manifest(aside)
    return aside.rename(folder / str(version))


def save_toys(folder: Path) -> Path:
    """Write versions 1 and 2 of a model "toy"; return its folder."""
    for version in (1, 2):
        save_toy(folder / "toy", version)
    return folder / "toy"


@contextmanager
def served(
    folder: Path, settings: Settings | None = None, host: str = "127.0.0.1"
) -> Iterator[Server]:
    """Run a server in a thread, on a free port."""
    server = make_server(folder, host, 0, settings)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.wait_until_started()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(
    port: int,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
    connection: http.client.HTTPConnection | None = None,
) -> tuple[int, Any, http.client.HTTPMessage]:
    """Send a request; return the answer's status, content (parsed if it is JSON) and headers."""
    own = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    text = body if body is None or isinstance(body, str | bytes) else json.dumps(body)
    own.request(method, path, text, headers or {})
    response = own.getresponse()
    content = response.read()
    if connection is None:
        own.close()
    if content and response.headers["Content-Type"] == "application/json":
        return response.status, json.loads(content), response.headers
    return response.status, content, response.headers


def in_event_loop() -> bool:
    """Return True if the calling thread runs an event loop, which must not be blocked."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def b64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def png(width: int, height: int) -> bytes:
    """Return a PNG of one color and any size, in few bytes."""
    row = b"\0" + b"\0" * ((width + 7) // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\1\0\0\0\0"

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            len(content).to_bytes(4, "big")
            + kind
            + content
            + zlib.crc32(kind + content).to_bytes(4, "big")
        )

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
