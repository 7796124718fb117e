"""The guard of known data: a model is scored only on data that it may be scored on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from cvpipe.config import Config
from cvpipe.data.facts import Facts, KnownData
from cvpipe.data.sources import Source, open_splits
from cvpipe.errors import ConfigError, DataError

log = logging.getLogger(__name__)


def describe_splits(splits: Mapping[str, Source]) -> KnownData:
    """Describe data so that it is known again."""
    return {
        "facts": splits["train"].facts.to_json(),
        "examples": {name: len(split) for name, split in splits.items()},
        "digests": {name: split.digest() for name, split in splits.items()},
    }


def open_split(config: Config, split: str, known: KnownData) -> Source:
    """Open one split; see `open_known_splits`."""
    return open_known_splits(config, [split], known)[0]


def open_known_splits(config: Config, names: Sequence[str], known: KnownData) -> list[Source]:
    """Open the named splits of the data a model was trained on.

    Args:
        known: what the model's run remembers of its data.

    Raises:
        ConfigError: the data has no such split.
        DataError: the data's facts are not those the model knows, or what it was trained on may be
            in the split now.
    """
    splits = open_splits(config.data)
    for name in names:
        if name not in splits:
            raise ConfigError(f"--split {name}: the data has {', '.join(splits)}")
    now = describe_splits(splits)
    _check_facts(Facts.from_json(known["facts"]), splits["train"].facts)
    changed_splits = {name for name in splits if now["digests"][name] != known["digests"].get(name)}
    for name in names:
        if name in changed_splits and "train" in changed_splits:
            raise DataError(
                "the data changed since the model was trained, and images it was trained on may be"
                f" in the {name} split now. Restore the data, or train again"
            )
        if name in changed_splits:
            log.warning(
                "the %s split has other images than when the model was trained; they are used as"
                " they are",
                name,
            )
    return [splits[name] for name in names]


def _check_facts(known: Facts, now: Facts) -> None:
    if now.class_names != known.class_names:
        raise DataError(
            "the data's classes changed: the model knows"
            f" {', '.join(known.class_names)}; the data has {', '.join(now.class_names)}. Restore"
            " the data"
        )
    if now != known:
        raise DataError(
            "the data's keypoints changed since the model was trained. Restore the data"
        )
