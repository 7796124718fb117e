"""MVTec AD's and VisA's layout: a folder train with only the folder good, beside test."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

from cvpipe.data.formats.found import ANNOTATED, ANOMALY, Found, Place
from cvpipe.data.sources.defects import GOOD
from cvpipe.data.sources.mvtec import TEST, TRAIN
from cvpipe.errors import counted


def find(place: Place) -> Iterator[Found]:
    """Yield folders of normal images and of defects."""
    folders = {posixpath.dirname(name) for name in place.images}
    roots = sorted(
        folder[: -len(f"{TRAIN}/{GOOD}")].rstrip("/")
        for folder in folders
        if f"/{folder}".endswith(f"/{TRAIN}/{GOOD}")
    )
    for root in roots:
        tested = {
            posixpath.basename(folder)
            for folder in folders
            if posixpath.dirname(folder) == posixpath.join(root, TEST)
        }
        learned = {
            folder for folder in folders if posixpath.dirname(folder) == posixpath.join(root, TRAIN)
        }
        # With folders of other classes in train, the data is for classification.
        if not tested or len(learned) > 1:
            continue
        source: dict[str, Any] = {"kind": "mvtec", "path": place.path}
        if root:
            source["root"] = place.key(root)
        defects = sorted(tested - {GOOD})
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
