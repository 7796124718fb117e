"""Classes and objects in rows of structures, such as those of Parquet files and JSON.

Dimensions: R rows of a split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cvpipe.config.record_files import WebDataset, WebDatasetBoxes
from cvpipe.config.tables import Parquet, ParquetBoxes
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.annotations.frame import make_frames
from cvpipe.data.sources.flags import flag_of_json
from cvpipe.data.sources.objects import WITHOUT_IMAGE, collect
from cvpipe.errors import DataError, suggest

Rows = Parquet | WebDataset
RowBoxes = ParquetBoxes | WebDatasetBoxes
_CROWD = ("iscrowd", "is_crowd", "crowd")


class Item(NamedTuple):
    """An object of a row."""

    row: int
    place: str
    """Name of the object in errors."""
    label: Any
    box: list[float]
    crowd: bool
    area: float


def find_classes(
    config: Rows, known: Sequence[str], found: Sequence[Any]
) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Return the class names, and the position in them of each number or name.

    Args:
        config: the section of the source.
        known: class names in the order of their numbers; empty if they aren't known.
        found: the numbers and names that occur.

    Raises:
        DataError: a value is neither a number nor a name.
    """
    odd = next((value for value in found if not isinstance(value, int | str)), None)
    if odd is not None:
        raise DataError(
            f"{config.path}: '{odd}' in '{config.label}' is neither a number nor a name of a class;"
            " set data.source.label to another field"
        )
    if known:
        by_name = {name: number for number, name in enumerate(known)}
        return tuple(known), {**by_name, **dict(enumerate(range(len(known))))}
    values = sorted(set(found), key=lambda value: (isinstance(value, str), value))
    return tuple(map(str, values)), {value: number for number, value in enumerate(values)}


def unknown_class(place: str, value: Any, classes: Sequence[str]) -> DataError:
    """Return the error for a class that isn't known."""
    return DataError(f"{place}: no class is called '{value}'; {suggest(str(value), classes)}")


def read_items(values: Sequence[Any], names: Sequence[str], config: RowBoxes) -> list[Item]:
    """Return all objects of a split.

    Args:
        values: [R], the objects of each row: a list of structures, a structure of lists, or None.
        names: [R], for messages.
        config: names and meaning of the fields.

    Raises:
        DataError: a row has another structure, a field is missing, or a box isn't four numbers.
    """
    items = []
    for row, value in enumerate(values):
        for number, each in enumerate(_objects_of(value, names[row], config)):
            place = f"{config.path}: {names[row]} object {number}"
            for key in (config.label, config.box):
                if key not in each:
                    raise DataError(f"{place}: has no '{key}'; {suggest(key, each)}")
            if each[config.label] in (None, ""):
                raise DataError(f"{place}: '{config.label}' is empty; correct or remove the object")
            box, area = each[config.box], each.get("area")
            if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
                raise DataError(
                    f"{place}: '{config.box}' is {box}, not four numbers; correct or remove"
                    " the object"
                )
            crowd = any(flag_of_json(each.get(key), place, key) for key in _CROWD)
            stated = float(area) if isinstance(area, int | float) else -1.0
            items.append(Item(row, place, each[config.label], box, crowd, stated))
    return items


def _objects_of(value: Any, name: str, config: RowBoxes) -> list[Mapping[str, Any]]:
    """Return the objects of a row, from a list of structures or a structure of lists."""
    if value is None:
        return []
    if isinstance(value, dict):
        # Other lists needn't be about objects.
        used = {config.label, config.box}
        used = {*used, *_CROWD, "area"} if used <= value.keys() else {*value}
        lists = {
            key: values for key, values in value.items() if isinstance(values, list) and key in used
        }
        if len({len(values) for values in lists.values()}) > 1:
            raise DataError(
                f"{config.path}: {name}: the lists of '{config.objects}' differ in length; correct"
                " or remove the row"
            )
        rows = zip(*lists.values(), strict=True)
        return [dict(zip(lists, row, strict=True)) for row in rows]
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        return value
    raise DataError(
        f"{config.path}: {name}: '{config.objects}' is neither a list of objects nor a structure of"
        " lists; set data.source.objects to another field"
    )


def collect_items(
    items: Sequence[Item],
    names: Sequence[str],
    size_of: Callable[[int], tuple[int, int] | None],
    position: Mapping[Any, int],
    classes: Sequence[str],
    config: RowBoxes,
) -> Boxes:
    """Return the objects of a split by class.

    Args:
        items: from `read_items`.
        names: [R], for messages.
        size_of: maps a row to height and width of its image; None if it can't be read. Objects of
            such images are left out and counted.
        position, classes: from `find_classes`.
        config: names and meaning of the fields.

    Raises:
        DataError: a class is unknown.
    """
    odd = next((item for item in items if item.label not in position), None)
    if odd:
        raise unknown_class(odd.place, odd.label, classes)
    wanted = {item.row for item in items}
    sizes = {row: size_of(row) for row in sorted(wanted)}
    lost = Counter(names[item.row] for item in items if not sizes[item.row])
    kept = [item for item in items if sizes[item.row]]
    boxes = np.array([item.box for item in kept], np.float64).reshape(-1, 4)
    if config.box_form == "xywh":
        boxes[:, 2:] += boxes[:, :2]
    boxes = boxes[:, [1, 0, 3, 2]]
    if not config.fractions:
        extents = np.array([sizes[item.row] for item in kept], np.float64).reshape(-1, 2)
        boxes = boxes / np.tile(extents, 2)
    return collect(
        names,
        np.array([item.row for item in kept], np.int64),
        boxes,
        np.array([position[item.label] for item in kept], np.int32),
        np.array([item.crowd for item in kept], bool),
        np.array([item.area for item in kept]),
        lambda number: kept[number].place,
        {name: {WITHOUT_IMAGE: count} for name, count in lost.items()},
        frames=make_frames(np.zeros([len(names), 2]), config.upright),
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)
