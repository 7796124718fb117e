"""Detection of formats: from the files of a folder or zip archive to a `data.source`.

One module per kind of source, with the name of the kind. Its `find` yields a `Found` for each task
that the files can be used for. To add a format, add a module here and its name to `FORMATS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from cvpipe.data.formats.found import Found, Place
from cvpipe.errors import DataError, counted

__all__ = ["FORMATS", "Found", "find_formats"]

FORMATS = (
    "coco",
    "voc",
    "yolo",
    "labelme",
    "cvat",
    "label_studio",
    "via",
    "kitti",
    "box_csv",
    "one_hot_csv",
    "csv",
    "parquet",
    "tfrecord",
    "webdataset",
    "idx",
    "mvtec",
    "masks",
    "folder",
)

_SHOWN = 5


def find_formats(
    path: str, task: str | None = None, kind: str | None = None, key: str = ""
) -> list[Found]:
    """Return the formats found in a folder or zip archive, one per task, the best first.

    Args:
        path: the folder or the archive.
        task: the task to learn; None for the task that fits the annotations.
        kind: the format to choose if several fit; None for any.
        key: the key of the pipeline file that has the path, for errors; "" for a command's word.

    Raises:
        DataError: nothing fits, or two formats fit equally well; the message lists what was seen.
    """
    place = Place(path, key)
    every = list[Found]()
    for name in FORMATS:
        if kind in (None, name):
            try:
                every += importlib.import_module(f"cvpipe.data.formats.{name}").find(place)
            except DataError as error:
                # Another format may fit.
                place.near.append(str(error))
    fitting = [found for found in every if task in (None, found.task)]
    if not fitting:
        raise DataError(_nothing(place, every, task, kind))
    strongest = max(found.strength for found in fitting)
    best = [found for found in fitting if found.strength == strongest]
    kinds = list(dict.fromkeys(found.source["kind"] for found in best))
    if len(kinds) > 1:
        seen = "; ".join(
            f"{found.source['kind']}, because {found.why}"
            for found in {found.source["kind"]: found for found in best}.values()
        )
        raise DataError(
            f"{path}: {len(kinds)} formats fit equally well: {seen}. Choose one: --kind"
            f" {kinds[0]} of cvpipe init, or data.source.format: {kinds[0]} of kind: auto"
        )
    first = best[0]
    others = [found for found in every if found.task != first.task]
    return [first, *{found.task: found for found in reversed(others)}.values()]


def _nothing(place: Place, every: Iterable[Found], task: str | None, kind: str | None) -> str:
    """Return the error message for files that fit no format."""
    other = next(iter(every), None)
    if other:
        return (
            f"{place.path}: no labels for {task}; it is data for {other.task}, because {other.why}"
        )
    names = place.files.names()
    counts: dict[str, int] = {}
    for name in names:
        last = name.rpartition("/")[2]
        ending = f".{last.rpartition('.')[2].lower()}" if "." in last else "without extension"
        counts[ending] = counts.get(ending, 0) + 1
    common = sorted(counts, key=lambda ending: (-counts[ending], ending))[:_SHOWN]
    seen = ", ".join(f"{counts[ending]} {ending}" for ending in common) or "nothing"
    near = "".join(f". {sentence}" for sentence in dict.fromkeys(place.near[:_SHOWN]))
    wanted = f"the format {kind}" if kind else "a labeled data set"
    return (
        f"{place.path}: not {wanted} that cvpipe knows: {counted(len(place.images), 'image')} among"
        f" {counted(len(names), 'file')} ({seen}){near}. {place.advice}"
    )
