"""Folders named after classes, with or without folders of splits around them."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator
from typing import Any

from cvpipe.data.formats.found import CLASSIFICATION, NAMED, Found, Place, common_folder
from cvpipe.data.sources.folder import split_of
from cvpipe.errors import counted

# Names of folders that usually aren't names of classes.
_NO_CLASSES = {"images", "image", "imgs", "masks", "mask", "labels", "annotations", "jpegimages"}


def find(place: Place) -> Iterator[Found]:
    """Yield folders of classes."""
    root = common_folder(place.images)
    below = [name[len(root) + 1 if root else 0 :].split("/") for name in place.images]
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
    if len(counts) < 2 or loose > sum(counts.values()) or parents & _NO_CLASSES:
        return
    source: dict[str, Any] = {"kind": "folder", "path": place.path}
    if root:
        source["root"] = place.key(root)
    example = posixpath.join(root, *sorted(splits)[:1])
    beside = " in each split" if splits else ""
    why = (
        f"{place.key(example)} has {counted(len(counts), 'folder')} with images{beside}, such as"
        f" {sorted(counts)[0]}, which are taken for classes"
    )
    yield Found(CLASSIFICATION, source, why, NAMED)
