"""Pictures of examples, answers and scores, drawn by matplotlib: one file per task."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from cvpipe.config import Config
from cvpipe.data.facts import Facts

Arrays = Mapping[str, np.ndarray]


class Pictures(NamedTuple):
    """The pictures of a task, bound to a pipeline and to the facts of its data."""

    draw_targets: Callable[[np.ndarray, Arrays], Figure]
    """Draws prepared images uint8 [N, H, W, C] with their targets."""
    draw_answers: Callable[[np.ndarray, Arrays, Arrays], Figure]
    """Draws prepared images uint8 [N, H, W, C] with their targets and the answers."""
    draw_scores: Callable[[Mapping[str, Any]], dict[str, Figure]]
    """Draws the scores and counts of the task's metrics: figures by name."""
    draw_answer: Callable[[np.ndarray, Mapping[str, Any], Mapping[str, float | int]], Figure]
    """Draws one image uint8 [H, W, C] at its own size, with its answer from `answers.to_answer`,
    given the settings of the answer.
    """
    kinds: Callable[[Arrays, Arrays], np.ndarray]
    """Maps the targets and answers of N examples to numbers of kinds, int64 [N]. An example of a
    kind is "class 3, answered correctly". Pictures show examples of every kind.
    """


def load_pictures(config: Config, facts: Facts) -> Pictures | None:
    """Return the pictures of the pipeline's task; None if the task has no file here."""
    name = f"cvpipe.pictures.{config.task}"
    if importlib.util.find_spec(name) is None:
        return None
    pictures: Pictures = importlib.import_module(name).make_pictures(config, facts)
    return pictures
