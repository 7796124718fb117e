"""Selection of examples: held-out splits, folds, limits, chosen classes.

Examples are ranked by hash, so the selection changes little when data is added. A class here is a
stratum of the source.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Mapping, Sequence

import numpy as np

from cvpipe.config.data import Fold
from cvpipe.config.group import Group
from cvpipe.data.sources.groups import group_names, share_out
from cvpipe.data.sources.source import Source
from cvpipe.errors import DataError, counted, suggest

log = logging.getLogger(__name__)

Splits = dict[str, Source]


def hold_out(
    source: Source, share: float, seed: str, group: Group | None = None
) -> tuple[Source, Source]:
    """Split a source in two, stratified by class. Return the rest, and the held-out part of size
    `share`.

    Examples are ranked by a hash of the seed and their name, so adding examples moves few other
    examples, and the location of the data doesn't matter. A class keeps at least one example; both
    parts keep the source's order. With groups, whole groups are held out, by `share_out`.
    """
    if group:
        return _hold_out_groups([source], share, seed, group)[0]
    held = np.zeros(len(source), bool)
    for members in _ranked(source, _hashes(source, seed)):
        count = min(round(len(members) * share), len(members) - 1)
        held[members[: max(count, 0)]] = True
    return source.subset(np.flatnonzero(~held)), source.subset(np.flatnonzero(held))


def _hold_out_groups(
    sources: Sequence[Source], share: float, seed: str, group: Group
) -> list[tuple[Source, Source]]:
    """Split each source in two; a group in several sources is held out of all or of none."""
    names = [name for source in sources for name in group_names(source, group)]
    sizes = np.cumsum([0, *map(len, sources)])
    if share:
        # The same stratum number means different classes in different sources.
        strata = np.unique(
            [(n, stratum) for n, source in enumerate(sources) for stratum in source.strata()],
            axis=0,
            return_inverse=True,
        )[1].reshape(-1)
        held = share_out(names, strata, (1 - share, share), seed, fill_first=True) == 1
    else:
        held = np.zeros(len(names), bool)
    parts = [held[begin:end] for begin, end in itertools.pairwise(sizes)]
    return [
        (source.subset(np.flatnonzero(~part)), source.subset(np.flatnonzero(part)))
        for source, part in zip(sources, parts, strict=True)
    ]


def cut_fold(
    source: Source, fold: Fold, seed: str, group: Group | None = None
) -> tuple[Source, Source]:
    """Split a source in two. Return all other folds, and the given fold.

    Sizes of folds differ by at most one, also within each class. Examples are ranked as in
    `hold_out`. With groups, sizes differ by at most the largest group.
    """
    if group:
        shares, names = [1 / fold.of] * fold.of, group_names(source, group)
        chosen = share_out(names, source.strata(), shares, seed, fill_first=False) == fold.index
        return source.subset(np.flatnonzero(~chosen)), source.subset(np.flatnonzero(chosen))
    chosen = np.zeros(len(source), bool)
    spare = 0
    for members in _ranked(source, _hashes(source, seed)):
        # Remainders go to the folds in turn, continuing from class to class.
        sizes = np.full(fold.of, len(members) // fold.of)
        extra = (spare + np.arange(len(members) % fold.of)) % fold.of
        sizes[extra] += 1
        spare += len(extra)
        begin = int(sizes[: fold.index].sum())
        chosen[members[begin : begin + sizes[fold.index]]] = True
    return source.subset(np.flatnonzero(~chosen)), source.subset(np.flatnonzero(chosen))


def limit(source: Source, most: int, seed: str) -> Source:
    """Return at most `most` examples, balanced over the classes and ranked as in `hold_out`."""
    hashes, turn = _hashes(source, seed), np.zeros(len(source), np.int64)
    for members in _ranked(source, hashes):
        turn[members] = np.arange(len(members))
    # Classes take turns, with one example each, until they run out of examples. If the last turn is
    # incomplete, hashes decide.
    return source.subset(np.sort(np.lexsort((hashes, turn))[:most]))


def choose_classes(splits: Splits, classes: tuple[str, ...], place: str) -> Splits:
    """Return the examples of some classes, with labels in the order of `classes`; raises DataError
    for a missing class.
    """
    known = next(iter(splits.values())).classes
    if not known:
        raise DataError(f"data.only: {place} has no classes; leave data.only out")
    for name in classes:
        if name not in known:
            raise DataError(f"data.only: {place} has no class '{name}'; {suggest(name, known)}")
    return {name: split.relabel(classes) for name, split in splits.items()}


def with_test(splits: Splits, share: float, seed: int, group: Group | None = None) -> Splits:
    """Hold out a test split if there is none; "all" becomes the training split."""
    return complete([splits], "test", share, seed, group)[0]


def with_validation(splits: Splits, share: float, seed: int, group: Group | None = None) -> Splits:
    """Hold out a validation split from the training split if there is none and the share isn't
    0.
    """
    return complete([splits], "validation", share, seed, group)[0] if share else splits


def complete(
    children: Sequence[Splits], wanted: str, share: float, seed: int, group: Group | None
) -> list[Splits]:
    """Hold out the split `wanted` of each source that lacks it, with the same groups for all."""
    lacking = [splits for splits in children if wanted not in splits]
    whole = [splits["all" if "all" in splits else "train"] for splits in lacking]
    seeded = f"{seed} {wanted}"
    if group and whole:
        pairs = _hold_out_groups(whole, share, seeded, group)
    else:
        pairs = [hold_out(source, share, seeded) for source in whole]
    made = iter(
        {**splits, "train": train, wanted: held}
        for splits, (train, held) in zip(lacking, pairs, strict=True)
    )
    return [splits if wanted in splits else _in_order(next(made)) for splits in children]


def _in_order(splits: Splits) -> Splits:
    return {name: splits[name] for name in ("train", "test", "validation") if name in splits}


def check_folder_splits(place: str, examples: Mapping[str, str]) -> None:
    """Check splits that were found by folder names.

    `examples` maps each split to one of its files; "all" stands for files in no split's folder.

    Raises:
        DataError: the training split is missing, or some files belong to no split.
    """
    if len(examples) > 1 and "all" in examples:
        raise DataError(
            f"{place}: {examples['all']} is in no split's folder, unlike other files; move it"
            " into a folder named train, val or test"
        )
    if examples and not examples.keys() & {"train", "all"}:
        raise DataError(
            f"{place}: there are files of {' and '.join(examples)}, such as"
            f" {next(iter(examples.values()))}, but none of train; name the folder of the training"
            " split train"
        )


def warn_of_leaks(place: str, names: Mapping[str, Sequence[str]]) -> None:
    """Warn of splits that share images with the training split, given the images' names."""
    trained = set(names.get("train", ()))
    for split, listed in names.items():
        both = [name for name in listed if name in trained]
        if both and split != "train":
            log.warning(
                "%s: the training split has %s of the %s split too, such as %s; scores on the %s"
                " split will be too good",
                place,
                counted(len(both), "image"),
                split,
                both[0],
                split,
            )


def _ranked(source: Source, hashes: np.ndarray) -> list[np.ndarray]:
    """Return, for each class, the positions of its examples in the order of their hashes."""
    strata = source.strata()
    members = (np.flatnonzero(strata == stratum) for stratum in np.unique(strata))
    return [positions[np.argsort(hashes[positions], kind="stable")] for positions in members]


def _hashes(source: Source, seed: str) -> np.ndarray:
    lines = (f"{seed} {name}".encode("utf-8", "surrogateescape") for name in source.names())
    return np.array([hashlib.blake2b(line, digest_size=8).digest() for line in lines], dtype="S8")
