"""Guards splits: fair shares of classes, and the effects of the seed and of more images."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from cvpipe.config.data import Fold
from cvpipe.data.sources import Source
from cvpipe.data.sources.constructors import classification_source
from cvpipe.data.sources.splits import (
    choose_classes,
    cut_fold,
    hold_out,
    limit,
    with_test,
    with_validation,
)
from cvpipe.errors import DataError
from labels import labels_of


def labeled(counts: list[int]) -> Source:
    """Return a source with counts[n] examples of class n, in mixed order."""
    labels = (
        np.random.default_rng(0)
        .permutation(np.repeat(np.arange(len(counts)), counts))
        .astype(np.int32)
    )
    return classification_source(tuple(map(str, range(len(counts)))), labels, lambda n: {}, str)


def counts_of(source: Source) -> list[int]:
    return np.bincount(labels_of(source), minlength=len(source.classes)).tolist()


# -- holding out


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.9])
def test_both_parts_together_contain_each_example_once_and_in_order(share: float) -> None:
    source = labeled([50, 30, 7, 1])
    stay, held = (part.records.tolist() for part in hold_out(source, share, "0 1"))
    assert sorted(stay + held) == list(range(88))
    assert stay == sorted(stay) and held == sorted(held)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_every_class_is_held_out_by_the_same_share(share: float) -> None:
    counts = [50, 30, 7, 2]
    stay, held = hold_out(labeled(counts), share, "0 1")
    for label, count in enumerate(counts):
        assert abs((labels_of(held) == label).sum() - share * count) <= 0.5
        assert (labels_of(stay) == label).sum() + (labels_of(held) == label).sum() == count


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_a_class_keeps_at_least_one_example(share: float) -> None:
    stay, held = hold_out(labeled([1, 2, 3, 0]), share, "0 1")
    np.testing.assert_array_equal(np.bincount(labels_of(stay), minlength=4)[:3] >= 1, True)
    assert not (labels_of(held) == 0).any()


def test_held_out_examples_depend_on_the_seed() -> None:
    source = labeled([50, 50])
    first, again, other = (
        hold_out(source, 0.2, seed)[1].records.tolist() for seed in ("3", "3", "4")
    )
    assert first == again != other


def test_held_out_examples_depend_on_names_not_on_positions() -> None:
    # With more examples of a class, the test split grows by four, and at most four of its former
    # examples are replaced.
    few, many = labeled([100]), labeled([120])
    before, after = (set(hold_out(source, 0.2, "0")[1].names()) for source in (few, many))
    kept_for_training = set(few.names()) - before
    assert len(after & kept_for_training) <= 4
    moved = dataclasses.replace(few, locate_record="/elsewhere/{}".format)
    assert set(hold_out(moved, 0.2, "0")[1].names()) == before


def test_names_of_any_bytes_can_be_ranked() -> None:
    source = dataclasses.replace(labeled([20]), name_record="\udcff{}".format)
    assert len(hold_out(source, 0.2, "0")[1]) == 4


def test_only_missing_splits_are_held_out() -> None:
    train, test = labeled([40, 40]), labeled([9, 9])
    given = with_validation(
        with_test({"train": train, "validation": test, "test": test}, 0.5, 0), 0.5, 0
    )
    assert given == {"train": train, "validation": test, "test": test}
    whole_set = with_test({"all": train}, 0.25, 0)
    assert {name: len(split) for name, split in whole_set.items()} == {"train": 60, "test": 20}
    assert whole_set["test"].names() == with_test({"train": train}, 0.25, 0)["test"].names()
    assert with_validation(whole_set, 0.0, 0) == whole_set


# -- folds


def folds(source: Source, of: int, seed: str = "0") -> list[tuple[Source, Source]]:
    return [cut_fold(source, Fold(of=of, index=index), seed) for index in range(of)]


@pytest.mark.parametrize("of", [2, 3, 5, 10])
@pytest.mark.parametrize("counts", [[50, 30, 7, 1], [1] * 13, [4, 4, 4, 4], [100]])
def test_folds_partition_a_split_evenly_class_by_class(of: int, counts: list[int]) -> None:
    source = labeled(counts)
    parts = folds(source, of)
    assert sorted(np.concatenate([part.records for _, part in parts])) == source.records.tolist()
    for others, part in parts:
        assert sorted([*others.records, *part.records]) == source.records.tolist()
        assert others.records.tolist() == sorted(others.records)
    sizes = np.array([counts_of(part) for _, part in parts])
    assert np.ptp(sizes, axis=0).max() <= 1
    assert np.ptp(sizes.sum(1)) <= 1


def test_folds_are_chosen_by_the_seed() -> None:
    source = labeled([30, 30])
    first, again, other = (
        [part.records.tolist() for _, part in folds(source, 3, seed)] for seed in ("0", "0", "1")
    )
    assert first == again != other


def test_more_images_move_few_images_to_other_folds() -> None:
    few, many = (folds(labeled([count]), 5) for count in (200, 210))
    before, after = (
        {name: index for index, (_, part) in enumerate(parts) for name in part.names()}
        for parts in (few, many)
    )
    assert sum(before[name] != after[name] for name in before) <= 20


# -- limits


@pytest.mark.parametrize(
    "counts, most, expected",
    [
        ([50, 30, 7, 1], 40, [16, 16, 7, 1]),
        ([50, 30, 7, 1], 1000, [50, 30, 7, 1]),
        ([50, 30], 50, [25, 25]),
        ([50, 3], 50, [47, 3]),
    ],
)
def test_a_limit_takes_the_same_number_of_each_class_if_possible(
    counts: list[int], most: int, expected: list[int]
) -> None:
    limited = limit(labeled(counts), most, "0")
    assert counts_of(limited) == expected
    assert limited.records.tolist() == sorted(limited.records)


@pytest.mark.parametrize("most", range(1, 25))
def test_a_limit_is_kept_exactly_and_classes_differ_by_one(most: int) -> None:
    counts = counts_of(limit(labeled([9, 8, 10]), most, "0"))
    assert sum(counts) == most and max(counts) - min(counts) <= 1


def test_a_larger_limit_includes_the_examples_of_a_smaller_limit() -> None:
    source = labeled([50, 50, 50])
    chosen = [set(limit(source, most, "0").names()) for most in (10, 40, 41, 100)]
    assert all(smaller < larger for smaller, larger in itertools.pairwise(chosen))
    assert set(limit(source, 40, "1").names()) != chosen[1]


def test_more_images_replace_few_of_the_images_within_the_limit() -> None:
    before, after = (set(limit(labeled([count]), 50, "0").names()) for count in (200, 220))
    assert len(before - after) <= 12


# -- classes


def test_only_examples_of_the_chosen_classes_are_left_with_labels_in_their_order() -> None:
    source = labeled([5, 6, 7])
    chosen = choose_classes(
        {"train": source, "test": source.subset(np.flatnonzero(labels_of(source) == 1))},
        ("2", "0"),
        "digits",
    )
    assert {split.classes for split in chosen.values()} == {("2", "0")}
    assert counts_of(chosen["train"]) == [7, 5] and len(chosen["test"]) == 0
    for record, label in zip(chosen["train"].records, labels_of(chosen["train"])):
        assert source.classes[labels_of(source)[record]] == ("2", "0")[label]


def test_the_error_of_an_unknown_class_names_the_most_similar_class() -> None:
    source = classification_source(("cat", "dog"), np.zeros(2), lambda n: {}, str)
    with pytest.raises(
        DataError,
        match=r"data.only: photos has no class 'cta'; did you mean 'cat'\? known: cat, dog",
    ):
        choose_classes({"all": source}, ("dog", "cta"), "photos")


def test_choosing_classes_of_data_without_classes_is_an_error() -> None:
    source = classification_source((), np.zeros(0), lambda n: {}, str)
    with pytest.raises(DataError, match=r"data.only: photos has no classes; leave data.only out"):
        choose_classes({"all": source}, ("dog",), "photos")
