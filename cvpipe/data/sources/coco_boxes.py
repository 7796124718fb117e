"""Boxes and keypoints of COCO's objects."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

import numpy as np

from cvpipe.config.coco import Coco
from cvpipe.config.keypoint_sources import CocoKeypoints
from cvpipe.data.annotations.frame import make_frames
from cvpipe.data.facts import Facts
from cvpipe.data.sources.coco_entries import Id, is_number
from cvpipe.data.sources.coco_instances import Instances, extent_of
from cvpipe.data.sources.coco_keypoints import read_points
from cvpipe.data.sources.constructors import detection_source
from cvpipe.data.sources.files import Files
from cvpipe.data.sources.flags import flag_of_json
from cvpipe.data.sources.keypoints import OUTSIDE, flip_pairs, keypoint_source, points_inside
from cvpipe.data.sources.objects import WITHOUT_IMAGE, collect
from cvpipe.data.sources.source import Source
from cvpipe.errors import DataError


def boxed_source(
    files: Files,
    there: set[str],
    instances: Instances,
    names: list[str],
    categories: Mapping[Id, str],
    config: Coco,
) -> Source:
    """Return the source of a file's images with boxes; with keypoints if `config` is for keypoints.

    Args:
        there: names of all existing images.
        names: names of the file's images, in the file's order.
        categories: names of the classes by id, in the order of their labels.
    """
    name_of = {image["id"]: name for image, name in zip(instances.images, names, strict=True)}
    sizes = [
        extent_of(files, image, name, instances.place, config)
        for image, name in zip(instances.images, names, strict=True)
    ]
    # Missing images and images of unknown size get no record number, so their objects are left out.
    record_of = {
        image["id"]: record
        for record, image in enumerate(instances.images)
        if names[record] in there and sizes[record]
    }
    record = np.array(
        [record_of.get(row["image_id"], -1) for row in instances.annotations], np.int64
    )
    lost = Counter(
        row["image_id"]
        for row, found in zip(instances.annotations, record, strict=True)
        if found < 0
    )
    shown = np.flatnonzero(record >= 0)
    rows = [instances.annotations[position] for position in shown]
    extents = np.array([size or (1.0, 1.0) for size in sizes])
    label_of = {number: label for label, number in enumerate(categories)}
    faults: dict[str, dict[str, int]] = {
        name_of.get(number, f"image {number}"): {WITHOUT_IMAGE: count}
        for number, count in lost.items()
    }
    more: dict[str, np.ndarray] = {}
    if instances.points:
        places, visibility, beyond = points_inside(
            *read_points(
                rows,
                len(instances.points.names),
                extents[record[shown]],
                lambda row: instances.place_of(int(shown[row])),
            )
        )
        more = {"keypoints": places, "visibility": visibility}
        for file, count in Counter(names[image] for image in record[shown][beyond]).items():
            faults[file] = {**faults.get(file, {}), OUTSIDE: count}
    boxes = collect(
        names,
        record[shown],
        _corners(instances, shown) / np.tile(extents[record[shown]], 2),
        np.array([label_of[row["category_id"]] for row in rows], np.int32),
        np.array(
            [
                flag_of_json(row.get("iscrowd"), instances.place_of(int(position)), "iscrowd")
                for position, row in zip(shown, rows, strict=True)
            ],
            bool,
        ),
        np.array([row["area"] if is_number(row.get("area")) else -1.0 for row in rows], np.float32),
        lambda row: instances.place_of(int(shown[row])),
        faults,
        more,
        make_frames(extents, bool(config.upright)),
    )
    if isinstance(config, CocoKeypoints) and instances.points:
        known, skeleton = instances.points
        pairs = flip_pairs(config.flip_pairs, known)
        facts = Facts(tuple(categories.values()), known, pairs, skeleton)
        return keypoint_source(facts, boxes, files.reader(names), names.__getitem__, files.locate)
    return detection_source(
        tuple(categories.values()), boxes, files.reader(names), names.__getitem__, files.locate
    )


def _corners(instances: Instances, positions: np.ndarray) -> np.ndarray:
    """Return the boxes of annotations as ymin, xmin, ymax, xmax in pixels, float64 [n, 4]."""
    boxes = np.zeros([len(positions), 4])
    for number, position in enumerate(positions):
        box = instances.annotations[position]["bbox"]
        if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
            raise DataError(
                f"{instances.place_of(int(position))}: bbox is {json.dumps(box)}, not four numbers;"
                " correct it, or remove the annotation"
            )
        boxes[number] = box
    x, y, width, height = boxes.T
    return np.stack([y, x, y + height, x + width], 1)
