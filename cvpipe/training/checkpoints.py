"""Checkpoint files of a run: written whole or not at all, several kept, checked when read.

last.npz            the newest
earlier-STEP.npz    those before it, one for each step
damaged-N.npz       one that couldn't be read when the run was resumed, as it was

An array is checked by its CRC-32, which notices every flipped bit; their number stands in the first
of them, since a damaged directory may hide some.
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

# Reading a damaged file ends in one of these; NumPy may also take a damaged shape at its word.
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
"""The array that tells how many others there are."""


def check_finite(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise UserError if a variable among `arrays`, to be saved as `file`, is not finite."""
    bad = [name for name, value in arrays.items() if "/" in name and not np.isfinite(value).all()]
    if bad:
        others = f" and {len(bad) - 1} others" if len(bad) > 1 else ""
        raise UserError(
            f"{file}: not saved, because {bad[0]}{others} are not finite; lower"
            " optimizer.learning_rate"
        )


def write_checkpoint(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a checkpoint in place of `file`, which keeps its old content whole until the new one is
    whole.

    Raises:
        UserError: a value is not finite, or it can't be written, such as to a full disk; the old
            file stays.
    """
    check_finite(file, arrays)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_write(file) as stream:
            np.savez(stream, **{COUNT: np.int64(len(arrays)), **arrays})  # type: ignore[arg-type]
    except OSError as error:
        kept = (
            "the checkpoint before it is untouched" if file.exists() else "there is no earlier one"
        )
        why = error.strerror or error
        raise UserError(
            f"{file}: the checkpoint can't be written ({why}); {kept}. Make room and run the same"
            " command"
        ) from error


def read_checkpoint(file: Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Read a checkpoint; the checksums of what is read are verified.

    Args:
        names: of the arrays to read; None for all.

    Raises:
        DataError: there is none, or it is damaged.
    """
    try:
        with zipfile.ZipFile(file) as members:
            stored = [member.removesuffix(".npy") for member in members.namelist()]
            # Whole, since a checksum is compared at the end of a member: a damaged shape could end
            # the reading before.
            arrays = {
                name: np.lib.format.read_array(io.BytesIO(members.read(f"{name}.npy")))
                for name in names or stored
            }
        if (count := arrays.pop(COUNT, None)) is not None and count != len(arrays):
            raise ValueError(f"{len(arrays)} of {count} arrays are left")
        return arrays
    except FileNotFoundError:
        raise DataError(f"{file}: no checkpoint there; train the run first") from None
    except _DAMAGE as error:
        raise DataError(
            f"{file}: the checkpoint is damaged ({error}); restore it from a copy, resume the"
            " training, which goes back to the checkpoint before it, or train again with --fresh"
        ) from None


def earlier_checkpoints(last: Path) -> list[Path]:
    """Return the checkpoints that were kept from before `last`, the newest first."""
    files = last.parent.glob("earlier-*.npz")
    return sorted(files, key=_step_in_name, reverse=True)


def write_last(last: Path, arrays: Mapping[str, np.ndarray], kept: int) -> None:
    """Write the newest checkpoint, and keep `kept` of those before it; raises as `write_checkpoint`
    does.
    """
    if kept and last.exists():
        _keep(last)
    write_checkpoint(last, arrays)
    files = earlier_checkpoints(last)
    # Those of this step or later are of what was trained before the run went back.
    useful = [file for file in files if _step_in_name(file) < int(arrays["step"])]
    for file in files:
        if file not in useful[:kept]:
            file.unlink(missing_ok=True)


def read_newest(
    last: Path, writes: bool, note: Callable[[str], None]
) -> tuple[Path, dict[str, np.ndarray]]:
    """Read the newest checkpoint that is whole.

    Args:
        last: the checkpoint to read if it is whole.
        writes: set one that is damaged aside, as `damaged-N.npz`.
        note: told of each that is damaged.

    Raises:
        DataError: none is whole.
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
            note(f"going on from {file.name}, the checkpoint before it")
        return file, arrays
    assert first
    raise first


def _keep(last: Path) -> None:
    """Give a checkpoint a second name, which stays when a new one takes its place."""
    try:
        step = int(read_checkpoint(last, ["step"])["step"])
    except DataError:
        return
    # File systems without links keep no earlier ones.
    with contextlib.suppress(OSError):
        os.link(last, last.with_name(f"earlier-{step}.npz"))


def _free_names(file: Path) -> Iterator[Path]:
    names = (file.with_name(f"damaged-{n}.npz") for n in range(1, 10**6))
    return (name for name in names if not name.exists())


def _step_in_name(file: Path) -> int:
    number = file.stem.removeprefix("earlier-")
    return int(number) if number.isdecimal() else -1
