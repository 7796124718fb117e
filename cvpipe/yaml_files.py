"""Reading of YAML: pipeline files, overrides, and files of data sets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from cvpipe.errors import ConfigError, DataError, UserError

Lines = dict[tuple[Any, ...], int]
"""Line of each value, counted from 1, by its keys and list positions."""


class _KeyTwiceError(yaml.MarkedYAMLError):
    """A mapping has a key twice."""


class _Loader(yaml.SafeLoader):
    """Reads numbers and booleans as in YAML 1.2. Duplicate keys are errors."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            # If the key is a list or a mapping, PyYAML raises an error.
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else key_node
            if key in seen:
                raise _KeyTwiceError(problem=key, problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


# As in YAML 1.2, these are strings, not booleans, dates, times or octal numbers: on, off, yes, no,
# 2026-11-29, 1:30, 010.
_OLD = tuple(f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "timestamp"))
_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag not in _OLD]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


class _TextLoader(_Loader):
    """Reads every scalar as a string, without conversion."""


# The merge key << keeps its meaning.
_TextLoader.yaml_implicit_resolvers = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}


def read_yaml(text: str, place: str) -> tuple[Any, Lines]:
    """Return the values of a YAML text and their lines; None if the text is empty.

    Raises:
        ConfigError: the text is not YAML. The message names the file by `place`.
    """
    return _read(text, place, _Loader, ConfigError)


def read_yaml_as_text(text: str, place: str) -> Any:
    """Return the values of a data set's YAML file: dicts, lists and strings.

    Scalars aren't converted, so that a class can be named no, 010 or null.

    Raises:
        DataError: the text is not YAML. The message names the file by `place`.
    """
    values, _ = _read(text, place, _TextLoader, DataError)
    return values


def _read(text: str, place: str, kind: type[_Loader], error: type[UserError]) -> tuple[Any, Lines]:
    try:
        loader = kind(text)
        loader.name = place
        node = loader.get_single_node()
        values = loader.construct_document(node) if node else None
        return values, dict(_lines(node, ())) if node else {}
    except RecursionError:
        raise error(
            f"{place}: a value contains itself (an anchor &x with *x inside), or is nested too"
            " deeply; write the value without an anchor"
        ) from None
    except _KeyTwiceError as twice:
        raise error(
            f"{_line(place, twice)}: the key '{twice.problem}' is given twice; keep one of the two"
        ) from None
    except yaml.MarkedYAMLError as fault:
        raise error(f"{_line(place, fault)}: not valid YAML: {fault.problem}") from None
    except yaml.reader.ReaderError as fault:
        line = text.count("\n", 0, fault.position) + 1
        raise error(
            f"{place}:{line}: not valid YAML: the character {chr(fault.character)!r} is not"
            " allowed; remove it"
        ) from None
    except ValueError:
        # For example, !!int before a value that is not a number.
        raise error(
            f"{place}: not valid YAML: a value doesn't fit its tag, such as !!int; correct it,"
            " or leave the tag out"
        ) from None


def _line(place: str, fault: yaml.MarkedYAMLError) -> str:
    return f"{place}:{fault.problem_mark.line + 1}" if fault.problem_mark else place


def _lines(node: yaml.Node, at: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], int]]:
    yield at, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _lines(value, (*at, key.value))
            yield (*at, key.value), key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*at, index))
