"""Training of a pipeline, from its configuration to the report."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.optimizer import Lbfgs, Plateau, Restarts
from cvpipe.data.known_splits import describe_splits
from cvpipe.data.mirroring import warn_of_mirroring
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.stream import training_batches
from cvpipe.errors import ConfigError, Interrupted, counted
from cvpipe.evaluation import batches_of, make_predict
from cvpipe.explain.explain import exported_methods
from cvpipe.interrupt import stop_on_signals
from cvpipe.tasks import load_task
from cvpipe.tasks.task import Task
from cvpipe.training.adversarial import with_attacks
from cvpipe.training.build import build_state
from cvpipe.training.checkpointer import Checkpointer
from cvpipe.training.checkpoints import read_newest
from cvpipe.training.distillation import with_teacher
from cvpipe.training.full_batch import check_full_batch, train_full_batch
from cvpipe.training.maintenance import stop_for_maintenance
from cvpipe.training.memory import (
    check_memory,
    check_variables,
    describe_size,
    free_memory,
    warn_of_repetition,
)
from cvpipe.training.parts import Parts
from cvpipe.training.progress import Progress
from cvpipe.training.recovery import EVALUATED, recover
from cvpipe.training.report import evaluate_run
from cvpipe.training.run import Run
from cvpipe.training.run_log import RunLog
from cvpipe.training.schedules import cycle_ends, last_step_of
from cvpipe.training.start import initialize
from cvpipe.training.state import State
from cvpipe.training.step import RunSteps, make_run_steps
from cvpipe.training.strategy import (
    any_worker,
    broadcast_from_chief,
    check_agreement,
    check_batch_size,
    is_chief,
    is_multi_worker,
    make_strategy,
)
from cvpipe.training.thawing import freeze_as_at
from cvpipe.training.validation import patience_is_over, validate
from cvpipe.training.workers import make_exchange, naming_lost_workers, share_of

# Errors that unreadable records may raise. Other errors, such as running out of memory, have other
# causes.
RECORD_ERRORS = (
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,
    tf.errors.UnimplementedError,
    tf.errors.UnknownError,
)


def train(config: Config, folder: Path, fresh: bool = False) -> dict[str, Any]:
    """Train a pipeline, or continue the run in `folder`. Then evaluate the run on the test split
    and write the report.

    Args:
        config: the pipeline.
        folder: folder of the run.
        fresh: True to rename the folder of an existing run and start a new run.

    Returns:
        The scores on the test split, "run", "report", "steps", and "ended", the reason of the end.

    Raises:
        Interrupted: stopped by a signal; everything is saved.
        UserError: the data or the pipeline can't be used, the loss is not finite, or too many
            records are bad.
    """
    # == Data, networks, optimizers. Errors of the pipeline are raised before the folder is created.
    strategy = make_strategy(config.train.strategy)
    check_batch_size(config, strategy.num_replicas_in_sync)
    splits = open_splits(config.data)
    source = splits["train"]
    with strategy.scope():
        task = with_teacher(load_task(config, source.facts), config, source.facts)
        task = with_attacks(task, config)
    _check_validation(config, task, splits)
    run = Run(folder, writes=is_chief(strategy))
    warn_of_repetition(config, len(source))
    warn_of_mirroring(config, source)
    check_variables(config, task, strategy, free_memory())
    state, schedule = build_state(config, task, len(source), strategy)
    check_memory(config, state.trained.values(), strategy, free_memory())
    if config.export.explain:
        # The export would refuse the same, but only after training.
        exported_methods(state.trained, task, config)
    predict = make_predict([state.networks], task, config)
    quarantines = {
        name: Quarantine(split, name, config.data.max_bad_share, run.quarantine_file)
        for name, split in splits.items()
    }
    full_batch = isinstance(config.optimizer, Lbfgs)
    if full_batch:
        check_full_batch(task, strategy)
        progress = Progress(config.train.epochs, len(source), 1)
    else:
        steps = last_step_of(config.train.epochs, config, len(source))
        batch_size = config.train.batch_size
        progress = Progress(steps, batch_size, len(source) / batch_size)

    with naming_lost_workers(strategy), run.locked() if run.writes else contextlib.nullcontext():
        # == Start or resume. Only the chief reads and changes the folder, which all workers must
        # share.
        resumes = run.writes and run.start(config, describe_splits(splits), fresh)
        if broadcast_from_chief(strategy, resumes):
            file, arrays = read_newest(run.checkpoint("last"), run.writes, progress.note)
            state.restore(arrays, file)
            check_agreement(strategy, int(state.step))
        else:
            run.log_weights(initialize(state.networks, source, config, task))
        run.forget_metrics_after(int(state.step))

        # == Train.
        validation = (
            batches_of(
                splits["validation"], task, config, quarantines["validation"], share_of(strategy)
            )
            if "validation" in splits
            else None
        )
        checkpointer = Checkpointer(config, run, strategy, state)
        log = RunLog(config, run, task, splits, progress)
        log.note(describe_size(config, state.trained.values(), strategy))
        if not int(state.step):
            log.start(predict)
        parts = Parts(
            config,
            run,
            task,
            splits,
            strategy,
            state,
            schedule,
            predict,
            quarantines,
            validation,
            make_exchange(strategy),
            checkpointer,
            log,
        )
        ended = train_full_batch(parts) if full_batch else train_steps(parts)
        log.close()

        # == End.
        result = {"run": str(folder), "steps": int(state.step), "ended": ended}
        if not run.writes:
            return result
        return {**evaluate_run(run), "report": str(run.report("test")), **result}


def train_steps(parts: Parts) -> str:
    """Train step by step from the current state to the end.

    Returns:
        The reason of the end: "finished" or "stopped early".
    """
    config, state, checkpointer = parts.config, parts.state, parts.checkpointer
    examples = len(parts.splits["train"])
    total_steps = last_step_of(config.train.epochs, config, examples)
    if int(state.step):
        parts.log.note(f"resuming at step {int(state.step)} of {total_steps}")

    # == Input. The whole run uses one stream, because a new stream has to fill its buffers. On one
    # replica, reading is guarded only after a bad record has occurred. On several replicas, reading
    # is always guarded, because a step can't be repeated on only some replicas.
    guarded = parts.strategy.num_replicas_in_sync > 1
    batches = _batches(parts, total_steps, guarded)
    run_steps, thawed = _thaw(parts), state.thawing.groups(int(state.step))
    if config.train.non_finite != "stop" and not int(state.step):
        checkpointer.save("last")
        checkpointer.save(EVALUATED)

    def retrain(last_step: int) -> None:
        again = _batches(parts, last_step, guarded)
        while (left := last_step - int(state.step)) > 0:
            run_steps(again, tf.constant(min(left, config.train.steps_per_call)))

    with stop_on_signals() as stop, stop_for_maintenance(parts.strategy, stop):
        for milestone in _milestones_ahead(config, examples, state):
            if patience_is_over(config, state):
                break

            # == Layers. If layers are unfrozen at this step, the training step needs a new graph.
            if state.thawing.groups(int(state.step)) > thawed:
                run_steps, thawed = _thaw(parts), state.thawing.groups(int(state.step))

            # == Steps. The first call runs one step and measures its time. Later calls last about a
            # second, so that Ctrl-C takes effect promptly.
            size = 1
            while (step := int(state.step)) < milestone.step:
                if any_worker(parts.strategy, stop.is_set()):
                    checkpointer.save("last")
                    raise Interrupted(
                        f"stopped at step {step} of {total_steps}; everything is saved. The same"
                        " command resumes the training"
                    )
                began = time.monotonic()
                try:
                    outcome = run_steps(batches, tf.constant(min(size, milestone.step - step)))
                except RECORD_ERRORS:
                    if guarded:
                        raise
                    # A record can't be read. Continue from the current step with guarded reading.
                    guarded = True
                    batches = _batches(parts, total_steps, guarded)
                    continue
                seconds = time.monotonic() - began
                step, steps = int(state.step), int(outcome["steps"])
                losses = {name: float(sum_) / steps for name, sum_ in outcome["losses"].items()}
                is_last = step == milestone.step
                saves = is_last or checkpointer.is_due()
                if not bool(outcome["finite"]) or (saves and not state.is_finite()):
                    recover(parts, step - 1, retrain)
                    batches = _batches(parts, total_steps, guarded)
                    continue
                parts.quarantines["train"].check()
                parts.log.trained(
                    step,
                    steps,
                    losses,
                    seconds,
                    epoch=step * config.train.batch_size / examples,
                    waited=float(outcome["waited"]),
                    learning_rate=float(parts.schedule(step - 1)),
                )
                size = _next_size(parts, steps, seconds)
                # Don't save here at a milestone: a run that resumed from this checkpoint would skip
                # the milestone's evaluation.
                if saves and not is_last:
                    checkpointer.save("last", in_background=True)

            # == Evaluation and checkpoints. Save "last" after all other checkpoints: a run that is
            # killed before then repeats this section with the same bits. Pictures follow.
            if milestone.epoch is not None:
                validate(parts, milestone.epoch)
            if milestone.snapshot is not None:
                checkpointer.save(f"snapshot-{milestone.snapshot}")
            if config.train.non_finite != "stop":
                checkpointer.save(EVALUATED)
            checkpointer.save("last")
            parts.log.draw(int(state.step))
            if parts.strategy.num_replicas_in_sync == 1:
                parts.log.look_into(int(state.step), state.networks)

    # == End.
    return "stopped early" if int(state.step) < total_steps else "finished"


class Milestone(NamedTuple):
    """A step after which the loop evaluates, saves or unfreezes layers."""

    step: int
    epoch: int | None
    """Epoch of the evaluation; None if there is none."""
    snapshot: int | None
    """Number of the snapshot, from 1; None if there is none."""


def _milestones_ahead(config: Config, examples: int, state: State) -> list[Milestone]:
    """Return the milestones after the state's step, in order. The last step is always evaluated."""
    epochs, every = config.train.epochs, config.train.evaluate_every
    total_steps = last_step_of(epochs, config, examples)
    # If a batch is larger than the split, several epochs end at the same step.
    evaluations = {
        last_step_of(epoch, config, examples): epoch
        for epoch in [*range(every, epochs, every), epochs]
    }
    snapshots: dict[int, int] = {}
    if config.train.snapshots and isinstance(config.schedule, Restarts):
        ends = cycle_ends(config.schedule, examples / config.train.batch_size, total_steps)
        snapshots = {end: number for number, end in enumerate(ends, 1) if end <= total_steps}
    thaws = {step for step in state.thawing.steps if step < total_steps}
    done = int(state.step)
    steps = sorted(end for end in evaluations.keys() | snapshots.keys() | thaws if end > done)
    return [Milestone(end, evaluations.get(end), snapshots.get(end)) for end in steps]


def _thaw(parts: Parts) -> RunSteps:
    """Unfreeze layers as planned for the state's step, and return the graph of the training
    step.
    """
    state, step = parts.state, int(parts.state.step)
    freeze_as_at(step, state.thawing, state.trained, parts.config)
    if state.thawing.steps:
        trained = sum(len(network.trainable_variables) for network in state.trained.values())
        parts.log.note(f"{counted(trained, 'variable')} trained from step {step} on")
    return make_run_steps(state, parts.task, parts.config, parts.strategy)


def _batches(parts: Parts, last_step: int, guarded: bool) -> Any:
    """Return an iterator of batches for the replicas of this process, beginning at the state's
    step.
    """
    quarantine = parts.quarantines["train"] if guarded else None

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        own = context.num_replicas_in_sync // context.num_input_pipelines
        return training_batches(
            parts.splits["train"],
            parts.config,
            parts.task.encode,
            quarantine,
            first_step=int(parts.state.step),
            last_step=last_step,
            shards=context.num_replicas_in_sync,
            first_shard=context.input_pipeline_id * own,
            own_shards=own,
        )

    return iter(parts.strategy.distribute_datasets_from_function(batches))


def _next_size(parts: Parts, steps: int, seconds: float) -> int:
    """Return the number of steps for the next call."""
    most = parts.config.train.steps_per_call
    if is_multi_worker(parts.strategy):
        # Workers synchronize after every call, so all workers need the same number.
        return min(most, 10)
    return max(1, min(most, int(steps / seconds)))


def _check_validation(config: Config, task: Task, splits: dict[str, Source]) -> None:
    if "validation" in splits:
        return
    if task.calibrate:
        raise ConfigError(
            f"task: {config.task}: needs a validation split, on which the network is calibrated;"
            " raise data.validation, or add images"
        )
    if config.train.early_stopping:
        raise ConfigError(
            "train.early_stopping: needs a validation split; raise data.validation, or leave"
            " early_stopping out"
        )
    if isinstance(config.schedule, Plateau):
        raise ConfigError(
            "schedule.kind: plateau needs a validation split; raise data.validation, or choose"
            " another schedule"
        )
