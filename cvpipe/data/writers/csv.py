"""Tables. For boxes, each split has a table beside its images with a row per object, as in
TensorFlow's tutorials and Roboflow. For labels, each split has a table with a path and a label in
each row.
"""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Iterable
from typing import Any

import numpy as np

from cvpipe.data.annotated import Annotated, Objects, to_pixels
from cvpipe.data.writers.target import SPLITS, Target

HOLDS = frozenset(("labels", "boxes"))
UPRIGHT = True
_HEADINGS = ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]


def write(target: Target, images: Iterable[Annotated]) -> None:
    """Write a data set, with as many decimals as coordinates need."""
    boxes: dict[str, list[list[Any]]] = {}
    labels: dict[str, list[list[Any]]] = {}
    found, scored = set[int](), False
    for image in images:
        annotations, split = image.annotations, SPLITS[image.split]
        path = target.save_image(image, split)
        if annotations.objects is not None:
            rows = _objects(target, posixpath.basename(path), annotations.objects, image.size)
            boxes.setdefault(split, []).extend(rows)
            if not rows:
                target.lose("images without objects, which have no row and are left out")
            found.update(annotations.objects.labels[~annotations.objects.crowd].tolist())
            scored |= annotations.objects.scores is not None
        elif annotations.label is not None:
            scored |= annotations.score is not None
            more = [] if annotations.score is None else [round(annotations.score, 6)]
            name = target.facts.class_names[annotations.label]
            labels.setdefault(split, []).append([path, name, *more])
            found.add(annotations.label)
    for split, rows in boxes.items():
        headings = [*_HEADINGS, *(["score"] if scored else [])]
        target.write(f"{split}/_annotations.csv", _table([headings, *rows]))
    for split, rows in labels.items():
        headings = ["path", "label", *(["score"] if scored else [])]
        target.write(f"{split}.csv", _table([headings, *rows]))
    target.alphabetical(found, "the tables", numbers=bool(labels))


def _objects(target: Target, file: str, objects: Objects, size: tuple[int, int]) -> list[list[Any]]:
    height, width = size
    pixels = to_pixels(objects.boxes, np.array([*size, *size]))
    target.lose(
        "objects that are crowds or difficult, left out: the table can't mark them",
        int(objects.crowd.sum()),
    )
    return [
        [
            file,
            width,
            height,
            target.facts.class_names[int(objects.labels[n])],
            *(f"{side:.8f}".rstrip("0").rstrip(".") for side in (xmin, ymin, xmax, ymax)),
            *([] if objects.scores is None else [round(float(objects.scores[n]), 6)]),
        ]
        for n, (ymin, xmin, ymax, xmax) in enumerate(pixels.tolist())
        if not objects.crowd[n]
    ]


def _table(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
