"""Flags of annotations, such as difficult and iscrowd."""

from __future__ import annotations

import json
from typing import Any

from cvpipe.errors import DataError

_WORDS = {"": False, "0": False, "false": False, "1": True, "true": True}


def flag_of_json(value: Any, place: str, name: str) -> bool:
    """Return a flag of a JSON file: 0, 1, true or false; null or a missing flag is false.

    Raises:
        DataError: any other value, such as a string.
    """
    if value is None or (isinstance(value, int | float) and value in (0, 1)):
        return bool(value)
    raise _no_flag(json.dumps(value), place, name, "0, 1, true, false or null")


def flag_of_text(text: str | None, place: str, name: str) -> bool:
    """Return a flag of an XML file: 0, 1, true or false; an empty or missing flag is false.

    Raises:
        DataError: any other value.
    """
    word = (text or "").strip()
    if word.lower() not in _WORDS:
        raise _no_flag(f"'{word}'", place, name, "0, 1, true, false or empty")
    return _WORDS[word.lower()]


def _no_flag(shown: str, place: str, name: str, allowed: str) -> DataError:
    return DataError(f"{place}: {name} is {shown}, but must be {allowed}; correct it")
