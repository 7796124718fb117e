"""Errors about data without anything to learn."""

from __future__ import annotations

from collections.abc import Mapping

from cvpipe.data.annotations.faults import faults_in_words, only_faults
from cvpipe.data.sources.coco_masks import OUTLINE_FAULTS
from cvpipe.data.sources.objects import LOSSES
from cvpipe.data.sources.source import Source
from cvpipe.errors import DataError, counted


def refuse_lost_objects(place: str, splits: Mapping[str, Source]) -> None:
    """Raise an error if most objects of a split are invalid.

    Raises:
        DataError: more objects were dropped than kept, or none is left for training.
    """
    train = splits["train" if "train" in splits else "all"]
    refuse_unlearnable(place, train)
    for name, split in splits.items():
        for annotation in split.annotations:
            left = annotation.learnable(split.records, split.annotations)
            losses = only_faults(annotation.faults, (*LOSSES, *OUTLINE_FAULTS))
            lost = sum(sum(counts.values()) for counts in losses.values())
            if left is not None and lost > left:
                where = "" if name == "all" else f" in the {name} split"
                raise DataError(
                    f"{place}: {lost:,} of {counted(lost + left, 'object')}{where} can't be used;"
                    f" {faults_in_words(annotation.faults)}. Correct the annotations"
                )


def refuse_unlearnable(place: str, train: Source) -> None:
    """Raise an error if a training split has nothing to learn.

    Raises:
        DataError: an annotation counts 0 learnable items.
    """
    for annotation in train.annotations:
        if annotation.learnable(train.records, train.annotations) == 0:
            faults = annotation.faults
            why = f"; {faults_in_words(faults)}" if faults else ""
            raise DataError(
                f"{place}: nothing to learn in {counted(len(train), 'training image')}:"
                f" {annotation.unlearnable}{why}. Correct the annotations, or data.source if it"
                " names the wrong files"
            )
