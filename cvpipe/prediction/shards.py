"""Writing of answers to a folder, file by file, so that a prediction can be resumed.

DIR/manifest.json        the artifact, its settings and the images
DIR/answers-00000.jsonl  the answers to the first SHARD images, one line each; and so on
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cvpipe.atomic_write import atomic_write
from cvpipe.errors import ConfigError, counted, refuse_file
from cvpipe.json_files import write_json
from cvpipe.prediction.images import ImageFile

SHARD = 1000
"""Number of images per file."""
Answer = Callable[[Sequence[range]], Iterator[Iterator[dict[str, Any]]]]
"""Takes ranges of positions in the list of images, and yields for each range an iterator over the
answers.
"""


def write_shards(
    answer: Answer,
    images: Sequence[ImageFile],
    folder: Path,
    about: Mapping[str, Any],
    note: Callable[[str], None],
) -> dict[str, int]:
    """Write the answers to all images. Existing files of the same prediction are kept.

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
        with file.open(encoding="utf-8") as lines:
            counts["errors"] += sum("error" in json.loads(line) for line in lines)
    return counts


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
    """Create the folder with a manifest, or check that its manifest is of the same prediction."""
    refuse_file(folder, "--to")
    manifest = folder / "manifest.json"
    if not manifest.exists():
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(
                f"{folder}: the folder is not empty and has no prediction; choose another with --to"
            )
        folder.mkdir(parents=True, exist_ok=True)
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
