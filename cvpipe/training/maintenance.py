"""Stopping before maintenance events and preemptions on Google Cloud.

The machine's metadata server announces these events and is polled every few seconds.
https://cloud.google.com/compute/docs/metadata/getting-live-migration-notice
"""

from __future__ import annotations

import contextlib
import os
import threading
import urllib.request
from collections.abc import Iterator

import tensorflow as tf

HOST = "GCE_METADATA_HOST"
"""Environment variable that names another metadata server, as in Google's libraries."""
ASK_EVERY = 5.0
"""Seconds between two polls."""
# Values while nothing is announced.
IDLE = {"maintenance-event": "NONE", "preempted": "FALSE"}


@contextlib.contextmanager
def stop_for_maintenance(strategy: tf.distribute.Strategy, stop: threading.Event) -> Iterator[None]:
    """Context in which `stop` is set when maintenance or preemption of this machine is announced.

    The metadata server is polled only for TPUs, or if the variable `GCE_METADATA_HOST` is set.
    """
    if HOST not in os.environ and not isinstance(strategy, tf.distribute.TPUStrategy):
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(stop, over), name="maintenance", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def _watch(stop: threading.Event, over: threading.Event) -> None:
    while not over.is_set():
        for key, idle in IDLE.items():
            answer = _ask(key)
            if answer not in (None, idle):
                os.write(2, f"\n{key}: {answer}; stopping soon and saving\n".encode())
                stop.set()
                return
        over.wait(ASK_EVERY)


def _ask(key: str) -> str | None:
    """Return a metadata value of this instance; None if the server doesn't answer."""
    host = os.environ.get(HOST, "metadata.google.internal")
    request = urllib.request.Request(
        f"http://{host}/computeMetadata/v1/instance/{key}", headers={"Metadata-Flavor": "Google"}
    )
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return str(answer.read().decode("utf-8").strip())
    except (OSError, UnicodeDecodeError):
        return None
