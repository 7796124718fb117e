"""LabelMe's JSON files beside images, with a rectangle per object (github.com/wkentaro/labelme)."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable
from typing import Any

import numpy as np

from cvpipe.data.annotated import Annotated, Objects, to_pixels
from cvpipe.data.writers.target import SPLITS, Target

HOLDS = frozenset(("boxes",))
UPRIGHT = True
_VERSION = "5.4.1"


def write(target: Target, images: Iterable[Annotated]) -> None:
    """Write a data set, with as many decimals as coordinates need."""
    found = set[int]()
    for image in images:
        path = target.save_image(image, SPLITS[image.split])
        objects = image.annotations.objects
        if objects is None:
            continue
        height, width = image.size
        content: dict[str, Any] = {
            "version": _VERSION,
            "flags": {},
            "shapes": _shapes(target, objects, image.size),
            "imagePath": posixpath.basename(path),
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        file = posixpath.splitext(path)[0] + ".json"
        target.write(file, json.dumps(content, indent=1) + "\n")
        found.update(objects.labels[~objects.crowd].tolist())
    target.alphabetical(found, "the JSON files")


def _shapes(target: Target, objects: Objects, size: tuple[int, int]) -> list[dict[str, Any]]:
    pixels = to_pixels(objects.boxes, np.array([*size, *size])).tolist()
    target.lose(
        "objects that are crowds or difficult, left out: LabelMe's shapes can't mark them",
        int(objects.crowd.sum()),
    )
    return [
        {
            "label": target.facts.class_names[int(objects.labels[n])],
            "points": [[xmin, ymin], [xmax, ymax]],
            "group_id": None,
            "shape_type": "rectangle",
            "flags": {},
            **({} if objects.scores is None else {"score": round(float(objects.scores[n]), 6)}),
        }
        for n, (ymin, xmin, ymax, xmax) in enumerate(pixels)
        if not objects.crowd[n]
    ]
