"""Flags of annotations, such as difficult and iscrowd."""

from __future__ import annotations

import json
from typing import Any

from cvpipe.errors import DataError

_FALSE, _TRUE = ("", "0", "0.0", "false"), ("1", "1.0", "true")


def flag_of_json(value: Any, place: str, name: str) -> bool:
    """Return a flag of a JSON file: 0, 1, true or false; null or a missing flag is false.

    Raises:
        DataError: any other value, such as a string.
    """
    if value is None or (isinstance(value, int | float) and value in (0, 1)):
        return bool(value)
    raise _no_flag(json.dumps(value), place, name, "0, 1, true, false or null")


def flag_of_text(text: str | None, place: str, name: str) -> bool:
    """Return a flag of an XML file or a table: 0, 1, true or false; an empty or missing flag is
    false. pandas writes integer columns with empty cells as 0.0 and 1.0.

    Raises:
        DataError: any other value.
    """
    word = (text or "").strip()
    if word.lower() not in (*_FALSE, *_TRUE):
        raise _no_flag(f"'{word}'", place, name, "0, 1, true, false or empty")
    return word.lower() in _TRUE


def _no_flag(shown: str, place: str, name: str, allowed: str) -> DataError:
    return DataError(f"{place}: {name} is {shown}, but must be {allowed}; correct it")
