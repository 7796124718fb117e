"""Checkpoint files. They are written atomically and verified when they are read; a few earlier
checkpoints are kept.

last.npz            the newest checkpoint
earlier-STEP.npz    earlier checkpoints, with the numbers of their steps
damaged-N.npz       damaged checkpoints that were found when the run was resumed, unchanged

Every array has a CRC-32, which detects any flipped bit. The first array holds the number of arrays,
because a damaged zip directory may hide some of them.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cvpipe.atomic_write import atomic_write
from cvpipe.errors import DataError, UserError

# Errors raised for damaged files. MemoryError is raised for damaged shapes.
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)

COUNT = "arrays"
"""Name of the array that holds the number of the other arrays."""


def check_finite(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise a UserError that names `file` if a variable in `arrays` is not finite."""
    bad = [name for name, value in arrays.items() if "/" in name and not np.isfinite(value).all()]
    if bad:
        others = f" and {len(bad) - 1} others" if len(bad) > 1 else ""
        raise UserError(
            f"{file}: not saved, because {bad[0]}{others} are not finite; lower"
            " optimizer.learning_rate"
        )


def write_checkpoint(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a checkpoint to `file`, replacing it atomically.

    Raises:
        UserError: a value is not finite, or the file can't be written, for example because the disk
            is full. The old file is kept.
    """
    check_finite(file, arrays)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_write(file) as stream:
            np.savez(stream, **{COUNT: np.int64(len(arrays)), **arrays})  # type: ignore[arg-type]
    except OSError as error:
        kept = (
            "the previous checkpoint is untouched"
            if file.exists()
            else "there is no earlier checkpoint"
        )
        why = error.strerror or error
        raise UserError(
            f"{file}: the checkpoint can't be written ({why}); {kept}. Free disk space and run the"
            " same command"
        ) from error


def read_checkpoint(file: Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Read a checkpoint and verify the checksums of the arrays read.

    Args:
        names: names of the arrays to read; None for all.

    Raises:
        DataError: the checkpoint does not exist or is damaged.
    """
    try:
        with zipfile.ZipFile(file) as members:
            stored = [member.removesuffix(".npy") for member in members.namelist()]
            # Read whole members, because the checksum is compared at the end of a member. If the
            # shape is damaged, reading only the array could end before that.
            arrays = {
                name: np.lib.format.read_array(io.BytesIO(members.read(f"{name}.npy")))
                for name in names or stored
            }
        if (count := arrays.pop(COUNT, None)) is not None and count != len(arrays):
            raise ValueError(f"it has only {len(arrays)} of {count} arrays")
        return arrays
    except FileNotFoundError:
        raise DataError(f"{file}: there is no checkpoint; train the run first") from None
    except _DAMAGE as error:
        raise DataError(
            f"{file}: the checkpoint is damaged ({error}); restore it from a copy, resume the"
            " training, which continues from the previous checkpoint, or train again with --fresh"
        ) from None


def earlier_checkpoints(last: Path) -> list[Path]:
    """Return the kept checkpoints that are older than `last`, newest first."""
    files = last.parent.glob("earlier-*.npz")
    return sorted(files, key=_step_in_name, reverse=True)


def write_last(last: Path, arrays: Mapping[str, np.ndarray], kept: int) -> None:
    """Write the newest checkpoint, and keep `kept` earlier checkpoints. Raises the same errors as
    `write_checkpoint`.
    """
    if kept and last.exists():
        _keep(last)
    write_checkpoint(last, arrays)
    files = earlier_checkpoints(last)
    # If a recovery has returned to an earlier step, checkpoints of later steps are left over.
    useful = [file for file in files if _step_in_name(file) < int(arrays["step"])]
    for file in files:
        if file not in useful[:kept]:
            file.unlink(missing_ok=True)


def read_newest(
    last: Path, writes: bool, note: Callable[[str], None]
) -> tuple[Path, dict[str, np.ndarray]]:
    """Read the newest undamaged checkpoint.

    Args:
        last: the newest checkpoint.
        writes: True to rename damaged checkpoints to `damaged-N.npz`.
        note: called with a message for each damaged checkpoint.

    Raises:
        DataError: all checkpoints are missing or damaged.
    """
    first: DataError | None = None
    for file in (last, *earlier_checkpoints(last)):
        try:
            arrays = read_checkpoint(file)
        except DataError as error:
            first = first or error
            if writes and file.exists():
                aside = next(_free_names(file))
                file.rename(aside)
                note(f"{file.name} is damaged; it is kept as {aside.name}")
            continue
        if first:
            note(f"continuing from the previous checkpoint, {file.name}")
        return file, arrays
    assert first
    raise first


def _keep(last: Path) -> None:
    """Hard-link a checkpoint to a second name, under which it stays when it is overwritten."""
    try:
        step = int(read_checkpoint(last, ["step"])["step"])
    except DataError:
        return
    # On file systems without hard links, no earlier checkpoints are kept.
    with contextlib.suppress(OSError):
        os.link(last, last.with_name(f"earlier-{step}.npz"))


def _free_names(file: Path) -> Iterator[Path]:
    names = (file.with_name(f"damaged-{n}.npz") for n in range(1, 10**6))
    return (name for name in names if not name.exists())


def _step_in_name(file: Path) -> int:
    number = file.stem.removeprefix("earlier-")
    return int(number) if number.isdecimal() else -1
