"""Maintenance events and preemptions of machines on Google Cloud.

A TPU VM is told of both only by its metadata server, which is asked every few seconds.
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
"""The environment variable that names another metadata server, as Google's libraries read it."""
ASK_EVERY = 5.0
"""Seconds between two questions."""
# What each is while nothing happens.
CALM = {"maintenance-event": "NONE", "preempted": "FALSE"}


@contextlib.contextmanager
def stop_for_maintenance(strategy: tf.distribute.Strategy, stop: threading.Event) -> Iterator[None]:
    """Within it `stop` is set once this machine is to be maintained or preempted.

    Only TPUs are watched, and machines for which the variable `GCE_METADATA_HOST` is set.
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
        for question, calm in CALM.items():
            answer = _ask(question)
            if answer not in (None, calm):
                os.write(2, f"\n{question}: {answer}; stopping soon and saving\n".encode())
                stop.set()
                return
        over.wait(ASK_EVERY)


def _ask(question: str) -> str | None:
    """Return what the metadata server answers about this instance; None if it doesn't."""
    host = os.environ.get(HOST, "metadata.google.internal")
    request = urllib.request.Request(
        f"http://{host}/computeMetadata/v1/instance/{question}",
        headers={"Metadata-Flavor": "Google"},
    )
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return str(answer.read().decode("utf-8").strip())
    except (OSError, UnicodeDecodeError):
        return None
