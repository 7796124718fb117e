"""Messages on stderr. They are lost, without an error, when nobody can read them any more."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TextIO


def print_message(text: str, end: str = "\n", stream: TextIO | None = None) -> None:
    """Print to a stream, by default stderr, and flush it.

    If the stream can't be written, because the program that reads it or the terminal has ended,
    this message and later ones are discarded, so that a long computation goes on.
    """
    stream = stream or sys.stderr
    try:
        print(text, end=end, file=stream, flush=True)
    except OSError:
        discard(stream)


def discard(stream: TextIO) -> None:
    """Discard what is still to be written to a stream, and all later output to it."""
    # The descriptor is replaced, because Python flushes what is left in the buffer when it exits,
    # and libraries and other processes write to the descriptor.
    with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), stream.fileno())
