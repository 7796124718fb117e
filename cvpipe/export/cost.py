"""Change of the score if a model is exported in another precision than that of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cvpipe.data.facts import KnownData
from cvpipe.data.known_splits import open_split
from cvpipe.data.quarantine import Quarantine
from cvpipe.evaluation import Predict, evaluate, numbers
from cvpipe.training.trained import Trained

SPLIT = "test"


class Cost(NamedTuple):
    """Scores in two precisions."""

    score: str
    """Name of the score that selects the best checkpoint."""
    trained: float
    """Value of the score in the precision of training."""
    exported: float
    """Value of the score in the precision of the exported model."""


def measure_cost(
    trained: Trained,
    predict: Predict,
    known: KnownData,
    reported: Mapping[str, Mapping[str, float]],
) -> tuple[Cost, dict[str, dict[str, float]]]:
    """Evaluate a model in the precision of training and in another precision.

    Args:
        predict: the prediction function in the other precision.
        known: the data of the run.
        reported: scores by split in the precision of training, if a report has them.

    Returns:
        The cost, and the scores of `predict` by split.
    """
    before = reported.get(SPLIT) or scores_of(trained.predict, trained, known)
    after = scores_of(predict, trained, known)
    best = trained.task.best_by.score
    return Cost(best, before[best], after[best]), {SPLIT: after}


def scores_of(predict: Predict, trained: Trained, known: KnownData) -> dict[str, float]:
    """Return the scores of a prediction function on the test split."""
    config = trained.config
    source = open_split(config, SPLIT, known)
    quarantine = Quarantine(source, SPLIT, config.data.max_bad_share)
    return numbers(evaluate(predict, source, trained.task, config, quarantine=quarantine))
