"""Ctrl-C and SIGTERM as a wish to stop, which is granted at the next safe place."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def on_signals(handle: Callable[[int], object], once: bool = False) -> Iterator[threading.Event]:
    """Within it SIGINT and SIGTERM set the event and are handled by `handle`; if `once`, those
    after the first as before.

    Python knows signals in its main thread alone; in others nothing is handled.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(number: int, _: object) -> None:
        came.set()
        if once:
            restore()
        handle(number)

    for number in SIGNALS:
        signal.signal(number, on_signal)
    try:
        yield came
    finally:
        restore()


def stop_on_signals() -> contextlib.AbstractContextManager[threading.Event]:
    """Within it the first SIGINT or SIGTERM sets the event; the second has its usual effect, at
    once.
    """
    # Not print: the signal may have come in the middle of one.
    return on_signals(
        lambda number: os.write(2, b"\nstopping soon and saving; again to stop at once\n"),
        once=True,
    )
