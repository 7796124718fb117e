"""Masks as Roboflow exports them: 1.jpg and 1_mask.png in a folder of each split, with
_classes.csv, which names the values.
"""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Iterable

from PIL import Image

from cvpipe.data.annotated import Annotated
from cvpipe.data.writers.target import SPLITS, Target
from cvpipe.geometry.masks import IGNORED

HOLDS = frozenset(("masks",))
UPRIGHT = True
_SUFFIX = "_mask"


def write(target: Target, images: Iterable[Annotated]) -> None:
    """Write a data set. The value of a pixel is the position of its class, or 255 if it is
    ignored.
    """
    target.suffix = _SUFFIX
    for image in images:
        split, mask = SPLITS[image.split], image.annotations.mask
        path = target.save_image(image, split)
        if mask is None:
            continue
        file = io.BytesIO()
        Image.fromarray(mask).save(file, "PNG")
        target.write(f"{posixpath.splitext(path)[0]}{_SUFFIX}.png", file.getvalue())
        target.lose(
            f"masks with pixels to ignore, which have the value {IGNORED}",
            int((mask == IGNORED).any()),
        )
    for split in target.images:
        target.write(f"{SPLITS[split]}/_classes.csv", _classes(target.facts.class_names))


def _classes(names: tuple[str, ...]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["Pixel Value", " Class"])
    rows.writerows([number, f" {name}"] for number, name in enumerate(names))
    return text.getvalue()
