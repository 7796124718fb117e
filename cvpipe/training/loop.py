"""The visible training loop: input, many steps a call, evaluation, checkpoints, and every way a run
can end.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.optimizer import Restarts
from cvpipe.data.order import batch_order
from cvpipe.data.stream import training_batches
from cvpipe.errors import Interrupted, UserError
from cvpipe.interrupt import stop_on_signals
from cvpipe.json_files import write_whole
from cvpipe.training.milestones import Milestones
from cvpipe.training.progress import Progress
from cvpipe.training.schedules import cycle_ends
from cvpipe.training.setup import Setup
from cvpipe.training.step import Outcome, make_run_steps
from cvpipe.training.strategy import any_process, is_multi_worker

# What reading a record can end in; anything else, such as memory that runs out, is no fault of a
# record.
RECORD_ERRORS = (
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,
    tf.errors.UnimplementedError,
    tf.errors.UnknownError,
)


class Due(NamedTuple):
    """What there is to do after a step."""

    step: int
    epoch: int | None
    """The epoch to evaluate as, where there is an evaluation."""
    snapshot: int | None
    """The number of the snapshot, counted from 1, where one is taken."""


class Loop:
    """One training, from wherever its state is to its end."""

    def __init__(self, setup: Setup, schedule: Any):
        self.setup, self.schedule = setup, schedule
        (
            self.config,
            self.run,
            self.task,
            self.splits,
            self.strategy,
            self.state,
            self.predict,
            self.quarantines,
        ) = setup
        batch_size, examples = self.config.train.batch_size, len(self.splits["train"])
        self.steps_per_epoch = examples / batch_size
        self.total_steps = last_step_of(self.config.train.epochs, self.config, examples)
        self.run_steps = make_run_steps(
            self.state.model,
            self.state.optimizer,
            self.task,
            self.config,
            self.strategy,
            self.state.step,
        )
        # Several replicas can't be told to do half a step again, so there every record is read
        # guardedly from the start.
        self.guarded = self.strategy.num_replicas_in_sync > 1
        self.progress = Progress(self.total_steps, batch_size, self.steps_per_epoch)

    def train(self) -> str:
        """Trains to the end.

        Returns:
            Why it ended: "finished" or "stopped early".

        Raises:
            Interrupted: asked to stop; everything is saved.
            UserError: the loss is not finite, or too many records are bad.
        """
        # Only now: it makes files in the run's folder.
        self.milestones = Milestones(self.setup, self.progress)
        reached = int(self.state.step)
        if reached:
            self.progress.note(f"resuming at step {reached} of {self.total_steps}")
        else:
            self.milestones.showing.start(self.predict)
        # One for the whole training: a new one has to fill up first.
        self._batches = self._iterator()
        with stop_on_signals() as stop:
            for due in self._due_ahead():
                if self.milestones.patience_is_over():
                    break
                self._train_until(due.step, stop)
                if due.epoch is not None:
                    self.milestones.evaluate(due.epoch)
                if due.snapshot is not None:
                    self.milestones.save(f"snapshot-{due.snapshot}")
                # Last: until then a run that is killed does all of this again, to the same bits.
                self.milestones.save("last")
        self.milestones.showing.close()
        return "stopped early" if int(self.state.step) < self.total_steps else "finished"

    def _due_ahead(self) -> list[Due]:
        """Evaluations and snapshots still ahead, in order; there is an evaluation after the last
        step.
        """
        epochs, every = self.config.train.epochs, self.config.train.evaluate_every
        # Where a batch holds several epochs, several end with the same step.
        examples = len(self.splits["train"])
        evaluations = {
            last_step_of(epoch, self.config, examples): epoch
            for epoch in [*range(every, epochs, every), epochs]
        }
        snapshots: dict[int, int] = {}
        if self.config.train.snapshots and isinstance(self.config.schedule, Restarts):
            ends = cycle_ends(self.config.schedule, self.steps_per_epoch, self.total_steps)
            snapshots = {
                step: number for number, step in enumerate(ends, 1) if step <= self.total_steps
            }
        steps = sorted(
            step for step in evaluations.keys() | snapshots.keys() if step > int(self.state.step)
        )
        return [Due(step, evaluations.get(step), snapshots.get(step)) for step in steps]

    def _train_until(self, last_step: int, stop: Any) -> None:
        # The first call is one step, to learn how long one takes; then calls last about a second,
        # so that Ctrl-C is prompt.
        size = 1
        while (step := int(self.state.step)) < last_step:
            if any_process(self.strategy, stop.is_set()):
                self.milestones.save("last")
                raise Interrupted(
                    f"stopped at step {step} of {self.total_steps}; everything is saved. The same"
                    " command resumes it"
                )
            began = time.monotonic()
            try:
                outcome = self.run_steps(self._batches, tf.constant(min(size, last_step - step)))
            except RECORD_ERRORS:
                if self.guarded:
                    raise
                # A record can't be read. The stream's state is the step: go on from there,
                # guardedly.
                self.guarded = True
                self._batches = self._iterator()
                continue
            seconds = time.monotonic() - began
            self._take_in(outcome, seconds)
            size = self._next_size(int(outcome["steps"]), seconds)
            # Not after the last step: what comes next is an evaluation, and a run resumed from here
            # would leave it out.
            if self.milestones.checkpoint_is_due() and int(self.state.step) < last_step:
                self.milestones.save("last")

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
                self.splits["train"],
                self.config,
                self.task.encode,
                quarantine,
                first_step=int(self.state.step),
                last_step=self.total_steps,
                shards=context.num_replicas_in_sync,
                first_shard=context.input_pipeline_id * own,
                own_shards=own,
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
        self.milestones.showing.trained(
            step, step / self.steps_per_epoch, steps, {**losses, **rate}, learning_rate
        )

    def _not_finite(self, step: int) -> UserError:
        """The error that says where a loss stopped being finite; `step` is counted from 0."""
        source = self.splits["train"]
        index, _ = batch_order(
            tf.constant(step, tf.int64),
            seed=self.config.seed,
            examples=len(source),
            batch_size=self.config.train.batch_size,
        )
        names = [source.name(int(i)) for i in index]
        rate = float(self.schedule(step))
        file = self.run.folder / "not_finite.json"
        if self.run.writes:
            write_whole(file, {"step": step, "learning_rate": rate, "examples": names})
        last = self.run.checkpoint("last")
        kept = (
            f"{last} still holds the last good state"
            if last.exists()
            else "no checkpoint was written"
        )
        return UserError(
            f"the loss is not finite at step {step} (learning rate {rate:g}, batch:"
            f" {', '.join(names[:4])}, … all in {file}); {kept}. Lower optimizer.learning_rate, add"
            " schedule.warmup_epochs, or look at these examples"
        )


def last_step_of(epoch: int | float, config: Config, examples: int) -> int:
    """The number of steps after which every example has been seen `epoch` times."""
    return -int(-epoch * examples // config.train.batch_size)
