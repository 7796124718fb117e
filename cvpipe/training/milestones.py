"""Where a training looks up from its steps: evaluations, what they decide, and checkpoints."""

from __future__ import annotations

import math
import time

from cvpipe.config.optimizer import Plateau
from cvpipe.evaluation import evaluate
from cvpipe.training.progress import Progress
from cvpipe.training.schedules import after_evaluation
from cvpipe.training.setup import Setup
from cvpipe.training.showing import Showing
from cvpipe.training.state import write_checkpoint
from cvpipe.training.strategy import any_process


class Milestones:
    """What every kind of training does from time to time.

    Made when the training starts: it makes files in the run's folder.
    """

    def __init__(self, setup: Setup, progress: Progress):
        (
            self._config,
            self._run,
            self._task,
            self._splits,
            self._strategy,
            self._state,
            self._predict,
            self._quarantines,
        ) = setup
        self._progress = progress
        self.showing = Showing(self._config, self._run, self._task, self._splits)
        self._saved_at = time.monotonic()

    def save(self, which: str) -> None:
        """Writes the whole state as a checkpoint, in the process that writes."""
        # Reading some variables takes all workers, writing takes one.
        arrays = self._state.arrays()
        if self._run.writes:
            write_checkpoint(self._run.folder / "checkpoints" / f"{which}.npz", arrays)
        self._saved_at = time.monotonic()

    def checkpoint_is_due(self) -> bool:
        """Whether `train.checkpoint_minutes` have passed since the last, in any process; all of
        them must ask.
        """
        return any_process(
            self._strategy,
            time.monotonic() - self._saved_at > 60 * self._config.train.checkpoint_minutes,
        )

    def evaluate(self, epoch: int) -> None:
        """Scores the validation split, where there is one, keeps the best checkpoint, and notes how
        long there was no better one.
        """
        if "validation" not in self._splits:
            return
        state, name = self._state, self._task.BEST_BY
        with state.averaged_weights():
            scores = evaluate(
                self._predict,
                self._splits["validation"],
                self._task,
                self._config,
                quarantine=self._quarantines["validation"],
                watch=self.showing.watch,
            )
        self.showing.evaluated(int(state.step), epoch, scores)
        # A split without anything to find has no score, and no checkpoint is better than another.
        is_defined = not math.isnan(scores[name])
        score = scores[name] if is_defined else 0.0
        # Of equal scores the later one counts: its learning rate is lower. Patience waits for a
        # higher one.
        best, gained = score >= state.best_score, score > state.best_score
        state.evaluations_since_best = 0 if gained else state.evaluations_since_best + 1
        shown = (
            f"{score:.4f}{'  (best so far)' if best else ''}"
            if is_defined
            else "is undefined: there is nothing to find"
        )
        self._progress.note(f"epoch {epoch}/{self._config.train.epochs}  validation {name} {shown}")
        self._fall_on_plateau(gained)
        if best:
            state.best_score = score
            self.save("best")

    def patience_is_over(self) -> bool:
        """Whether `train.early_stopping` has waited long enough for a better score."""
        stopping = self._config.train.early_stopping
        return stopping is not None and self._state.evaluations_since_best >= stopping.patience

    def _fall_on_plateau(self, gained: bool) -> None:
        if not isinstance(self._config.schedule, Plateau):
            return
        state, before = self._state, float(self._state.rate_factor)
        factor, state.evaluations_waited = after_evaluation(
            self._config.schedule, before, state.evaluations_waited, gained
        )
        if factor != before:
            # Outside of any replica, so that the copies of all of them change.
            state.rate_factor.assign(factor)
            self._progress.note(
                f"no better score: the learning rate falls to {factor:.2g} of the highest"
            )
