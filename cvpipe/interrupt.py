"""Handling of Ctrl-C and SIGTERM: a run stops at the next point where its state can be saved."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def on_signals(handle: Callable[[int], object], once: bool = False) -> Iterator[threading.Event]:
    """Set the yielded event and call `handle` on SIGINT and SIGTERM.

    If `once`, the previous handlers are restored after the first signal. Outside the main thread,
    where Python receives no signals, nothing is handled.
    """
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(number: int, _: object) -> None:
        received.set()
        if once:
            restore()
        handle(number)

    for number in SIGNALS:
        signal.signal(number, on_signal)
    try:
        yield received
    finally:
        restore()


def stop_on_signals() -> contextlib.AbstractContextManager[threading.Event]:
    """Set the yielded event on the first SIGINT or SIGTERM. The second has its usual effect."""

    def tell(_: int) -> None:
        # os.write, because the signal may interrupt a call of print, which is not reentrant.
        with contextlib.suppress(OSError):
            os.write(2, b"\nstopping soon and saving; press Ctrl-C again to stop now\n")

    return on_signals(tell, once=True)


@contextlib.contextmanager
def interrupt_on_sigterm() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, too, so that temporary files are removed as on Ctrl-C.
    Outside the main thread, where Python receives no signals, nothing is handled.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
