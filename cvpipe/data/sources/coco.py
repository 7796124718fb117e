"""COCO's instances in JSON (cocodataset.org/#format-data), in a folder or a zip archive together
with the images.

Boxes are [x, y, width, height] in pixels; the edges of the image are at 0 and its size. Classes are
in the order of their ids.
"""

from __future__ import annotations

import dataclasses
import json
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.config.data import Coco, CocoMasks, CocoSplit
from cvpipe.config.keypoint_sources import CocoKeypoints
from cvpipe.data.annotations.faults import Faults
from cvpipe.data.annotations.frame import make_frames
from cvpipe.data.annotations.mask import BACKGROUND_NAME, Mask, mask_in_python
from cvpipe.data.example import Example
from cvpipe.data.facts import Facts
from cvpipe.data.header import MAX_PIXELS
from cvpipe.data.sources.coco_entries import (
    Id,
    as_id,
    as_number,
    by_id,
    grouping_categories,
    named_categories,
    read_json,
)
from cvpipe.data.sources.coco_keypoints import PointNames, point_names, read_points
from cvpipe.data.sources.coco_masks import outline_fault, paint
from cvpipe.data.sources.constructors import detection_source, segmentation_source
from cvpipe.data.sources.files import Files, open_files, plain_path
from cvpipe.data.sources.flags import flag_of_json
from cvpipe.data.sources.image_size import image_size
from cvpipe.data.sources.keypoints import OUTSIDE, flip_pairs, keypoint_source, points_inside
from cvpipe.data.sources.objects import WITHOUT_IMAGE, collect
from cvpipe.data.sources.source import ReadColumn, Source, as_text
from cvpipe.data.sources.splits import warn_of_leaks
from cvpipe.errors import DataError, suggest
from cvpipe.geometry.masks import IGNORED

# Required keys of the entries in each list.
ENTRIES = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}
WITH_MASKS = {"annotations": ("image_id", "category_id", "segmentation")}


class _Instances(NamedTuple):
    place: str
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: dict[Id, str]
    """Names by id, in the order of the ids."""
    category_rows: list[dict[str, Any]]
    """Categories as in the file."""
    points: PointNames | None = None
    """Keypoints of every category, if the section has keypoints."""


def coco(config: Coco) -> dict[str, Source]:
    """Return the split of each JSON file, including images without objects. Files are read on
    demand, and masks are painted on demand.

    A missing image is a bad record. Its objects, and those of images that the JSON file doesn't
    list, are left out and counted. For keypoints, objects of categories without keypoints are left
    out.

    Raises:
        DataError: a file is missing, isn't COCO's JSON or lacks keys, no image exists, a number is
            invalid, or a category is unknown.
    """
    sections = {"train": config.train, "validation": config.validation, "test": config.test}
    given = {split: section for split, section in sections.items() if section}
    files = open_files(
        config.path, [path for own in given.values() for path in (own.annotations, own.images)]
    )
    read = {split: _read(files, section.annotations, config) for split, section in given.items()}
    grouping = grouping_categories(
        (found.category_rows, found.annotations) for found in read.values()
    )
    instances = {
        split: found._replace(
            categories=named_categories(found.place, found.category_rows, grouping)
        )
        for split, found in read.items()
    }
    trained = instances["train"]
    for other in instances.values():
        _check_categories(other, trained)
    names, there = dict[str, list[str]](), set[str]()
    for split, found in instances.items():
        paths = _paths(found, given[split])
        located = [files.find(path) for path in paths]
        names[split] = [name or plain_path(path) for name, path in zip(located, paths, strict=True)]
        if not any(located):
            raise DataError(
                f"{files.locate(given[split].images)}: none of the images that {found.place} names"
                f" is there; set data.source.{split}.images to the folder that file names are"
                f" relative to. The first image: {files.no_such_file(paths[0])}"
            )
        there.update(filter(None, located))
    warn_of_leaks(config.path, names)
    if isinstance(config, CocoMasks):
        sources = {
            split: _masked_source(files, found, names[split], trained.categories, config)
            for split, found in instances.items()
        }
    else:
        sources = {
            split: _source(files, there, found, names[split], trained.categories, config)
            for split, found in instances.items()
        }
    return {
        split: dataclasses.replace(
            source, read_column=_column_reader(files, given[split].annotations, config)
        )
        for split, source in sources.items()
    }


def _column_reader(files: Files, name: str, config: Coco) -> ReadColumn:
    """Return a reader of the keys of a file's images. It reads the file again, so that keys which
    nobody asks for take no memory.
    """

    def read(column: str, key: str) -> list[str]:
        images = _read(files, name, config).images
        known = sorted({key for image in images for key in image})
        if column not in known:
            raise DataError(
                f"{files.locate(name)}: images have no key '{column}' ({key});"
                f" {suggest(column, known)}"
            )
        return [as_text(image.get(column)) for image in images]

    return read


def _read(files: Files, name: str, config: Coco) -> _Instances:
    place = files.locate(name)
    content = read_json(files, name)
    lists = {key: content.get(key) if isinstance(content, dict) else None for key in ENTRIES}
    if not all(
        isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
        for rows in lists.values()
    ):
        raise DataError(
            f"{place}: not COCO's JSON, which has lists named images, annotations and categories;"
            " name another file"
        )
    if not lists["images"]:
        raise DataError(f"{place}: lists no image; name another file")
    wanted = ENTRIES | WITH_MASKS if isinstance(config, CocoMasks) else ENTRIES
    for kind, keys in wanted.items():
        _check_entries(place, kind, lists[kind] or [], keys)
    points = None
    if isinstance(config, CocoKeypoints):
        points = point_names(place, lists["categories"] or [])
        lists = _with_keypoints(lists)
        _check_entries(place, "annotations", lists["annotations"] or [], ("keypoints",))
    # Sorted by id, as in COCO's evaluation; the order matters for equal scores.
    images = sorted(lists["images"] or [], key=by_id)
    return _Instances(
        place, images, lists["annotations"] or [], {}, lists["categories"] or [], points
    )


def _with_keypoints(lists: Mapping[str, Any]) -> dict[str, Any]:
    """Drop categories without keypoints, and their annotations."""
    left_out = {row["id"] for row in lists["categories"] if not row.get("keypoints")}
    return {
        **lists,
        "categories": [row for row in lists["categories"] if row["id"] not in left_out],
        "annotations": [row for row in lists["annotations"] if row["category_id"] not in left_out],
    }


def _check_entries(
    place: str, kind: str, rows: Sequence[dict[str, Any]], keys: Sequence[str]
) -> None:
    """Check that entries have the required keys, and that ids of images and categories are unique;
    normalize ids.
    """
    for number, row in enumerate(rows):
        for key in keys:
            if key not in row:
                raise DataError(f"{place}: {kind}[{number}] has no '{key}'; mend or remove it")
            if key.endswith("id"):
                known = as_id(row[key])
                if known is None:
                    raise DataError(
                        f"{place}: {key} of {kind}[{number}] is {json.dumps(row[key])}, but must be"
                        " a whole number or text; mend or remove the entry"
                    )
                row[key] = known
    number, times = (
        Counter(row["id"] for row in rows).most_common(1)[0] if rows and "id" in keys else (0, 0)
    )
    if times > 1:
        raise DataError(f"{place}: {times} of the {kind} have the id {number}; give each its own")


def _check_categories(instances: _Instances, trained: _Instances) -> None:
    """Check that every annotation's category is in the training split."""
    for number, category in instances.categories.items():
        if trained.categories.get(number) != category:
            raise DataError(
                f"{instances.place}: the category {number}, '{category}', is not in"
                f" {trained.place}; {suggest(category, trained.categories.values())}"
            )
    if instances.points != trained.points:
        raise DataError(
            f"{instances.place}: keypoints or skeleton aren't those of {trained.place}; give all"
            " splits the same"
        )
    known = instances.categories
    for position, row in enumerate(instances.annotations):
        if row["category_id"] not in known:
            ids = ", ".join(f"{number} {name}" for number, name in list(known.items())[:20])
            raise DataError(
                f"{_place(instances, position)}: no category has the id {row['category_id']};"
                f" known: {ids}"
            )


def _paths(instances: _Instances, section: CocoSplit) -> list[str]:
    return [posixpath.join(section.images, str(image["file_name"])) for image in instances.images]


def _place(instances: _Instances, position: int) -> str:
    row = instances.annotations[position]
    return (
        f"{instances.place}: annotation {row.get('id', f'at position {position}')} of image"
        f" {row['image_id']}"
    )


def _masked_source(
    files: Files,
    instances: _Instances,
    names: list[str],
    categories: Mapping[Id, str],
    config: CocoMasks,
) -> Source:
    if BACKGROUND_NAME in categories.values():
        raise DataError(
            f"{instances.place}: a category is called '{BACKGROUND_NAME}', as is the first class of"
            " masks; rename it"
        )
    if len(categories) >= IGNORED:
        raise DataError(
            f"{instances.place}: {len(categories)} categories; masks allow {IGNORED - 1}."
            " Leave some out"
        )
    extents = [
        [int(side) for side in _extent(files, image, name, instances.place, config) or (1, 1)]
        for image, name in zip(instances.images, names, strict=True)
    ]
    for image, (height, width) in zip(instances.images, extents, strict=True):
        if height * width > MAX_PIXELS:
            raise DataError(
                f"{instances.place}: image {image['id']} has {width} x {height} pixels, and at most"
                f" {MAX_PIXELS:,} are allowed; mend its width and height"
            )
    objects, faults = _outlines(instances, names, extents, categories)
    # Stored as text, because lists of Python numbers would take ten times the memory.
    painted = [json.dumps(rows).encode() for rows in objects]
    read_image = files.reader(names)

    def read_record(record: tf.Tensor) -> Example:
        mask = mask_in_python(lambda number: paint(painted[number], *extents[number]), record)
        return {**read_image(record), "mask": mask}

    counts = np.array([sum(not row["iscrowd"] for row in rows) for rows in objects])
    mask = Mask(make_frames(np.array(extents), bool(config.upright)), faults, counts)
    return segmentation_source(
        (BACKGROUND_NAME, *categories.values()),
        len(names),
        read_record,
        names.__getitem__,
        files.locate,
        mask,
    )


def _outlines(
    instances: _Instances,
    names: Sequence[str],
    extents: Sequence[Sequence[int]],
    categories: Mapping[Id, str],
) -> tuple[list[list[dict[str, Any]]], Faults]:
    """Return the valid objects of each image for `paint`, and the faults of all others."""
    record_of = {image["id"]: record for record, image in enumerate(instances.images)}
    label_of = {number: label for label, number in enumerate(categories, 1)}
    objects: list[list[dict[str, Any]]] = [[] for _ in names]
    faults: dict[str, Counter[str]] = {}
    for position, row in enumerate(instances.annotations):
        record = record_of.get(row["image_id"])
        if record is None:
            faults.setdefault(f"image {row['image_id']}", Counter())[WITHOUT_IMAGE] += 1
            continue
        if fault := outline_fault(row["segmentation"], *extents[record]):
            faults.setdefault(names[record], Counter())[fault] += 1
            continue
        objects[record].append(
            {
                "label": label_of[row["category_id"]],
                "iscrowd": flag_of_json(row.get("iscrowd"), _place(instances, position), "iscrowd"),
                "segmentation": row["segmentation"],
            }
        )
    return objects, {file: dict(counts) for file, counts in faults.items()}


def _source(
    files: Files,
    there: set[str],
    instances: _Instances,
    names: list[str],
    categories: Mapping[Id, str],
    config: Coco,
) -> Source:
    name_of = {image["id"]: name for image, name in zip(instances.images, names, strict=True)}
    sizes = [
        _extent(files, image, name, instances.place, config)
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
                lambda row: _place(instances, int(shown[row])),
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
                flag_of_json(row.get("iscrowd"), _place(instances, int(position)), "iscrowd")
                for position, row in zip(shown, rows, strict=True)
            ],
            bool,
        ),
        np.array(
            [row["area"] if _is_number(row.get("area")) else -1.0 for row in rows], np.float32
        ),
        lambda row: _place(instances, int(shown[row])),
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


def _corners(instances: _Instances, positions: np.ndarray) -> np.ndarray:
    """Return the boxes of annotations as ymin, xmin, ymax, xmax in pixels, float64 [n, 4]."""
    boxes = np.zeros([len(positions), 4])
    for number, position in enumerate(positions):
        box = instances.annotations[position]["bbox"]
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            raise DataError(
                f"{_place(instances, int(position))}: bbox is {json.dumps(box)}, not four numbers;"
                " mend or remove it"
            )
        boxes[number] = box
    x, y, width, height = boxes.T
    return np.stack([y, x, y + height, x + width], 1)


def _extent(
    files: Files, image: Mapping[str, Any], name: str, place: str, config: Coco
) -> tuple[float, float] | None:
    """Return the height and width in the file; if it has none, those of the stored or (`upright`)
    upright image. None if the image can't be read.
    """
    if image.get("height") is None and image.get("width") is None:
        return image_size(files, name, upright=bool(config.upright))
    return _side(image, "height", place), _side(image, "width", place)


def _side(image: Mapping[str, Any], key: str, place: str) -> float:
    given = as_number(image.get(key))
    if given is None or not given > 0:
        said = json.dumps(image[key]) if key in image else "missing"
        raise DataError(
            f"{place}: {key} of image {image['id']} is {said}, but must be a number above 0; mend"
            " it, or leave out both height and width"
        )
    return given


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)
