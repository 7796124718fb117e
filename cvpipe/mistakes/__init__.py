"""Mistakes of a model: judged, counted and drawn, with one file per task.

Dimensions: N examples.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from matplotlib.figure import Figure

from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.documents import Table
from cvpipe.errors import ConfigError

Arrays = Mapping[str, np.ndarray]
Cell = str | int | float
LONGEST = 480
"""Longer side in pixels of a photo on the page, which may have hundreds of photos."""


class Verdict(NamedTuple):
    """The judgment of an example's answer."""

    mistakes: int
    """Number of mistakes; 0 for a right answer."""
    cost: float
    """Larger for worse answers, regardless of the number of mistakes; at least 0."""
    score: float
    """Share of the answer that is right, in [0, 1]; nan if there is nothing to find."""
    cells: Mapping[str, Cell]
    """Cells of the answer's row in a table, by column heading; the same columns for all
    examples.
    """
    doubt: float | None = None
    """Degree to which the label seems wrong, meaningful for models that weren't trained on the
    image; None to use `cost` instead.
    """


class Finding(NamedTuple):
    """A finding about all answers together."""

    title: str
    text: str
    table: Table | None = None
    figure: Figure | None = None


class Review(Protocol):
    """Judges the answers of a task.

    Call `add` for all batches, then `verdicts`, then `findings` and `draw`.
    """

    thresholds: np.ndarray | None
    """Score threshold of each class, float64 [K]. If None, `verdicts` chooses it on the added
    examples; stays None if the task has no thresholds.
    """

    def add(self, predictions: Arrays, targets: Arrays) -> None:
        """Add a batch of readable examples, [N, …] each."""
        ...

    def groups(self, predictions: Arrays, targets: Arrays) -> Mapping[str, Sequence[str]]:
        """Return groups of a batch's examples for which scores are computed separately.

        Maps each kind of grouping to N names, one per example.
        """
        ...

    def verdicts(self) -> list[Verdict]:
        """Return the verdict on each example, in the order in which they were added."""
        ...

    def findings(self, scores: Mapping[str, Any]) -> list[Finding]:
        """Return tables and figures, given the scores of the task's metrics."""
        ...

    def draw(self, pixels: np.ndarray, predictions: Arrays, targets: Arrays) -> Figure:
        """Draw one image uint8 [H, W, C], at its own size, with its answer and its truth, [1, …]
        each.
        """
        ...


class Readable(NamedTuple):
    """The N readable examples of a batch."""

    position: np.ndarray
    """int64 [N]: positions in the split."""
    predictions: Arrays
    targets: Arrays


def readable(batch: Mapping[str, Any], predictions: Arrays) -> Readable:
    """Select the readable examples of a batch and their answers."""
    chosen = batch["weight"] > 0
    return Readable(
        batch["index"][chosen],
        {name: value[chosen] for name, value in predictions.items()},
        {name: value[chosen] for name, value in batch["targets"].items()},
    )


def load_review(config: Config, facts: Facts) -> Review:
    """Return a new review of the pipeline's task.

    Raises:
        ConfigError: the mistakes of this task can't be listed.
    """
    if not has_review(config):
        raise ConfigError(
            f"task: {config.task}: its mistakes can't be listed; leave --mistakes out"
        )
    module = importlib.import_module(f"cvpipe.mistakes.{config.task}")
    review: Review = module.make_review(config, facts)
    return review


def has_review(config: Config) -> bool:
    """Return True if the answers of the pipeline's task can be judged one by one."""
    return importlib.util.find_spec(f"cvpipe.mistakes.{config.task}") is not None
