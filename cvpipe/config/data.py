"""Data of a pipeline: its source, splits and cross-validation folds."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from cvpipe.config.classes import ClassList
from cvpipe.config.group import Group
from cvpipe.config.section import MOST, Count, Section, Seed, Share, Whole, misfit
from cvpipe.config.source import Source


class Fold(Section):
    """One fold of a cross-validation."""

    of: Annotated[int, Field(ge=2, le=MOST)] = 5
    """Number of folds, which have about equal sizes and are stratified by class."""
    index: Whole = 0
    """Index of the fold for validation, from 0; the others are for training."""

    @model_validator(mode="after")
    def _index_is_below_count(self) -> Fold:
        if self.index >= self.of:
            raise ValueError(
                f"index is {self.index}, but must be below 'of', {self.of}; folds count from 0"
            )
        return self


class Data(Section):
    """Source of the labeled images, and the splits made of it."""

    least_classes: ClassVar[int] = 2
    """Smallest number of classes that can be learned."""

    source: Source
    """The format, by its `kind`, and where the files are."""
    validation: Share = 0.1
    """Share of each class of the training split that is held out to choose the best checkpoint;
    unused if the source has a validation split.
    """
    test: Share = 0.2
    """Share of each class that is held out for testing; unused if the source has a test split."""
    split_seed: Seed = 0
    """Random seed of held-out splits and of `limit`. It is separate from the pipeline's `seed`, so
    runs with different seeds have the same splits and can form an ensemble.
    """
    fold: Fold | None = None
    """Cross-validation: replaces the validation split; `validation` is ignored."""
    group: Group | None = None
    """Images that belong together, which held-out splits and folds keep in one split. Groups that
    are in several of the source's own splits are reported.
    """
    only: ClassList = ()
    """The classes to use, in this order; empty: all."""
    limit: Count | None = None
    """Largest number of training images, balanced over the classes and chosen at random by
    `split_seed`.
    """
    max_bad_share: Share = 0.05
    """Largest share of unreadable records in a split. The run stops if there are more; otherwise
    they are left out and reported.
    """

    @property
    def most_objects(self) -> int | None:
        """Largest number of objects per image; None: unlimited."""
        return None

    @model_validator(mode="after")
    def _enough_classes(self) -> Data:
        if 0 < len(self.only) < self.least_classes:
            raise misfit(
                "data.only",
                "data.only: one class can't be distinguished from others; name at least two",
            )
        return self
