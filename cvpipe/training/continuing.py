"""Check that a run can be continued with a configuration and data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cvpipe.config import Config
from cvpipe.config.optimizer import Cosine, Polynomial
from cvpipe.data.facts import KnownData
from cvpipe.errors import ConfigError

# Fields of run.json that identify the data, and the phrases for them in errors.
_FINGERPRINTS = {
    "facts": "its classes or keypoints",
    "examples": "the numbers of images",
    "digests": "its images or annotations",
}


def check_same_config(folder: Path, before: Config, now: Config) -> None:
    """Check that a run's configuration and that of its continuation are the same.

    Paths of the data may differ. `train.epochs` may be raised if the schedule doesn't depend on the
    number of epochs.

    Args:
        folder: the run's folder, for errors.
        before: configuration of the run.
        now: configuration of the continuation.

    Raises:
        ConfigError: they differ. The message names the keys.
    """
    old, new = flat(before.to_json()), flat(now.to_json())
    changed = [
        key
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not is_place(key)
    ]
    if changed == ["train.epochs"] and now.train.epochs > before.train.epochs:
        _check_can_be_longer(folder, now, before.train.epochs)
        return
    if changed:
        listed = ", ".join(
            f"{key} (was {_as_json(old.get(key))}, now {_as_json(new.get(key))})"
            for key in changed[:5]
        )
        raise ConfigError(
            f"{folder}: has a run with another configuration: {listed}. Give the new run its own"
            " folder with --run, or start again with --fresh, which renames the old run's folder"
        )


def check_same_data(folder: Path, before: KnownData, now: KnownData) -> None:
    """Check that a run's data hasn't changed.

    Args:
        folder: the run's folder, for errors.
        before: facts and digests of the data when the run began.
        now: those of today's data.

    Raises:
        ConfigError: they differ. The message says in what.
    """
    then: Mapping[str, object] = before
    today: Mapping[str, object] = now
    for key, what in _FINGERPRINTS.items():
        if then[key] != today[key]:
            raise ConfigError(
                f"{folder}: the data has changed since this run began ({what} differ), so training"
                " images of the run may now be in the test split. Restore the data, or start again"
                " with --fresh"
            )


def _check_can_be_longer(folder: Path, config: Config, epochs: int) -> None:
    if isinstance(config.schedule, Cosine | Polynomial):
        raise ConfigError(
            f"{folder}: train.epochs can't be raised from {epochs} to {config.train.epochs},"
            " because the learning rates of schedule.kind:"
            f" {config.schedule.kind} depend on the number of epochs. Start a new run in another"
            " folder with --run; to begin with this run's weights, add --set"
            f" model.weights={folder}"
        )


def is_place(key: str) -> bool:
    """Return True if a key is a path of the data. Paths may change between starts of a run, because
    digests identify the data.
    """
    return key.startswith("data.source.") and key.rpartition(".")[2] in ("path", "root", "data_dir")


def flat(value: Any, at: str = "") -> dict[str, Any]:
    """Return the leaves of a configuration by their keys, such as "train.epochs"."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        value = {str(position): item for position, item in enumerate(value)}
    if isinstance(value, dict):
        return {
            key: leaf
            for name, item in value.items()
            for key, leaf in flat(item, f"{at}.{name}" if at else name).items()
        }
    return {at: value}


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
