"""Ctrl-C and SIGTERM as a wish to stop, which the loop grants at the next safe place."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Within it the first SIGINT or SIGTERM sets the event; the second has its usual effect, at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()
        for number in signals:
            signal.signal(number, before[number])
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nstopping soon and saving; again to stop at once\n")

    for number in signals:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number in signals:
            signal.signal(number, before[number])
