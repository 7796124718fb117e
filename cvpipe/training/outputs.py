"""Comparison of the outputs of networks with different configurations."""

from __future__ import annotations

from typing import NamedTuple

from cvpipe.config import Config


class Difference(NamedTuple):
    """A key by which the outputs of two networks of a task differ."""

    key: str
    one: str
    """Its value in the first configuration."""
    other: str


def outputs_differ(one: Config, other: Config) -> Difference | None:
    """Return the first key by which the form or meaning of outputs differs; None if the outputs
    correspond. Both pipelines must have the same task.
    """
    first, second = one.output_keys(), other.output_keys()
    for key in first:
        if first[key] != second.get(key):
            return Difference(key, _shown(one, key), _shown(other, key))
    return None


def _shown(config: Config, key: str) -> str:
    """Return the value of a dotted key as text."""
    value = config.to_json()
    for part in key.split("."):
        value = value[part]
    return str(value)
