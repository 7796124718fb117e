"""Damages files by flipping a single bit."""

from __future__ import annotations

from pathlib import Path


def flip_bit(file: Path, bit: int) -> None:
    """Flip one bit of a file; a second call restores the file.

    The byte is written in place: file systems write a file to the disk at once if it is truncated
    and rewritten, and thousands of such writes take a minute.
    """
    with file.open("r+b", buffering=0) as opened:
        opened.seek(bit // 8)
        [byte] = opened.read(1)
        opened.seek(bit // 8)
        opened.write(bytes([byte ^ 1 << bit % 8]))
