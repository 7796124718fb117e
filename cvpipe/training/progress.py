"""Progress line of a training run."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

from cvpipe.console import print_message


class Progress:
    """A progress line. It is rewritten in place on terminals; otherwise a line is printed every ten
    seconds.
    """

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
        # A default argument would be the stderr at import, which may have been replaced since.
        self._stream = stream or sys.stderr
        # A dumb terminal can't clear a line.
        self._rewrites = self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._printed_at = time.monotonic()
        # The first call includes tracing, so its duration doesn't predict the remaining time.
        self._is_traced = False

    def update(
        self, step: int, loss: float, steps: int, seconds: float, waited: float
    ) -> dict[str, float]:
        """Update the line after `steps` steps that took `seconds`, of which `waited` were spent
        waiting for input.

        Returns:
            "images_per_second", and "input_wait", the share of the time spent waiting in 0…1.
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
            print_message(f"\r\x1b[K{line}", end="", stream=self._stream)
        elif time.monotonic() - self._printed_at >= 10:
            self._printed_at = time.monotonic()
            print_message(line, stream=self._stream)
        return rate

    def note(self, text: str) -> None:
        """Print a separate line."""
        print_message(f"\r\x1b[K{text}" if self._rewrites else text, stream=self._stream)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
