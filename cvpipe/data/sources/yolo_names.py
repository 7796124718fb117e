"""Class names of a yolo source, from data.yaml or a list, and other values of data.yaml."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from cvpipe.config.yolo import Yolo
from cvpipe.data.sources.files import Files
from cvpipe.errors import DataError
from cvpipe.text_files import decode_text
from cvpipe.yaml_files import read_yaml_as_text

# Lists of class names that labelImg, CVAT and Roboflow write.
CLASS_LISTS = ("classes.txt", "obj.names", "_darknet.labels")


def read_data_yaml(files: Files, config: Yolo) -> dict[str, Any]:
    """Return data.yaml's values as text; an empty dict without such a file.

    Raises:
        DataError: the file isn't YAML, or not a mapping.
    """
    name = files.find(config.names)
    if name is None or PurePosixPath(name).name in CLASS_LISTS:
        return {}
    place = files.locate(name)
    values = read_yaml_as_text(decode_text(files.read(name), place), place)
    if values is not None and not isinstance(values, dict):
        raise DataError(
            f"{place}: the file must have keys with values, such as 'names: [cat, dog]'; correct it"
        )
    return values or {}


def class_names(files: Files, config: Yolo, data: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the class names of the pipeline file, else of data.yaml, else of a list.

    Raises:
        DataError: there are no names, they aren't numbered from 0, or two are the same.
    """
    if config.classes:
        return config.classes
    name = files.find(config.names)
    if name is None or PurePosixPath(name).name in CLASS_LISTS:
        return _listed_names(files, config, name)
    place = files.locate(name)
    names = data.get("names")
    if isinstance(names, dict):
        names = _by_number(place, names)
    if not isinstance(names, list) or not names:
        raise DataError(
            f"{place}: names must be a list of class names, or a mapping from 0, 1, … to names; add"
            " or correct it, or set data.source.classes"
        )
    for number, label in enumerate(names):
        if not isinstance(label, str) or not label:
            raise DataError(
                f"{place}: class {number} must have a name, not"
                f" {json.dumps(label, ensure_ascii=False)}; correct it"
            )
    return _different(place, names)


def _listed_names(files: Files, config: Yolo, given: str | None) -> tuple[str, ...]:
    """Return the class names in a list of one name per line."""
    lists = [given] if given else [n for n in files.names() if PurePosixPath(n).name in CLASS_LISTS]
    if not lists:
        raise DataError(
            f"{files.locate(config.names)}: no such file, and the class names are needed; set"
            " data.source.names to the file with the class names, or data.source.classes to the"
            " names themselves"
        )
    found = [_names_in(files, name) for name in lists]
    for name, names in zip(lists, found, strict=True):
        if names != found[0]:
            raise DataError(
                f"{files.locate(name)}: the class names differ from those in"
                f" {files.locate(lists[0])}; keep one of the two files, or set data.source.classes"
            )
    return _different(files.locate(lists[0]), found[0])


def _names_in(files: Files, name: str) -> list[str]:
    place = files.locate(name)
    names = [
        stripped
        for line in decode_text(files.read(name), place).splitlines()
        if (stripped := line.strip())
    ]
    if not names:
        raise DataError(
            f"{place}: the file is empty; add the class names, one per line, or set"
            " data.source.classes"
        )
    return names


def _by_number(place: str, names: Mapping[str, Any]) -> list[Any]:
    numbers = {int(key): name for key, name in names.items() if key.isdecimal()}
    if len(numbers) < len(names) or sorted(numbers) != list(range(len(numbers))):
        raise DataError(
            f"{place}: the keys of names are {', '.join(map(str, names))}; number the classes 0, 1,"
            " … without a gap"
        )
    return [numbers[number] for number in range(len(numbers))]


def _different(place: str, names: Sequence[str]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        [(name, _)] = Counter(names).most_common(1)
        raise DataError(f"{place}: two classes are named '{name}'; name them differently")
    return tuple(names)
