"""Score thresholds chosen on the validation split, so that other splits are scored fairly."""

from __future__ import annotations

import numpy as np

from cvpipe.data.facts import KnownData
from cvpipe.data.known_splits import open_split
from cvpipe.data.quarantine import Quarantine
from cvpipe.errors import ConfigError, DataError
from cvpipe.evaluation import Subject
from cvpipe.mistakes import load_review, readable

VALIDATION = "validation"


def validation_thresholds(subject: Subject, known: KnownData, split: str) -> np.ndarray | None:
    """Return the thresholds of `Review.thresholds` that are best on the validation split.

    Args:
        subject: the model and its data.
        known: description of the model's training data.
        split: name of the split to score.

    Returns:
        float64 [K]. None if the task has no thresholds, if `split` is the validation split itself,
        or if there is no validation split that the model wasn't trained on.
    """
    config = subject.config
    if subject.task.best_thresholds is None or split == VALIDATION:
        return None
    try:
        source = open_split(config, VALIDATION, known)
    except (ConfigError, DataError):
        return None
    review = load_review(config, subject.facts)
    quarantine = Quarantine(source, VALIDATION, config.data.max_bad_share)
    for batch, predictions in subject.answer(source, quarantine):
        usable = readable(batch, predictions)
        if len(usable.position):
            review.add(usable.predictions, usable.targets)
    quarantine.check()
    review.verdicts()
    return review.thresholds
