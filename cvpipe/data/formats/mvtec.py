"""MVTec AD's and VisA's layout: a folder train with only the folder good, beside test."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator
from typing import Any

from cvpipe.data.formats.found import ANNOTATED, ANOMALY, Found, Place
from cvpipe.data.sources.defects import GOOD
from cvpipe.data.sources.mvtec import MASKS, TEST, TRAIN
from cvpipe.errors import counted


def find(place: Place) -> Iterator[Found]:
    """Yield folders of normal images and of defects.

    The layout is also found without normal images to train on, so that opening it names the empty
    folder.
    """
    folders = {posixpath.dirname(name) for name in place.images}
    roots = _roots(folders, place.files.listing.folders)
    # Empty folders come last.
    for root in sorted(roots, key=lambda root: posixpath.join(root, TRAIN, GOOD) not in folders):
        source: dict[str, Any] = {"kind": "mvtec", "path": place.path}
        if root:
            source["root"] = place.key(root)
        defects = sorted(_below(folders, posixpath.join(root, TEST)) - {GOOD})
        why = (
            f"{place.key(posixpath.join(root, TRAIN))} has only the folder {GOOD}, and {TEST}"
            f" beside it has {counted(len(defects), 'kind')} of defects"
        )
        others = [f"{place.key_or_nothing(other)}" for other in roots if other != root]
        remarks = (
            (f"There are more folders of this layout: {', '.join(others[:5])}",) if others else ()
        )
        yield Found(ANOMALY, source, why, ANNOTATED, remarks)
        return


def _roots(folders: Collection[str], every: Collection[str]) -> list[str]:
    """Return the folders with this layout, in order.

    Args:
        folders: folders with images.
        every: all folders, empty ones too.
    """
    ends = f"{TRAIN}/{GOOD}", MASKS
    candidates = {
        folder[: -len(end)].rstrip("/")
        for folder in every
        for end in ends
        if f"/{folder}".endswith(f"/{end}")
    }
    found = []
    for root in sorted(candidates):
        train, tested = posixpath.join(root, TRAIN), _below(folders, posixpath.join(root, TEST))
        normal = posixpath.join(train, GOOD)
        # With folders of other classes in train, the data is for classification.
        others = _below(folders, train) - {GOOD}
        if normal not in folders:
            is_sure = normal in every or GOOD in tested
            is_used = any(f"{folder}/".startswith(f"{train}/") for folder in folders)
            if is_used or not is_sure:
                continue
        if tested and not others:
            found.append(root)
    return found


def _below(folders: Collection[str], parent: str) -> set[str]:
    """Return the last parts of the folders in a folder."""
    return {posixpath.basename(name) for name in folders if posixpath.dirname(name) == parent}
