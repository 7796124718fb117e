"""Variants of entries in COCO's JSON: notations of ids, and categories that only group other
categories.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cvpipe.data.sources.files import Files
from cvpipe.errors import DataError

Id = int | str
Rows = Sequence[Mapping[str, Any]]
# Numbers in text, without and with leading zeros.
_PLAIN = re.compile("-?(0|[1-9][0-9]*)")
_PADDED = re.compile("-?[0-9]+")


def read_json(files: Files, name: str) -> Any:
    """Return a JSON file's content; raises DataError if it is missing or isn't JSON."""
    place, content = files.locate(name), files.read(name)
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{place}:{error.lineno}: not valid JSON ({error.msg}); correct the file, or fetch it"
            " again"
        ) from None
    except (ValueError, RecursionError) as error:
        why = "not text in UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        why = "nested too deeply" if isinstance(error, RecursionError) else why
        raise DataError(
            f"{place}: not valid JSON ({why}); correct the file, or fetch it again"
        ) from None


def as_id(value: Any, zeros_matter: bool = False) -> Id | None:
    """Normalize an id: 1, 1.0, "1" and "000001" become 1, other text stays as it is; None if
    invalid. "000001" stays text if `zeros_matter`.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        text = value.strip()
        return int(text) if (_PLAIN if zeros_matter else _PADDED).fullmatch(text) else text or None
    return value if type(value) is int else None


def zeros_matter(rows: Rows) -> bool:
    """Return True if leading zeros distinguish ids of a list, such as "1" and "01"."""
    ids = [row.get("id") for row in rows]
    return len({as_id(value) for value in ids}) < len({as_id(value, True) for value in ids})


def by_id(row: Mapping[str, Any]) -> tuple[bool, Id]:
    """Return the sort key of an entry: numbers first."""
    return isinstance(row["id"], str), row["id"]


def as_number(value: Any) -> float | None:
    """Return a number, also from text; None for anything else."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return float(value) if is_number(value) else None


def is_number(value: Any) -> bool:
    """Return True for a number in JSON, but not for true and false."""
    return type(value) in (int, float)


def grouping_categories(files: Iterable[tuple[Rows, Rows]]) -> set[Id]:
    """Return the ids of categories that only group other categories: root categories that other
    categories name as their supercategory and that no annotation uses.

    Args:
        files: categories and annotations of all files of a data set.
    """
    pairs = list(files)
    used = {row["category_id"] for _, annotations in pairs for row in annotations}
    categories = [row for rows, _ in pairs for row in rows]
    names = {str(row["name"]) for row in categories}
    return {
        row["id"]
        for row in categories
        if row["id"] not in used
        and str(row.get("supercategory")) not in names
        and any(
            other["id"] != row["id"] and str(other.get("supercategory")) == str(row["name"])
            for other in categories
        )
    }


def named_categories(place: str, rows: Rows, grouping: set[Id]) -> dict[Id, str]:
    """Return the names of categories that are classes, by id, in the order of the ids.

    Raises:
        DataError: two categories have the same name.
    """
    kept = [row for row in rows if row["id"] not in grouping]
    categories = {row["id"]: str(row["name"]) for row in sorted(kept, key=by_id)}
    if len(set(categories.values())) < len(categories):
        [(name, _)] = Counter(categories.values()).most_common(1)
        raise DataError(f"{place}: two categories are named '{name}'; name them differently")
    return categories
