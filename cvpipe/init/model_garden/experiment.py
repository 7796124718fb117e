"""The configuration of an experiment: values by paths such as "task.model.num_classes"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cvpipe.errors import ConfigError
from cvpipe.user_paths import find_path
from cvpipe.yaml_files import read_yaml


class Experiment:
    """Values by path, with a record of those that have been translated."""

    def __init__(self, values: Mapping[str, Any], places: Mapping[str, str]):
        """`values` and `places` are dictionaries by path; a place is a line such as "a.yaml:3"."""
        self.values, self.places = dict(values), dict(places)
        self.taken: set[str] = set()
        self.notes: list[str] = []

    def get(self, path: str, default: Any = None) -> Any:
        """Return a value and record it as translated; the default if it is missing or null.

        Raises:
            ConfigError: the value has another type than the default.
        """
        self.taken.add(path)
        value = self.values.get(path)
        if value is None:
            return default
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        # YAML reads 1e5 as a float.
        if isinstance(default, int) and isinstance(value, float) and value.is_integer():
            return int(value)
        if default is not None and not isinstance(value, type(default)):
            raise ConfigError(
                f"{self.places.get(path, path)}: {path} is {value!r}, but Model Garden needs the"
                f" type {type(default).__name__}; correct it"
            )
        return value

    def has(self, *prefixes: str) -> bool:
        """Return True if the experiment has one of the paths, or a path below one of them."""
        return any(
            path == prefix or path.startswith(f"{prefix}.")
            for path in self.values
            for prefix in prefixes
        )

    def numbers(self, path: str, default: Sequence[float] = ()) -> list[float]:
        """Return a list of numbers; the default if it is missing, null or empty.

        Raises:
            ConfigError: the value isn't a list of numbers.
        """
        values = self.get(path, []) or list(default)
        if not all(isinstance(value, int | float) for value in values):
            raise ConfigError(f"{self.places.get(path, path)}: {path} must be numbers; correct it")
        return [float(value) for value in values]

    def note(self, path: str, sentence: str) -> None:
        """Add a sentence about a value that has no exact counterpart."""
        self.notes.append(f"{path}: {shown(self.values.get(path))}: {sentence}.")


def shown(value: Any) -> str:
    """Return a value as YAML shows it, shortened."""
    text = {True: "true", False: "false", None: "null"}.get(value) if _is_plain(value) else None
    text = text or str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def read_experiment(names: Sequence[str]) -> Experiment:
    """Read an experiment; values of later names override those of earlier ones.

    Args:
        names: YAML files, or experiments registered in Model Garden, such as resnet_imagenet.

    Raises:
        ConfigError: the file or experiment doesn't exist, or a file isn't YAML.
    """
    values, places = dict[str, Any](), dict[str, str]()
    for name in names:
        file = find_path(name)
        nested, lines = _of_file(name) if file.is_file() else (_registered(name), {})
        leaves = dict(_leaves(nested, ""))
        for path in leaves:
            # A list or number replaces a mapping, and vice versa.
            for other in [key for key in values if f"{key}.".startswith(f"{path}.")]:
                del values[other]
        values.update(leaves)
        places.update(lines)
    return Experiment(values, places)


def _of_file(name: str) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        text = find_path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: can't be read ({error}); give a YAML file") from None
    values, lines = read_yaml(text, name)
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: not an experiment; give a YAML file with task and trainer")
    return values, {".".join(map(str, keys)): f"{name}:{line}" for keys, line in lines.items()}


def _registered(name: str) -> dict[str, Any]:
    if name.endswith((".yaml", ".yml")) or "/" in name:
        raise ConfigError(f"{name}: no such file; give an experiment's YAML file")
    # Imported here, because the import takes seconds and only names of experiments need it.
    from official.core import exp_factory
    from official.vision.configs import image_classification, retinanet, semantic_segmentation  # noqa: F401  The modules register experiments.

    try:
        return dict(exp_factory.get_exp_config(name).as_dict())
    except LookupError:
        raise ConfigError(
            f"--model-garden {name}: neither a file nor an experiment that Model Garden registers;"
            " give a YAML file, or a name such as resnet_imagenet"
        ) from None


def _leaves(values: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict) and (values or not path):
        for key, value in values.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, list(values) if isinstance(values, tuple) else values


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool)
