"""Evaluation during training: best checkpoint, plateau schedule, early stopping."""

from __future__ import annotations

import math

from cvpipe.config import Config
from cvpipe.config.optimizer import Plateau
from cvpipe.evaluation import evaluate
from cvpipe.training.parts import Parts
from cvpipe.training.schedules import after_evaluation
from cvpipe.training.state import State


def validate(parts: Parts, epoch: int) -> None:
    """Evaluate the validation split, if there is one, and save the best checkpoint."""
    if "validation" not in parts.splits:
        return
    config, state, best_by = parts.config, parts.state, parts.task.best_by
    with state.averaged_weights():
        scores = evaluate(
            parts.predict,
            parts.splits["validation"],
            parts.task,
            config,
            quarantine=parts.quarantines["validation"],
            watch=parts.log.watch,
            batches=parts.validation,
            exchange=parts.exchange,
        )
    if parts.task.calibrate:
        # Calibrate after the trained weights are restored, because calibration changes variables.
        parts.task.calibrate(state.networks, scores)
    parts.log.evaluated(int(state.step), epoch, scores)
    score = scores[best_by.score]
    merit = best_by.merit(score)
    # If scores are equal, keep the later checkpoint, because its learning rate is lower. For early
    # stopping, only higher scores count as better.
    is_best, gained = merit >= state.best_score, merit > state.best_score
    state.evaluations_since_best = 0 if gained else state.evaluations_since_best + 1
    rank = "  (best so far)" if gained else "  (equals the best)" if is_best else ""
    shown = (
        "is undefined: the split has no targets for it"
        if math.isnan(score)
        else f"{score:.4f}{rank}"
    )
    parts.log.note(f"epoch {epoch}/{config.train.epochs}  validation {best_by.score} {shown}")
    _update_plateau(parts, gained)
    if is_best:
        state.best_score = merit
        parts.checkpointer.save("best")


def patience_is_over(config: Config, state: State) -> bool:
    """Return True if early stopping's patience is exhausted."""
    stopping = config.train.early_stopping
    return stopping is not None and state.evaluations_since_best >= stopping.patience


def _update_plateau(parts: Parts, gained: bool) -> None:
    if not isinstance(parts.config.schedule, Plateau):
        return
    state, before = parts.state, float(parts.state.rate_factor)
    factor, state.evaluations_waited = after_evaluation(
        parts.config.schedule, before, state.evaluations_waited, gained
    )
    if factor != before:
        # Assign outside of replicas, so that all copies change.
        state.rate_factor.assign(factor)
        parts.log.note(
            f"no better score: reducing the learning rate to {factor:.2g} times the initial rate"
        )
