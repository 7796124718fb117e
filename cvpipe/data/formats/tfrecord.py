"""TFRecord files of tf.train.Example, from TensorFlow Datasets, Model Garden, and the Object
Detection API.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cvpipe.data.formats.found import (
    ANNOTATED,
    CLASSIFICATION,
    DETECTION,
    SEGMENTATION,
    Found,
    Place,
    some,
)
from cvpipe.data.formats.mask_numbers import mask_numbers, numbered_classes
from cvpipe.data.sources.label_map import read_label_map
from cvpipe.data.sources.record_files import open_shard, splits_by_words
from cvpipe.data.sources.tf_examples import Examples, Features, begins_as_tfrecord, is_tfrecord
from cvpipe.data.sources.tfrecord_objects import SIDES
from cvpipe.errors import DataError, counted

_IMAGES = ("image/encoded", "image", "image_raw", "image_bytes", "image/image_data")
_LABELS = ("image/class/label", "label", "class", "image/label", "fine_label", "coarse_label")
_BOXES = {"image/object/bbox": "image/object/class/label", "objects/bbox": "objects/label"}
_MASKS = ("image/segmentation/class/encoded", "segmentation_mask", "segmentation/mask", "mask")
# Files that map numbers to names, in the order in which they are tried.
_NAMES = ("label.txt", "labels.txt", "label_map.txt", "labelmap.txt", "classes.txt", "names.txt")


class _Seen(NamedTuple):
    """Some examples of the training split."""

    name: str
    """File of the examples."""
    examples: list[Features]
    features: set[str]

    def values(self, name: str) -> list[Any]:
        """Return the values of a feature in all examples."""
        return [value for features in self.examples for value in features.values(name)]


def find(place: Place) -> Iterator[Found]:
    """Yield TFRecord files with images and objects, masks or labels."""
    names = [name for name in place.files.names() if is_tfrecord(name)]
    if not names:
        return
    splits = splits_by_words(place.path, names, "TFRecord file")
    seen = _look(place, splits.get("train", names))
    if seen is None:
        return
    image = next((name for name in _IMAGES if name in seen.features), None)
    if image is None:
        known = ", ".join(sorted(seen.features)) or "nothing"
        place.near.append(f"{names[0]} has no feature with images; its features are {known}")
        return
    source: dict[str, Any] = {"kind": "tfrecord", "path": place.path}
    if image != "image/encoded":
        source["image"] = image
    why = f"{counted(len(names), 'TFRecord file')} {'has' if len(names) == 1 else 'have'} examples"
    why += f" with '{image}'"
    for box, label in _BOXES.items():
        if {box, f"{box}/{SIDES[0]}"} & seen.features:
            keys = {} if box == "image/object/bbox" else {"label": label, "box": box}
            names_of, remarks = _names(place, seen, label, "first_label")
            text = f"{why} and boxes in '{box}'"
            yield Found(DETECTION, {**source, **keys, **names_of}, text, ANNOTATED, remarks)
            break
    mask = next((name for name in _MASKS if name in seen.features), None)
    if mask:
        keys = {} if mask == _MASKS[0] else {"mask": mask}
        classes, remarks = _mask_classes(place, seen, mask)
        text = f"{why} and masks in '{mask}'"
        yield Found(SEGMENTATION, {**source, **keys, **classes}, text, ANNOTATED, remarks)
    label = next((name for name in _LABELS if name in seen.features), "")
    if label:
        keys = {} if label == "image/class/label" else {"label": label}
        names_of, remarks = _names(place, seen, label, "first_label")
        text = f"{why} and '{label}', a class"
        yield Found(CLASSIFICATION, {**source, **keys, **names_of}, text, ANNOTATED, remarks)


def _look(place: Place, names: Sequence[str]) -> _Seen | None:
    """Return some examples of the first file that begins like a TFRecord; None if no file does."""
    for name in names:
        shard = open_shard(place.files, name)
        if not begins_as_tfrecord(shard):
            continue
        examples = Examples([shard])
        found = []
        for record in some(range(len(examples))):
            try:
                found.append(Features(examples.read(record)))
            except DataError as error:
                place.near.append(f"{name}: {error}")
        return _Seen(name, found, {feature for features in found for feature in features.names()})
    place.near.append(f"{names[0]} is named like a TFRecord file and isn't one, or is empty")
    return None


def _names(
    place: Place, seen: _Seen, feature: str, first_key: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the keys for a label map beside the files, and remarks."""
    values = seen.values(feature)
    numbers = {int(value) for value in values if not isinstance(value, bytes)} - {-1}
    text = posixpath.join(posixpath.dirname(feature), "text")
    texts = seen.values(text) if "/" in feature else []
    for name in _label_maps(place, feature):
        for first in (0, 1):
            try:
                known = read_label_map(place.files, name, first)
            except DataError as error:
                place.near.append(str(error))
                break
            named = {
                label.decode("utf-8", "replace") for label in texts if isinstance(label, bytes)
            }
            if numbers <= known.names.keys() and (numbers or named <= known.numbers.keys()):
                begins = {first_key: 1} if first and not name.endswith(".pbtxt") else {}
                remark = f"{place.key(name)} names the classes"
                remark += "; its first line is the class 1" if begins else ""
                return {"names": place.key(name), **begins}, (remark,)
    if numbers and not texts:
        return {}, ("No file names the classes; give data.source.classes or names",)
    return {}, ()


def _label_maps(place: Place, feature: str) -> list[str]:
    """Return files that may name the classes, the likeliest first."""
    names = place.files.names()
    labels_file = f"{feature.replace('/', '-')}.labels.txt"
    last = [posixpath.basename(name).lower() for name in names]
    maps = [name for name in names if name.endswith(".pbtxt")]
    for wanted in (labels_file, *_NAMES):
        maps += [name for name, other in zip(names, last, strict=True) if other == wanted]
    return maps


def _mask_classes(place: Place, seen: _Seen, mask: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the keys that name the classes of masks, and remarks.

    Raises:
        DataError: masks are damaged or have colors.
    """
    where = place.files.locate(seen.name)
    try:
        values = mask_numbers(seen.values(mask))
    except DataError as error:
        raise DataError(f"{where}: masks in '{mask}': {error}; write them again") from None
    if values is None:
        raise DataError(
            f"{where}: the masks in '{mask}' have colors; write them as images whose values are the"
            " numbers of the classes"
        )
    for name in _label_maps(place, mask):
        known = read_label_map(place.files, name, 0)
        if set(values) <= known.names.keys():
            return {"names": place.key(name)}, (f"{place.key(name)} names the classes",)
    return numbered_classes(values)
