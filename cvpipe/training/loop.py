"""The visible training loop: input, many steps a call, evaluation, checkpoints, and every way a run can end."""

from __future__ import annotations

import time
from types import ModuleType
from typing import Any

import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.order import batch_order
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source
from cvpipe.data.stream import training_batches
from cvpipe.errors import Interrupted, UserError
from cvpipe.evaluation import Predict, evaluate
from cvpipe.json_files import write_whole
from cvpipe.training.interrupt import stop_on_signals
from cvpipe.training.progress import Progress
from cvpipe.training.run import Run
from cvpipe.training.showing import Showing
from cvpipe.training.state import State, write_checkpoint
from cvpipe.training.step import Outcome, make_run_steps
from cvpipe.training.strategy import any_process, is_multi_worker

# What reading a record can end in; anything else, such as memory that runs out, is no fault of a record.
RECORD_ERRORS = (
    tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.PermissionDeniedError, tf.errors.DataLossError,
    tf.errors.FailedPreconditionError, tf.errors.UnimplementedError, tf.errors.UnknownError,
)


class Loop:
    """One training, from wherever its state is to its end."""

    def __init__(
        self,
        config: Config,
        run: Run,
        task: ModuleType,
        splits: dict[str, Source],
        strategy: tf.distribute.Strategy,
        state: State,
        predict: Predict,
        schedule: Any,
    ):
        self.config, self.run, self.task, self.splits, self.strategy = config, run, task, splits, strategy
        self.state, self.predict, self.schedule = state, predict, schedule
        self.steps_per_epoch = len(splits["train"]) / config.train.batch_size
        self.total_steps = last_step_of(config.train.epochs, config, len(splits["train"]))
        self.run_steps = make_run_steps(state.model, state.optimizer, task, config, strategy, state.step)
        share, file = config.data.max_bad_share, run.quarantine_file
        self.quarantines = {name: Quarantine(split, name, share, file) for name, split in splits.items()}
        # Several replicas can't be told to do half a step again, so there every record is read guardedly from the start.
        self.guarded = strategy.num_replicas_in_sync > 1
        self.progress = Progress(self.total_steps, config.train.batch_size, self.steps_per_epoch)

    def train(self) -> str:
        """Trains to the end.

        Returns:
            Why it ended: "finished" or "stopped early".

        Raises:
            Interrupted: asked to stop; everything is saved.
            UserError: the loss is not finite, or too many records are bad.
        """
        # Only now: it makes files in the run's folder.
        self.showing = Showing(self.config, self.run, self.task, self.splits)
        self.saved_at = time.monotonic()
        reached = int(self.state.step)
        if reached:
            self.progress.note(f"resuming at step {reached} of {self.total_steps}")
        else:
            self.showing.start(self.predict)
        with stop_on_signals() as stop:
            for last_step, epoch in self._evaluations_ahead():
                if self._patience_is_over():
                    break
                self._train_until(last_step, stop)
                self._evaluate(epoch)
                self.save("last")
        self.showing.close()
        return "stopped early" if int(self.state.step) < self.total_steps else "finished"

    def save(self, which: str) -> None:
        """Writes the whole state as a checkpoint, in the process that writes."""
        # Reading some variables takes all workers, writing takes one.
        arrays = self.state.arrays()
        if self.run.writes:
            write_checkpoint(self.run.folder / "checkpoints" / f"{which}.npz", arrays)
        self.saved_at = time.monotonic()

    def _evaluations_ahead(self) -> list[tuple[int, int]]:
        """The steps still ahead after which there is an evaluation, with their epochs; the last step is always among them."""
        epochs, every = self.config.train.epochs, self.config.train.evaluate_every
        # Where a batch holds several epochs, several end with the same step.
        due = {last_step_of(epoch, self.config, len(self.splits["train"])): epoch for epoch in [*range(every, epochs, every), epochs]}
        return [(step, epoch) for step, epoch in due.items() if step > int(self.state.step)]

    def _train_until(self, last_step: int, stop: Any) -> None:
        # The first call is one step, to learn how long one takes; then calls last about a second, so that Ctrl-C is prompt.
        calls, size = self._iterator(), 1
        while (step := int(self.state.step)) < last_step:
            if any_process(self.strategy, stop.is_set()):
                self.save("last")
                raise Interrupted(f"stopped at step {step} of {self.total_steps}; everything is saved. The same command resumes it")
            began = time.monotonic()
            try:
                outcome = self.run_steps(calls, tf.constant(min(size, last_step - step)))
            except RECORD_ERRORS:
                if self.guarded:
                    raise
                # A record can't be read. The stream's state is the step: go on from there, guardedly.
                self.guarded = True
                calls = self._iterator()
                continue
            seconds = time.monotonic() - began
            self._take_in(outcome, seconds)
            size = self._next_size(int(outcome["steps"]), seconds)
            due = time.monotonic() - self.saved_at > 60 * self.config.train.checkpoint_minutes
            # Not after the last step: what comes next is an evaluation, and a run resumed from here would leave it out.
            if any_process(self.strategy, due) and int(self.state.step) < last_step:
                self.save("last")

    def _next_size(self, steps: int, seconds: float) -> int:
        """Steps of the next call."""
        if is_multi_worker(self.strategy):
            # Workers agree after every call, so all must make the same calls.
            return min(self.config.train.steps_per_call, 10)
        return max(1, min(self.config.train.steps_per_call, int(steps / seconds)))

    def _iterator(self) -> Any:
        """Batches from the state's step on, for every replica of this process."""
        quarantine = self.quarantines["train"] if self.guarded else None

        def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
            own = context.num_replicas_in_sync // context.num_input_pipelines
            return training_batches(
                self.splits["train"], self.config, self.task.encode, quarantine,
                first_step=int(self.state.step), last_step=self.total_steps,
                shards=context.num_replicas_in_sync, first_shard=context.input_pipeline_id * own, own_shards=own,
            )

        return iter(self.strategy.distribute_datasets_from_function(batches))

    def _take_in(self, outcome: Outcome, seconds: float) -> None:
        """Shows and logs what a call did, and stops the run where it must not go on."""
        step, steps = int(self.state.step), int(outcome["steps"])
        losses = {name: float(value) / steps for name, value in outcome["losses"].items()}
        if not bool(outcome["finite"]):
            raise self._not_finite(step - 1)
        self.quarantines["train"].check()
        rate = self.progress.update(step, losses["loss"], steps, seconds, float(outcome["waited"]))
        learning_rate = float(self.schedule(step - 1))
        self.showing.trained(step, step / self.steps_per_epoch, steps, {**losses, **rate}, learning_rate)

    def _evaluate(self, epoch: int) -> None:
        if "validation" not in self.splits:
            return
        step = int(self.state.step)
        with self.state.averaged_weights():
            scores = evaluate(
                self.predict, self.splits["validation"], self.task, self.config, quarantine=self.quarantines["validation"],
                watch=self.showing.watch,
            )
        self.showing.evaluated(step, epoch, scores)
        score = scores[self.task.BEST_BY]
        # Of equal scores the later one counts: its learning rate is lower. Patience waits for a higher one.
        best = score >= self.state.best_score
        self.state.evaluations_since_best = 0 if score > self.state.best_score else self.state.evaluations_since_best + 1
        self.progress.note(f"epoch {epoch}/{self.config.train.epochs}  validation {self.task.BEST_BY} {score:.4f}"
                           f"{'  (best so far)' if best else ''}")
        if best:
            self.state.best_score = score
            self.save("best")

    def _patience_is_over(self) -> bool:
        stopping = self.config.train.early_stopping
        return stopping is not None and self.state.evaluations_since_best >= stopping.patience

    def _not_finite(self, step: int) -> UserError:
        """The error that says where a loss stopped being finite; `step` is counted from 0."""
        source = self.splits["train"]
        index, _ = batch_order(
            tf.constant(step, tf.int64), seed=self.config.seed, examples=len(source), batch_size=self.config.train.batch_size
        )
        names = [source.name(int(i)) for i in index]
        rate = float(self.schedule(step))
        file = self.run.folder / "not_finite.json"
        if self.run.writes:
            write_whole(file, {"step": step, "learning_rate": rate, "examples": names})
        last = self.run.checkpoint("last")
        kept = f"{last} still holds the last good state" if last.exists() else "no checkpoint was written"
        return UserError(
            f"the loss is not finite at step {step} (learning rate {rate:g}, batch: {', '.join(names[:4])}, … all in {file}); {kept}. "
            f"Lower optimizer.learning_rate, add schedule.warmup_epochs, or look at these examples"
        )


def last_step_of(epoch: int | float, config: Config, examples: int) -> int:
    """The number of steps after which every example has been seen `epoch` times."""
    return -int(-epoch * examples // config.train.batch_size)
