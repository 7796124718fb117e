"""Sources of labeled images: one module per format, which returns the format's splits."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping
from types import ModuleType

from cvpipe.config.data import Data
from cvpipe.config.source import Merge
from cvpipe.config.source import Source as Section
from cvpipe.data.annotations.faults import faults_in_words, sum_of_faults
from cvpipe.data.example import Example
from cvpipe.data.sources.groups import crossing_groups
from cvpipe.data.sources.learnable import refuse_lost_objects, refuse_unlearnable
from cvpipe.data.sources.merge import merge
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.splits import (
    choose_classes,
    complete,
    cut_fold,
    limit,
    with_test,
    with_validation,
)
from cvpipe.errors import DataError, counted

__all__ = ["Example", "Source", "open_splits"]

log = logging.getLogger(__name__)


def open_splits(config: Data) -> dict[str, Source]:
    """Open the data, and hold out missing splits.

    Args:
        config: format, location, classes and shares of the data. The same `split_seed` holds out
            the same examples.

    Returns:
        "train" and "test", and "validation" unless its share is 0.

    Raises:
        DataError: files are missing or damaged, or too few classes have images.
    """
    seed, place = config.split_seed, config.source.place
    splits = open_source(config.source, config)
    if config.only:
        splits = choose_classes(splits, config.only, place)
    if config.most_objects is not None:
        splits = _limited(splits, config.most_objects)
    warn_of_faults(place, splits)
    classes = next(iter(splits.values())).classes
    if len(classes) < config.least_classes:
        raise DataError(f"{place}: only the class {classes[0]!r}; at least two classes are needed")
    splits = with_test(splits, config.test, seed, config.group)
    splits = (
        _with_fold(splits, config)
        if config.fold
        else with_validation(splits, config.validation, seed, config.group)
    )
    for name, split in list(splits.items()):
        if not len(split) and name == "validation" and not config.fold:
            log.warning(
                "%s: too few images to hold out any for validation; the last checkpoint is used as"
                " the best",
                place,
            )
            del splits[name]
        elif not len(split):
            advice = {
                "test": "raise data.test",
                "validation": "lower data.fold.of",
                "train": "lower data.test",
            }[name]
            raise DataError(f"{place}: no image in the {name} split; add images, or {advice}")
    if config.limit:
        splits["train"] = limit(splits["train"], config.limit, f"{seed} limit")
    refuse_unlearnable(place, splits["train"])
    if config.least_classes:
        _warn_of_rare_classes(place, splits["train"])
    _warn_of_crossing_groups(place, splits, config)
    return splits


def _limited(splits: dict[str, Source], most: int) -> dict[str, Source]:
    """Keep at most `most` objects per image."""
    return {name: split.at_most(most) for name, split in splits.items()}


def warn_of_faults(place: str, splits: dict[str, Source]) -> None:
    """Log warnings about faults of annotations."""
    faults = sum_of_faults(
        annotation.faults for split in splits.values() for annotation in split.annotations
    )
    if faults:
        log.warning("%s: %s", place, faults_in_words(faults))


def open_source(section: Section, config: Data) -> dict[str, Source]:
    """Open the splits that the files have. Merged sources hold out missing splits.

    Raises:
        DataError: files are missing or damaged, most annotations can't be used, or a name isn't in
            UTF-8.
    """
    if isinstance(section, Merge):
        return _open_all(section, config)
    # The function of a format has the name of its module.
    splits: dict[str, Source] = getattr(_module(section), section.kind)(section)
    _refuse_undecoded_names(section.place, splits)
    refuse_lost_objects(section.place, splits)
    return splits


def damaged_files(section: Section) -> Iterator[tuple[str, bool]]:
    """Verify files with their digests, if the format has digests: yield each name, and True if the
    file is damaged.
    """
    if isinstance(section, Merge):
        for child in section.sources:
            yield from damaged_files(child)
    else:
        yield from getattr(_module(section), "damaged_files", lambda section: [])(section)


def _module(section: Section) -> ModuleType:
    return importlib.import_module(f"cvpipe.data.sources.{section.kind}")


def _open_all(section: Merge, config: Data) -> dict[str, Source]:
    """Open all sources. Each source holds out its missing splits, so that all sources have the same
    shares.
    """
    seed, group = config.split_seed, config.group
    children = [open_source(child, config) for child in section.sources]
    children = complete(children, "test", config.test, seed, group)
    if any("validation" in child for child in children) and not config.fold and config.validation:
        children = complete(children, "validation", config.validation, seed, group)
    return merge(children)


def _with_fold(splits: dict[str, Source], config: Data) -> dict[str, Source]:
    assert config.fold
    if "validation" in splits:
        log.warning(
            "%s: its validation split is unused, since data.fold takes its place",
            config.source.place,
        )
    seed = f"{config.split_seed} fold"
    train, validation = cut_fold(splits["train"], config.fold, seed, config.group)
    return {**splits, "train": train, "validation": validation}


def _refuse_undecoded_names(place: str, splits: Mapping[str, Source]) -> None:
    """Refuse names of classes and keypoints that can't be written to text files and artifacts."""
    for facts in (split.facts for split in splits.values()):
        for name in (*facts.class_names, *facts.keypoint_names):
            try:
                name.encode()
            except UnicodeEncodeError:
                raise DataError(f"{place}: the name '{name}' isn't in UTF-8; rename it") from None


def _warn_of_crossing_groups(place: str, splits: dict[str, Source], config: Data) -> None:
    crossing = crossing_groups(splits, config.group)
    if crossing:
        name, counts = next(iter(crossing.items()))
        log.warning(
            "%s: %s of data.group in several splits, such as %s in %s, so scores look better"
            " than they are; keep the images of a group in one split",
            place,
            counted(len(crossing), "group"),
            name,
            " and ".join(counts),
        )


def _warn_of_rare_classes(place: str, train: Source) -> None:
    for annotation in train.annotations:
        counts = annotation.counts(train.records, len(train.classes))
        if counts is None:
            continue
        for name, count in zip(train.classes, counts, strict=True):
            if count <= 1:
                number = "one" if count == 1 else "no"
                log.warning(
                    "%s: class '%s' has %s %s to train on, so its score is unreliable; add more",
                    place,
                    name,
                    number,
                    annotation.noun,
                )
