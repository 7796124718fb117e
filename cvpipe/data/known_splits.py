"""Checks that a model isn't evaluated on data that it was trained on."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping, Sequence

import numpy as np

from cvpipe.config import Config
from cvpipe.data.facts import Facts, KnownData
from cvpipe.data.sources import Source, open_splits
from cvpipe.errors import ConfigError, DataError, counted

log = logging.getLogger(__name__)


def describe_splits(splits: Mapping[str, Source]) -> KnownData:
    """Return a description of the data by which later changes are detected."""
    return {
        "facts": splits["train"].facts.to_json(),
        "examples": {name: len(split) for name, split in splits.items()},
        "digests": {name: split.digest() for name, split in splits.items()},
        "images": {name: _encode(split.digests) for name, split in splits.items()},
    }


def known_to_ensemble(runs: Mapping[str, KnownData]) -> KnownData:
    """Return the known data of an ensemble: the data of its first member, with the training images
    of all members. Members of a cross-validation, for example, are trained on each other's
    validation images.

    Args:
        runs: the known data of each run.
    """
    first = next(iter(runs.values()))
    if len(runs) == 1:
        return first
    trained = [_digests(known, "train") for known in runs.values()]
    images = {**first["images"], "train": _encode(np.unique(np.concatenate(trained)))}
    overlaps: dict[str, list[str]] = {}
    for split in first["images"].keys() - {"train"}:
        digests = _digests(first, split)
        unseen = np.ones(len(digests), bool)
        for run, known in runs.items():
            seen = np.isin(digests, _digests(known, "train"))
            # As for a single run, copies that were in both splits are no reason to refuse.
            seen &= ~np.isin(digests, _digests(known, split))
            if seen.any():
                overlaps.setdefault(split, []).append(run)
                unseen &= ~seen
        images[split] = _encode(digests[unseen])
    return {**first, "images": images, "overlaps": overlaps}


def open_split(config: Config, split: str, known: KnownData) -> Source:
    """Open one split by `open_known_splits`."""
    return open_known_splits(config, [split], known)[0]


def open_known_splits(
    config: Config, names: Sequence[str], known: KnownData, scored: bool = True
) -> list[Source]:
    """Open the named splits of the data a model was trained on.

    Args:
        known: `describe_splits` of the data at training time.
        scored: False if the model may have been trained on the images.

    Raises:
        ConfigError: the data has no such split.
        DataError: class or keypoint names differ from the model's, or a split to score has images
            that the model or a member of an ensemble was, or may have been, trained on.
    """
    splits, overlaps = open_splits(config.data), known.get("overlaps", {})
    for name in names:
        if name not in splits:
            raise ConfigError(f"--split {name}: the data has {', '.join(splits)}")
    _check_facts(Facts.from_json(known["facts"]), splits["train"].facts)
    for name in names:
        changed = splits[name].digest() != known["digests"].get(name)
        if scored and name != "train" and (changed or name in overlaps):
            _check_not_trained_on(name, splits, known)
        if changed:
            log.warning(
                "images or annotations of the %s split changed since the model was trained; the"
                " split is used as it is now",
                name,
            )
    return [splits[name] for name in names]


def _check_not_trained_on(name: str, splits: Mapping[str, Source], known: KnownData) -> None:
    """Raise DataError if a split has images of the training split, or may have some: renamed or
    newly annotated images have other digests.
    """
    images, digests = splits[name], splits[name].digests
    trained, before = _digests(known, "train"), _digests(known, name)
    seen = np.flatnonzero(np.isin(digests, trained) & ~np.isin(digests, before))
    runs = known.get("overlaps", {}).get(name)
    if len(seen) and runs:
        raise DataError(
            f"{', '.join(runs)}: trained on {counted(len(seen), 'image')} of the {len(images):,} in"
            f" the {name} split, such as {_some(images, seen)}, so the ensemble's scores would be"
            " too high. Evaluate the ensemble on another split, such as test, or each run alone"
        )
    if len(seen):
        raise DataError(
            f"the data changed since the model was trained: it was trained on"
            f" {counted(len(seen), 'image')} of the {len(images):,} in the {name} split, such as"
            f" {_some(images, seen)}. Restore the data or train again; if data.{name} sets the"
            f" split's share, a smaller --set data.{name}=SHARE drops these images first"
        )
    gone = ~np.isin(trained, np.concatenate([split.digests for split in splits.values()]))
    everything = np.concatenate([_digests(known, split) for split in known["images"]])
    new = np.flatnonzero(~np.isin(digests, everything))
    if gone.any() and len(new):
        raise DataError(
            "the data changed since the model was trained and lost"
            f" {counted(int(gone.sum()), 'image')}"
            f" that it was trained on; {counted(len(new), 'new image')} in the {name} split, such"
            f" as {_some(images, new)}, may be the same under other names or with other"
            " annotations. Restore the data, or train again"
        )


def _encode(digests: np.ndarray) -> str:
    return base64.b64encode(digests.tobytes()).decode()


def _digests(known: KnownData, split: str) -> np.ndarray:
    """Return the known fingerprints of a split's examples, uint64; none for a new split."""
    return np.frombuffer(base64.b64decode(known["images"].get(split, "")), "<u8")


def _some(images: Source, positions: np.ndarray) -> str:
    return ", ".join(images.name(int(position)) for position in positions[:3])


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
