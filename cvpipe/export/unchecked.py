"""The temporary folder in which an artifact is written and checked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from cvpipe.atomic_write import temporary_path
from cvpipe.interrupt import interrupt_on_sigterm


@contextlib.contextmanager
def unchecked_folder(model: Path) -> Iterator[Path]:
    """Create a model's folder, and yield the path of a temporary folder in it. The temporary folder
    is removed at the end, also after Ctrl-C and SIGTERM, unless it has been renamed; so is a new
    model's folder in which nothing was written. Folders that killed exports of this machine have
    left are removed, too.
    """
    is_new = not model.exists()
    model.mkdir(parents=True, exist_ok=True)
    # Servers load folders whose names are numbers, so they ignore this one until it is renamed.
    with interrupt_on_sigterm():
        try:
            with temporary_path(model, "unchecked-") as folder:
                yield folder
        finally:
            if is_new:
                with contextlib.suppress(OSError):  # not empty
                    model.rmdir()
