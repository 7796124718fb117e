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
import errno
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

# Errors raised for damaged files, and for files that can't be read at the moment.
_UNREADABLE = (
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
        UserError: the checkpoint can't be read at the moment, and may be undamaged.
    """
    try:
        with zipfile.ZipFile(file) as members:
            _check_sizes(members, file.stat().st_size)
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
    except _UNREADABLE as error:
        if why := _passing(error):
            raise UserError(
                f"{file}: the checkpoint can't be read ({why}), but may be undamaged; check the"
                " disk and the free memory, and run the same command again"
            ) from error
        raise DataError(
            f"{file}: the checkpoint is damaged ({error}); restore it from a copy, resume the"
            " training, which continues from the previous checkpoint, or train again with --fresh"
        ) from None


def damaged_checkpoints(last: Path) -> list[Path]:
    """Return the damaged checkpoints that `read_newest` has renamed."""
    return sorted(last.parent.glob("damaged-*.npz"))


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
        UserError: a checkpoint can't be read at the moment. It isn't renamed.
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
    except UserError:
        return
    # On file systems without hard links, no earlier checkpoints are kept.
    with contextlib.suppress(OSError):
        os.link(last, last.with_name(f"earlier-{step}.npz"))


def _check_sizes(members: zipfile.ZipFile, size: int) -> None:
    """Raise ValueError if an array is longer than the file. Memory would be allocated for it."""
    for member in members.infolist():
        if member.compress_size > size:
            raise ValueError(f"{member.filename} is cut off")


def _passing(error: Exception) -> str | None:
    """Return the reason if disk or memory caused `error`; None if the file is damaged."""
    # zipfile replaces errors of the disk by BadZipFile.
    causes = (error, error.__context__) if isinstance(error, zipfile.BadZipFile) else (error,)
    for cause in causes:
        if isinstance(cause, MemoryError):
            return "out of memory"
        # EINVAL is raised for damaged offsets.
        if isinstance(cause, OSError) and cause.errno not in (None, errno.EINVAL):
            return cause.strerror or str(cause)
    return None


def _free_names(file: Path) -> Iterator[Path]:
    names = (file.with_name(f"damaged-{n}.npz") for n in range(1, 10**6))
    return (name for name in names if not name.exists())


def _step_in_name(file: Path) -> int:
    number = file.stem.removeprefix("earlier-")
    return int(number) if number.isdecimal() else -1
