"""The line that says how a training is going."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO


class Progress:
    """One line, rewritten in place on a terminal that can, else printed every ten seconds."""

    def __init__(
        self,
        total_steps: int,
        batch_size: int,
        steps_per_epoch: float,
        stream: TextIO | None = None,
    ):
        self._total, self._batch_size, self._steps_per_epoch = (
            total_steps,
            batch_size,
            steps_per_epoch,
        )
        # Looked up here: a default would be whatever stderr was when this file was imported.
        self._stream = stream or sys.stderr
        # A dumb terminal can't clear a line.
        self._rewrites = self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._printed_at = time.monotonic()
        # The first steps take the time of tracing the graph, too, and foretell nothing.
        self._is_traced = False

    def update(
        self, step: int, loss: float, steps: int, seconds: float, waited: float
    ) -> dict[str, float]:
        """Takes in `steps` steps that took `seconds`, `waited` of them for input, and shows where
        the training stands.

        Returns:
            images_per_second and input_wait (share of the time, 0…1).
        """
        rate = {
            "images_per_second": steps * self._batch_size / seconds,
            "input_wait": min(waited / seconds, 1.0),
        }
        left = _clock((self._total - step) * seconds / steps) if self._is_traced else "–"
        self._is_traced = True
        line = (
            f"step {step}/{self._total}  epoch {step / self._steps_per_epoch:.1f} "
            f" {rate['images_per_second']:.0f} images/s  ETA {left}  loss {loss:.4f}  input"
            f" wait {rate['input_wait']:.0%}"
        )
        if self._rewrites:
            self._stream.write(f"\r\x1b[K{line}")
            self._stream.flush()
        elif time.monotonic() - self._printed_at >= 10:
            self._printed_at = time.monotonic()
            print(line, file=self._stream, flush=True)
        return rate

    def note(self, text: str) -> None:
        """Prints a line of its own."""
        print(f"\r\x1b[K{text}" if self._rewrites else text, file=self._stream, flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
