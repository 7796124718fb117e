"""Guards the line that shows a training's progress."""

from __future__ import annotations

import io

from cvpipe.training.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_time_of_tracing_is_no_part_of_the_time_left() -> None:
    terminal = Terminal()
    progress = Progress(101, 32, 10.0, terminal)
    progress.update(1, 2.0, steps=1, seconds=60.0, waited=0.0)
    assert "step 1/101" in terminal.getvalue() and "ETA –" in terminal.getvalue()
    progress.update(11, 2.0, steps=10, seconds=5.0, waited=0.0)
    assert "ETA 0:45" in terminal.getvalue().rpartition("\r")[2]
