"""Reads pipeline files, applies overrides and checks both; a mistake becomes a sentence with file,
line, key and fix.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from cvpipe import config as pipelines
from cvpipe.config import Config
from cvpipe.config_errors import mistakes
from cvpipe.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 1e-3 is a number, and a key given twice is an error instead of the
    last one winning.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            # A list or mapping as a key is left to YAML, which refuses it.
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else key_node
            if key in seen:
                raise ConfigError(
                    f"{key_node.start_mark.name}:{key_node.start_mark.line + 1}: key '{key}' is"
                    " given twice; keep one"
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# As in YAML 1.2, `on`, `off`, `yes` and `no` are words, and so are a date, a time such as 1:30, and
# 010, which is no octal 8.
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


def load(path: str | Path, overrides: Iterable[str] = (), draft: bool = False) -> Config:
    """Reads a pipeline file.

    Args:
        path: a YAML file, or the JSON that a run saved.
        overrides: `section.key=value` each, the value in YAML, applied over the file.
        draft: accept a pipeline without what is found in its data first, such as anchors.

    Raises:
        ConfigError: the file is missing or no YAML, an override has no `=`, or a key or value is
            wrong.
    """
    path = Path(path)
    values, lines = _read(path)
    overrides = list(overrides)
    for override in overrides:
        _apply(values, override)
    # What a name may not hold, a file's name may.
    values.setdefault(
        "name", re.sub(r"[^A-Za-z0-9_.-]+|^[^A-Za-z0-9]+", "-", path.stem).strip("-.") or "pipeline"
    )
    return _check(values, path, lines, overrides, draft)


def parse(text: str, origin: str) -> Config:
    """Reads a saved configuration, `text` being JSON and `origin` where it came from, for messages.

    Raises:
        ConfigError: it is no JSON, or a key or value is wrong.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{origin}:{error.lineno}: not valid JSON: {error.msg}") from None
    return _check(_mapping(values, origin), Path(origin), {}, [])


def with_data(config: Config, overrides: Iterable[str], more: tuple[str, ...] = ()) -> Config:
    """A saved configuration with the data elsewhere.

    Args:
        overrides: `data.key=value` each; all else has been decided by the training.
        more: other keys that haven't.

    Raises:
        ConfigError: another key, or a value that is wrong.
    """
    values, overrides = config.to_json(), list(overrides)
    for override in overrides:
        if not override.startswith(("data.", *(f"{key}=" for key in more))):
            keys = " and ".join(("keys of data", *more))
            raise ConfigError(
                f"--set {override}: only {keys} can be set for what is already trained, such as"
                " data.source.path"
            )
        _apply(values, override)
    return _check(values, Path(config.name), {}, overrides)


def _read(path: Path) -> tuple[dict[str, Any], dict[tuple[Any, ...], int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = _nearest_pipeline(path)
        raise ConfigError(
            f"{path}: no such pipeline file; "
            + (f"did you mean {near}?" if near else "look under pipelines/")
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path}: can't be read: {error.strerror}; give a pipeline file"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: no text in UTF-8; give a pipeline file") from None
    try:
        loader = _Loader(text)
        loader.name = str(path)
        node = loader.get_single_node()
        values = loader.construct_document(node) if node else None
        lines = dict(_lines(node, ())) if node else {}
    except RecursionError:
        raise ConfigError(
            f"{path}: something in it contains itself (an anchor &x with *x inside); write it out"
        ) from None
    except yaml.MarkedYAMLError as error:
        where = f"{path}:{error.problem_mark.line + 1}" if error.problem_mark else str(path)
        raise ConfigError(f"{where}: not valid YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{path}:{line}: not valid YAML: the character {chr(error.character)!r} is not allowed;"
            " remove it"
        ) from None
    return _mapping(values, str(path)), lines


def _mapping(values: Any, origin: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ConfigError(
            f"{origin}: a pipeline file is a mapping of keys to values, such as 'task:"
            " classification'"
        )
    return values


def _nearest_pipeline(path: Path) -> str | None:
    """The shipped pipeline whose name, or whole path, is most like `path`."""
    shipped = {str(file): file for file in sorted(Path("pipelines").rglob("*.yaml"))}
    same_name = [name for name, file in shipped.items() if file.stem == path.stem]
    near = same_name or difflib.get_close_matches(str(path), shipped, n=1)
    return near[0] if near else None


def _lines(node: yaml.Node, at: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], int]]:
    yield at, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _lines(value, (*at, key.value))
            yield (*at, key.value), key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*at, index))


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: write it as key=value, such as --set train.epochs=3")
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ConfigError):
        raise ConfigError(
            f"--set {override}: '{text}' is not a YAML value; quote it if it is text"
        ) from None
    *parents, last = key.split(".")
    at: Any = values
    for parent in parents:
        at = _descend(at, parent, override)
    if isinstance(at, list):
        at[_position(at, last, override)] = value
    else:
        at[last] = value


def _descend(at: Any, key: str, override: str) -> Any:
    if isinstance(at, list):
        below = at[_position(at, key, override)]
    else:
        # A section the file leaves out starts from nothing: its defaults fill it.
        if at.get(key) is None:
            at[key] = {}
        below = at[key]
    if not isinstance(below, (dict, list)):
        raise ConfigError(f"--set {override}: '{key}' is a value, nothing lies below it")
    return below


def _position(items: list[Any], key: str, override: str) -> int:
    if not key.isdecimal() or int(key) >= len(items):
        raise ConfigError(
            f"--set {override}: '{key}' is no position in that list of {len(items)}, counted from 0"
        )
    return int(key)


def _check(
    values: dict[str, Any],
    path: Path,
    lines: dict[tuple[Any, ...], int],
    overrides: list[str],
    draft: bool = False,
) -> Config:
    try:
        # JSON mode is strict about types, and still takes a list where a tuple is meant. What YAML
        # has and JSON lacks is text.
        return TypeAdapter(pipelines.Pipeline).validate_json(
            json.dumps(values, default=str), strict=True, context={"draft": draft}
        )
    except ValidationError as failure:
        said = [
            f"{_where(mistake.place, path, lines, overrides)}: {mistake.sentence}"
            for mistake in mistakes(failure, values)
        ]
        raise ConfigError("\n".join(dict.fromkeys(said))) from None


def _where(
    at: tuple[Any, ...], path: Path, lines: dict[tuple[Any, ...], int], overrides: list[str]
) -> str:
    """The override or the line of the file that a location comes from, or else the nearest mapping
    around it.
    """
    for override in reversed(overrides):
        if _below(at, override.partition("=")[0]):
            return f"--set {override}"
    for n in range(len(at), 0, -1):
        if at[:n] in lines:
            return f"{path}:{lines[at[:n]]}"
        # A mapping that the file leaves out was made by an override of something in it.
        for override in overrides:
            if _below(tuple(override.partition("=")[0].split(".")), ".".join(map(str, at[:n]))):
                return f"--set {override}"
    return str(path)


def _below(at: tuple[Any, ...], key: str) -> bool:
    """Whether a location is at a dotted key or below it."""
    return (".".join(map(str, at)) + ".").startswith(key + ".")
