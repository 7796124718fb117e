"""Policies, which select the versions to serve and give versions labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cvpipe.errors import ConfigError


@dataclass(frozen=True)
class Latest:
    """The newest versions of a model: at most `count`, chosen anew whenever versions change."""

    count: int = 1


Choice = str | Latest | frozenset[int]
"""`ALL`, the newest versions, or version numbers."""

ALL, LATEST = "all", Latest()
_NAMED: Mapping[str, Choice] = {"all": ALL, "latest": LATEST}
_LABEL = re.compile(r"(?P<model>[^:=]+):(?P<label>[a-zA-Z0-9_]+)=(?P<version>[0-9]{1,18})")
_NUMBERS = re.compile(r"[0-9]{1,18}(,[0-9]{1,18})*")


@dataclass(frozen=True)
class Policy:
    """The versions to serve of each model."""

    every: Choice = ALL
    """Default for all models."""
    of_model: Mapping[str, Choice] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Versions by model and label."""

    def chosen(self, model: str, found: Iterable[int]) -> set[int]:
        """Return the found versions that serve requests without a label."""
        choice, numbers = self.of_model.get(model, self.every), set(found)
        if isinstance(choice, Latest):
            return set(sorted(numbers)[-choice.count :])
        if isinstance(choice, frozenset):
            return numbers & choice
        return numbers

    def labeled(self, model: str, found: Iterable[int]) -> set[int]:
        """Return the found versions that have a label."""
        return set(self.labels.get(model, {}).values()) & set(found)


def parse_policy(versions: Sequence[str], labels: Sequence[str]) -> Policy:
    """Parse the options of the command line.

    Args:
        versions: "latest", "all" or numbers such as "3,4"; for a single model, "NAME:latest".
        labels: labels such as "digits:canary=3".

    Raises:
        ConfigError: an option is malformed.
    """
    every: Choice = ALL
    of_model: dict[str, Choice] = {}
    for text in versions:
        model, separator, choice = text.rpartition(":")
        if separator:
            of_model[model] = _choice(text, choice)
        else:
            every = _choice(text, choice)
    named: dict[str, dict[str, int]] = {}
    for text in labels:
        match = _LABEL.fullmatch(text)
        if match is None:
            raise ConfigError(
                f"--label {text}: not a label of a version; write it as NAME:LABEL=VERSION, such"
                " as digits:canary=3"
            )
        named.setdefault(match["model"], {})[match["label"]] = int(match["version"])
    return Policy(every, of_model, named)


def _choice(text: str, choice: str) -> Choice:
    if choice in _NAMED:
        return _NAMED[choice]
    if not _NUMBERS.fullmatch(choice):
        raise ConfigError(
            f"--versions {text}: neither latest, all nor version numbers; write it as latest, all,"
            " 3 or 3,4, or for one model with its name, such as digits:3"
        )
    return frozenset(map(int, choice.split(",")))
