"""Writing of answers to a folder, file by file, so that a prediction can be resumed.

DIR/manifest.json        the artifact, its settings and the images
DIR/answers-00000.jsonl  the answers to the first SHARD images, one line each; and so on
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cvpipe.atomic_write import atomic_write
from cvpipe.errors import ConfigError, DataError, UserError, counted, refuse_file
from cvpipe.json_files import write_json
from cvpipe.prediction.images import ImageFile

SHARD = 1000
"""Number of images per file."""
Answer = Callable[[Sequence[range]], Iterator[Iterator[dict[str, Any]]]]
"""Takes ranges of positions in the list of images, and yields for each range an iterator over the
answers.
"""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create the output folder, and hold a lock, so that no other process writes answers to it.

    Raises:
        ConfigError: the folder is a file.
        UserError: another process holds the lock.
    """
    refuse_file(folder, "--to")
    folder.mkdir(parents=True, exist_ok=True)
    # A lock of the folder itself needs no lock file. The system releases it when the process ends.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder}: another process writes answers to this folder; wait until it ends, or"
                " choose another folder with --to"
            ) from None
        except OSError:
            # Some network file systems can't lock folders. Files are still written whole there.
            pass
        yield
    finally:
        os.close(descriptor)


def write_shards(
    answer: Answer,
    images: Sequence[ImageFile],
    folder: Path,
    about: Mapping[str, Any],
    note: Callable[[str], None],
) -> dict[str, int]:
    """Write the answers to all images. Existing files of the same prediction are kept. The caller
    holds the lock of `locked`.

    Args:
        answer: called once, with the positions of the images whose answers are missing.
        images: all images.
        folder: output folder.
        about: everything apart from the images that determines the answers, as JSON values.
        note: called with a line about the progress after each file.

    Returns:
        The numbers of "images", of "errors", and of newly "answered" images.

    Raises:
        ConfigError: the folder has other files, or another prediction: answers of another artifact,
            or to other images.
    """
    _claim(folder, {**about, **_describe(images)})
    counts, began = {"images": len(images), "errors": 0, "answered": 0}, time.monotonic()
    parts = {
        folder / f"answers-{number:05d}.jsonl": range(begin, min(begin + SHARD, len(images)))
        for number, begin in enumerate(range(0, len(images), SHARD))
    }
    missing = {file: part for file, part in parts.items() if not file.exists()}
    answers = answer(list(missing.values()))
    for file, part in parts.items():
        if file in missing:
            with atomic_write(file) as stream:
                for each in next(answers):
                    stream.write(json.dumps(each).encode() + b"\n")
            counts["answered"] += len(part)
            rate = counts["answered"] / max(time.monotonic() - began, 1e-9)
            left = len(images) - part.stop
            note(
                f"{part.stop:,} of {counted(len(images), 'image')}, {rate:.0f} images/s,"
                f" {left / rate:.0f} s left"
            )
        counts["errors"] += _count_errors(file, len(part))
    return counts


def _count_errors(file: Path, images: int) -> int:
    """Return the number of errors among the answers to `images` images in a file."""
    errors = found = 0
    try:
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                errors += "error" in json.loads(line)
                found += 1
    except (ValueError, TypeError):
        found = -1
    if found != images:
        raise DataError(
            f"{file}: damaged; remove this file and run the same command again, which answers its"
            " images again"
        )
    return errors


def _describe(images: Sequence[ImageFile]) -> dict[str, Any]:
    names, files = hashlib.sha256(), hashlib.sha256()
    for image in images:
        names.update(image.name.encode("utf-8", "surrogateescape") + b"\0")
        files.update(_stamp(image.file).encode())
    return {
        "images": len(images),
        "names": names.hexdigest(),
        "files": files.hexdigest(),
        "shard": SHARD,
    }


def _stamp(file: Path) -> str:
    """Return size and time of change of a file, by which changed images are noticed."""
    try:
        stat = file.stat()
    except OSError:
        return "-"
    return f"{stat.st_size} {stat.st_mtime_ns}\0"


def _claim(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Write the manifest, or check that the folder's manifest is of the same prediction."""
    manifest = folder / "manifest.json"
    if not manifest.exists():
        if any(folder.iterdir()):
            raise ConfigError(
                f"{folder}: the folder is not empty and has no prediction; choose another with --to"
            )
        write_json(manifest, dict(wanted))
        return
    try:
        known = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    changed = [name for name, value in wanted.items() if known.get(name) != value]
    if changed:
        raise ConfigError(
            f"{folder}: has another prediction ({', '.join(changed)} differ); choose another"
            " folder with --to"
        )
