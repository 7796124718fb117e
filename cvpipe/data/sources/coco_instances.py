"""Reading and checking of COCO's JSON files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from cvpipe.config.coco import Coco, CocoMasks
from cvpipe.config.keypoint_sources import CocoKeypoints
from cvpipe.data.sources.coco_entries import Id, as_id, as_number, by_id, read_json, zeros_matter
from cvpipe.data.sources.coco_keypoints import PointNames, point_names
from cvpipe.data.sources.files import Files
from cvpipe.data.sources.image_size import image_size
from cvpipe.errors import DataError, suggest

# Required keys of the entries in each list.
ENTRIES = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}
WITH_MASKS = {"annotations": ("image_id", "category_id", "segmentation")}
# Lists that the keys of annotations refer to.
REFERENCES = {"image_id": "images", "category_id": "categories"}


class Instances(NamedTuple):
    """The entries of a file, with normalized ids."""

    place: str
    """The file, for messages."""
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: dict[Id, str]
    """Names by id, in the order of the ids."""
    category_rows: list[dict[str, Any]]
    """Categories as in the file."""
    points: PointNames | None = None
    """Keypoints of every category, if the section has keypoints."""

    def place_of(self, position: int) -> str:
        """Return the place of an annotation, for messages."""
        row = self.annotations[position]
        return (
            f"{self.place}: annotation {row.get('id', f'at position {position}')} of image"
            f" {row['image_id']}"
        )


def read_instances(files: Files, name: str, config: Coco) -> Instances:
    """Read a file and check its entries. Images are sorted by id; `categories` is empty.

    Raises:
        DataError: the file is missing, isn't COCO's JSON, lacks keys, or repeats an id.
    """
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
    with_zeros = {kind for kind in REFERENCES.values() if zeros_matter(lists[kind] or [])}
    for kind, keys in wanted.items():
        _check_entries(place, kind, lists[kind] or [], keys, with_zeros)
    points = None
    if isinstance(config, CocoKeypoints):
        points = point_names(place, lists["categories"] or [])
        lists = _with_keypoints(lists)
        _check_entries(place, "annotations", lists["annotations"] or [], ("keypoints",))
    # Sorted by id, as in COCO's evaluation; the order matters for equal scores.
    images = sorted(lists["images"] or [], key=by_id)
    return Instances(
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
    place: str,
    kind: str,
    rows: Sequence[dict[str, Any]],
    keys: Sequence[str],
    with_zeros: Collection[str] = (),
) -> None:
    """Check that entries have the required keys, and that ids of images and categories are unique;
    normalize ids. In the lists `with_zeros`, leading zeros distinguish ids.
    """
    for number, row in enumerate(rows):
        for key in keys:
            if key not in row:
                raise DataError(f"{place}: {kind}[{number}] has no '{key}'; correct or remove it")
            if key.endswith("id"):
                known = as_id(row[key], REFERENCES.get(key, kind) in with_zeros)
                if known is None:
                    raise DataError(
                        f"{place}: {key} of {kind}[{number}] is {json.dumps(row[key])}, but must be"
                        " a whole number or text; correct or remove it"
                    )
                row[key] = known
    number, times = (
        Counter(row["id"] for row in rows).most_common(1)[0] if rows and "id" in keys else (0, 0)
    )
    if times > 1:
        raise DataError(f"{place}: {times} of the {kind} have the id {number}; make the ids unique")


def check_categories(instances: Instances, trained: Instances) -> None:
    """Check that every annotation's category is in the training split, with the same name and
    keypoints.

    Raises:
        DataError: a category is unknown or differs.
    """
    for number, category in instances.categories.items():
        if trained.categories.get(number) != category:
            raise DataError(
                f"{instances.place}: the category {number}, '{category}', is not in"
                f" {trained.place}; {suggest(category, trained.categories.values())}"
            )
    if instances.points != trained.points:
        raise DataError(
            f"{instances.place}: keypoints or skeleton differ from those of"
            f" {trained.place}; give all splits the same keypoints and skeleton"
        )
    known = instances.categories
    for position, row in enumerate(instances.annotations):
        if row["category_id"] not in known:
            ids = ", ".join(f"{number} {name}" for number, name in list(known.items())[:20])
            raise DataError(
                f"{instances.place_of(position)}: no category has the id {row['category_id']};"
                f" known: {ids}"
            )


def extent_of(
    files: Files, image: Mapping[str, Any], name: str, place: str, config: Coco
) -> tuple[float, float] | None:
    """Return the height and width of an image as the JSON file states them. Without them, measure
    the image, upright if the section is `upright`; None if it can't be read.
    """
    if image.get("height") is None and image.get("width") is None:
        return image_size(files, name, upright=bool(config.upright))
    return _side(image, "height", place), _side(image, "width", place)


def _side(image: Mapping[str, Any], key: str, place: str) -> float:
    given = as_number(image.get(key))
    if given is None or not given > 0:
        shown = json.dumps(image[key]) if key in image else "missing"
        raise DataError(
            f"{place}: {key} of image {image['id']} is {shown}, but must be a number above 0;"
            " correct it, or leave out both height and width"
        )
    return given
