"""Reading of pipeline files: base files, overrides, and checks that name file, line and key."""

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
from cvpipe.errors import ConfigError, instead_of_pipeline
from cvpipe.yaml_files import read_yaml

Places = dict[tuple[Any, ...], str]
"""File and line of each value, such as "a.yaml:3", by its location."""


def load(path: str | Path, overrides: Iterable[str] = (), draft: bool = False) -> Config:
    """Read and check a pipeline file.

    The file may name a base file by `base: FILE`, relative to its own folder. The file's values are
    then merged into those of the base: mappings recursively, unless their `kind` differs; lists and
    other values replace those of the base.

    Args:
        path: a YAML file, or the JSON file of a run.
        overrides: strings `section.key=value`, with the value in YAML, applied after the file.
        draft: accept a pipeline that lacks keys that are computed from its data, such as anchors.

    Raises:
        ConfigError: the file is missing or not YAML, an override has no `=`, or a key or value is
            wrong.
    """
    path = Path(path)
    values, places = _read(path)
    overrides = list(overrides)
    for override in overrides:
        _apply(values, override)
    # File names may contain characters that `name` must not.
    values.setdefault(
        "name", re.sub(r"[^A-Za-z0-9_.-]+|^[^A-Za-z0-9]+", "-", path.stem).strip("-.") or "pipeline"
    )
    return _check(values, path, places, overrides, draft)


def parse(text: str, origin: str) -> Config:
    """Read a saved configuration.

    Args:
        text: the configuration as JSON.
        origin: the name of its file, for error messages.

    Raises:
        ConfigError: the text is not JSON, or a key or value is wrong.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{origin}:{error.lineno}: not valid JSON: {error.msg}") from None
    except RecursionError:
        raise ConfigError(f"{origin}: not valid JSON: nested too deeply") from None
    return _check(_mapping(values, origin), Path(origin), {}, [])


def with_data(config: Config, overrides: Iterable[str], more: tuple[str, ...] = ()) -> Config:
    """Apply overrides of data settings to a saved configuration.

    Args:
        overrides: strings `data.key=value`. Other keys were fixed by the training.
        more: further keys that may be overridden.

    Raises:
        ConfigError: a key may not be overridden, or a value is wrong.
    """
    values, overrides = config.to_json(), list(overrides)
    for override in overrides:
        if not override.startswith(("data.", *(f"{key}=" for key in more))):
            keys = " and ".join(("keys of data", *more))
            raise ConfigError(
                f"--set {override}: only {keys} can be set for a trained model, such as"
                " data.source.path"
            )
        _apply(values, override)
    return _check(values, Path(config.name), {}, overrides)


def _read(path: Path, variants: tuple[Path, ...] = ()) -> tuple[dict[str, Any], Places]:
    """Return the values of a pipeline file, merged into those of its `base`, and their places.

    Args:
        variants: the files whose `base` keys led to this file.
    """
    if path.resolve() in variants:
        raise ConfigError(f"{path}: the file is its own base; name another file in 'base'")
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
        raise ConfigError(f"{path}: not a text file in UTF-8; give a pipeline file") from None
    changes, lines = read_yaml(text, str(path))
    changes = _mapping(changes, str(path))
    if said := instead_of_pipeline(path, changes):
        raise ConfigError(said)
    places = {at: f"{path}:{line}" for at, line in lines.items()}
    base = changes.pop("base", None)
    if base is None:
        return changes, places
    # Paths can't contain a zero byte.
    if not isinstance(base, str) or "\0" in base:
        raise ConfigError(
            f"{places['base',]}: 'base' must be the path of a pipeline file, relative to this one"
        )
    values, below = _read(path.parent / base, (*variants, path.resolve()))
    values.pop("name", None)
    return _over(values, changes), {**below, **places}


def _over(base: Any, changes: Any) -> Any:
    """Merge `changes` into `base`: mappings recursively, unless their `kind` differs. Other values
    replace those of the base.
    """
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    if changes.get("kind", base.get("kind")) != base.get("kind"):
        return changes
    return {**base, **{key: _over(base.get(key), value) for key, value in changes.items()}}


def _mapping(values: Any, origin: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ConfigError(
            f"{origin}: a pipeline file is a mapping of keys to values, such as 'task:"
            " classification'"
        )
    return values


def _nearest_pipeline(path: Path) -> str | None:
    """Return the shipped pipeline with the most similar file name or path; None if there is
    none.
    """
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
        # A section that the file leaves out is created empty and filled by defaults.
        if at.get(key) is None:
            at[key] = {}
        below = at[key]
    if not isinstance(below, (dict, list)):
        raise ConfigError(f"--set {override}: '{key}' is a value and has no keys")
    return below


def _position(items: list[Any], key: str, override: str) -> int:
    if not key.isdecimal() or int(key) >= len(items):
        raise ConfigError(
            f"--set {override}: '{key}' is not a position in this list of {len(items)};"
            " positions begin at 0"
        )
    return int(key)


def _check(
    values: dict[str, Any], path: Path, places: Places, overrides: list[str], draft: bool = False
) -> Config:
    try:
        # JSON mode is strict about types but accepts a list for a tuple. Values that exist in YAML
        # but not in JSON become text.
        return _adapter(pipelines.Pipeline).validate_json(
            json.dumps(values, default=str), strict=True, context={"draft": draft}
        )
    except ValidationError as failure:
        said = [
            f"{_where(mistake.place, path, places, overrides)}: {mistake.sentence}"
            for mistake in mistakes(failure, values)
        ]
        raise ConfigError("\n".join(dict.fromkeys(said))) from None


@functools.cache
def _adapter(pipeline: Any) -> TypeAdapter[Config]:
    # Cached because building a TypeAdapter takes longer than reading a pipeline.
    return TypeAdapter(pipeline)


def _where(at: tuple[Any, ...], path: Path, places: Places, overrides: list[str]) -> str:
    """Return the override, or the line of the file, that set the value at a location. If neither
    set it, return the place of the nearest enclosing mapping.
    """
    for override in reversed(overrides):
        if _below(at, override.partition("=")[0]):
            return f"--set {override}"
    for n in range(len(at), 0, -1):
        if at[:n] in places:
            return places[at[:n]]
        # If the mapping isn't in the file, an override of one of its keys created it.
        for override in overrides:
            if _below(tuple(override.partition("=")[0].split(".")), ".".join(map(str, at[:n]))):
                return f"--set {override}"
    return str(path)


def _below(at: tuple[Any, ...], key: str) -> bool:
    """Return True if a location is a dotted key or lies below it."""
    return (".".join(map(str, at)) + ".").startswith(key + ".")
