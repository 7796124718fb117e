"""KITTI's text files (Geiger et al. 2012): type, truncated, occluded, alpha, left, top, right,
bottom, and 3D values; pixels counted from 0.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import PurePosixPath

from cvpipe.config.box_sources import Kitti
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.folder import SPLITS, is_image
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.tool_boxes import Item, Labeled, number, split_by_folder, tool_source
from cvpipe.errors import DataError, counted
from cvpipe.text_files import decode_text

log = logging.getLogger(__name__)

UNKNOWN = "DontCare"
# Columns of a line, with and without a score.
COLUMNS = (15, 16)
_BOX = ("left", "top", "right", "bottom")


def kitti(config: Kitti) -> dict[str, Source]:
    """Return the images with a text file, by split folder, or as one split named "all".

    Raises:
        DataError: no image has a text file, a line is too short, or a number is invalid.
    """
    files = open_files(config.path, [*SPLITS, "training", config.images, config.labels])
    splits: dict[str, list[Labeled]] = {}
    without, unknown = list[str](), 0
    for image in files.names():
        if not is_image(image) or config.images not in image.split("/")[:-1]:
            continue
        text = text_file_of(files, image, config.images, config.labels)
        if text is None:
            without.append(image)
            continue
        items = list(_items(files, text))
        unknown += sum(item.label == UNKNOWN for item in items)
        known = [item for item in items if item.label != UNKNOWN]
        splits.setdefault(split_by_folder(image), []).append(Labeled(image, text, None, known))
    if not splits:
        raise DataError(
            f"{config.path}: no image in a folder named '{config.images}' has a text file in one"
            f" named '{config.labels}'; set data.source.images and data.source.labels"
        )
    if without:
        log.warning(
            "%s: left out %s without a text file, such as %s",
            config.path,
            counted(len(without), "image"),
            without[0],
        )
    if unknown:
        log.warning("%s: left out %s", config.path, counted(unknown, f"region of {UNKNOWN}"))
    # KITTI's testing folder has no labels, so only one split remains.
    if splits.keys() == {"train"}:
        splits = {"all": splits["train"]}
    return tool_source(files, config, splits)


def text_file_of(files: Files, image: str, images: str, labels: str) -> str | None:
    """Return the name of an image's text file; None if there is none."""
    parts = str(PurePosixPath(image).with_suffix(".txt")).split("/")
    parts[len(parts) - 1 - parts[::-1].index(images)] = labels
    return files.find("/".join(parts))


def _items(files: Files, name: str) -> Iterator[Item]:
    place = files.locate(name)
    for line, text in enumerate(decode_text(files.read(name), place).splitlines(), 1):
        cells = text.split()
        if not cells:
            continue
        where = f"{place}:{line}"
        if len(cells) not in COLUMNS:
            raise DataError(
                f"{where}: the line has {counted(len(cells), 'column')}, but KITTI's have 15, or 16"
                " with a score; correct or remove it"
            )
        values = dict(zip(_BOX, cells[4:8], strict=True))
        left, top, right, bottom = (number(values, key, where) for key in _BOX)
        yield Item(f"{where} ({cells[0]})", cells[0], (top, left, bottom, right))
