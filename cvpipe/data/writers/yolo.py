"""YOLO in Ultralytics' layout (docs.ultralytics.com/datasets): data.yaml, images/ and labels/ for
boxes and keypoints; class folders for labels.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import yaml

from cvpipe.data.annotated import Annotated, Objects
from cvpipe.data.facts import Facts
from cvpipe.data.writers.class_folders import remark_on_folders, save_in_class_folder
from cvpipe.data.writers.target import SPLITS, Target

HOLDS = frozenset(("labels", "boxes", "keypoints"))
UPRIGHT = True


def write(target: Target, images: Iterable[Annotated]) -> None:
    """Write a data set. Coordinates are fractions with ten decimals, so boxes are exact to 1e-8 of
    the image's side.
    """
    splits = dict[str, str]()
    labels = set[int]()
    for image in images:
        objects = image.annotations.objects
        if objects is None:
            labels.add(save_in_class_folder(target, image))
            continue
        split = SPLITS[image.split]
        path = target.save_image(image, f"images/{split}")
        text = PurePosixPath(posixpath.join("labels", split, posixpath.basename(path)))
        target.write(str(text.with_suffix(".txt")), _lines(target, objects))
        splits[split] = f"images/{split}"
    if splits:
        target.write("data.yaml", _data_yaml(target.facts, splits))
    if labels:
        remark_on_folders(target, labels)
    if "val" not in splits and "val" not in {SPLITS[split] for split in target.images}:
        target.remarks.append(
            "Ultralytics needs a split named val, and there is none; cvpipe data convert --hold-out"
            " makes one"
        )


def _data_yaml(facts: Facts, splits: dict[str, str]) -> str:
    values: dict[str, Any] = {split: splits[split] for split in SPLITS.values() if split in splits}
    # Ultralytics requires train and val, so they come first.
    values = {"train": values.pop("train", ""), "val": values.pop("val", ""), **values}
    values = {key: value for key, value in values.items() if value}
    if facts.keypoint_names:
        order = list(range(len(facts.keypoint_names)))
        for first, second in facts.flip_pairs:
            order[first], order[second] = second, first
        values |= {"kpt_shape": [len(order), 3], "flip_idx": order}
    values["names"] = dict(enumerate(facts.class_names))
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return text


def _lines(target: Target, objects: Objects) -> str:
    boxes = objects.boxes.astype(np.float64)
    centers, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    columns = [centers[:, 1], centers[:, 0], sides[:, 1], sides[:, 0]]
    if objects.keypoints is not None and objects.visibility is not None:
        for point in range(objects.visibility.shape[1]):
            seen = objects.visibility[:, point]
            places = np.where(seen[:, np.newaxis] > 0, objects.keypoints[:, point], 0)
            columns += [places[:, 1], places[:, 0], seen]
    target.lose(
        "objects that are crowds or difficult, left out: YOLO's lines can't mark them",
        int(objects.crowd.sum()),
    )
    if objects.scores is not None:
        target.lose("objects whose scores are left out", len(objects.scores))
    return "".join(
        " ".join([str(int(label)), *map(_decimal, row)]) + "\n"
        for label, row, crowd in zip(
            objects.labels, np.stack(columns, 1).tolist(), objects.crowd, strict=True
        )
        if not crowd
    )


def _decimal(value: float) -> str:
    return f"{value:.10f}".rstrip("0").rstrip(".")
