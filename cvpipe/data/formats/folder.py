"""Folders named after classes, with or without folders of splits around them."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator
from typing import Any

from cvpipe.data.formats.found import CLASSIFICATION, NAMED, Found, Place, common_folder
from cvpipe.data.sources.folder import split_of
from cvpipe.errors import counted

NO_CLASSES = {"images", "image", "imgs", "masks", "mask", "labels", "annotations", "jpegimages"}
"""Names of folders, in lowercase, that usually aren't names of classes."""


def find(place: Place) -> Iterator[Found]:
    """Yield folders of classes."""
    root = common_folder(place.images)
    below = [name[len(root) + 1 if root else 0 :].split("/") for name in place.images]
    is_train = split_of(posixpath.basename(root)) == "train"
    of_splits = [split_of(parts[0]) is not None for parts in below if len(parts) == 2]
    if is_train and len(of_splits) == len(below) and any(of_splits) and not all(of_splits):
        # The folders in the only split are classes, although some have names of splits.
        root, top = posixpath.split(root)
        below = [[top, *parts] for parts in below]
    tops = {parts[0] for parts in below if len(parts) > 1}
    splits = {top for top in tops if split_of(top)}
    if any(split_of(top) == "train" for top in splits):
        below = [parts[1:] for parts in below if split_of(parts[0]) == "train"]
    elif splits:
        place.near.append(
            f"the folders {' and '.join(sorted(splits))} look like splits, but none is named train"
        )
        return
    counts = Counter(parts[0] for parts in below if len(parts) > 1)
    loose = sum(len(parts) == 1 for parts in below)
    parents = {part.lower() for parts in below for part in parts[:-1]}
    if len(counts) < 2 or loose > sum(counts.values()) or parents & NO_CLASSES:
        only = _only_class(root, counts, loose)
        if only and only.lower() not in NO_CLASSES:
            place.near.append(
                f"All images are in the folder {only}, but a classifier needs two classes or more"
            )
            place.advice = (
                "Add a folder of images of each other class beside it, or provide annotations in"
                " one of the formats of docs/data.md"
            )
        return
    source: dict[str, Any] = {"kind": "folder", "path": place.path}
    if root:
        source["root"] = place.key(root)
    example = posixpath.join(root, *sorted(splits)[:1])
    beside = " in each split" if splits else ""
    why = (
        f"{place.key_or_nothing(example) or place.name} has {counted(len(counts), 'folder')} with"
        f" images{beside}, such as {sorted(counts)[0]}, which are taken for classes"
    )
    yield Found(CLASSIFICATION, source, why, NAMED)


def _only_class(root: str, counts: Counter[str], loose: int) -> str:
    """Return the only folder with images, which may be the common folder `root` of all images; ""
    if there is none or there are several.
    """
    if counts:
        return next(iter(counts)) if len(counts) == 1 and not loose else ""
    last = posixpath.basename(root)
    return "" if split_of(last) else last
