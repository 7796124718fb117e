"""Reads pipeline files, applies overrides and checks both; a mistake becomes a sentence with file,
line, key and fix.
"""

from __future__ import annotations

import difflib
import functools
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cvpipe import config as pipelines
from cvpipe.config import Config
from cvpipe.config_errors import mistakes
from cvpipe.errors import ConfigError
from cvpipe.yaml_files import read_yaml


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
    except RecursionError:
        raise ConfigError(f"{origin}: not valid JSON: nested too deeply") from None
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
    values, lines = read_yaml(text, str(path))
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


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: write it as key=value, such as --set train.epochs=3")
    try:
        value, _ = read_yaml(text, override)
    except ConfigError:
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
        return _adapter(pipelines.Pipeline).validate_json(
            json.dumps(values, default=str), strict=True, context={"draft": draft}
        )
    except ValidationError as failure:
        said = [
            f"{_where(mistake.place, path, lines, overrides)}: {mistake.sentence}"
            for mistake in mistakes(failure, values)
        ]
        raise ConfigError("\n".join(dict.fromkeys(said))) from None


@functools.cache
def _adapter(pipeline: Any) -> TypeAdapter[Config]:
    # Making it takes longer than reading a pipeline.
    return TypeAdapter(pipeline)


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
    """True if a location is at a dotted key or below it."""
    return (".".join(map(str, at)) + ".").startswith(key + ".")
