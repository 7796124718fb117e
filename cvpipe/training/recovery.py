"""Recovery from NaN or infinite losses, as `train.non_finite` configures.

"skip" returns to the newest checkpoint, repeats the steps up to the bad batch and skips the batch.
"reduce" returns to the state of the last evaluation and continues at half the learning rate. The
result does not depend on the times at which checkpoints were written.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cvpipe.atomic_write import atomic_write
from cvpipe.data.order import batch_examples
from cvpipe.data.stream import training_batches
from cvpipe.errors import UserError, counted
from cvpipe.json_files import write_json
from cvpipe.training.checkpoints import earlier_checkpoints, read_checkpoint
from cvpipe.training.parts import Parts
from cvpipe.training.strategy import any_worker

MOST = 3
"""Maximum number of recoveries per run."""
EVALUATED = "evaluated"
"""Name of the checkpoint to which "reduce" returns. It is written at the start and after each
evaluation.
"""


def recover(parts: Parts, step: int, retrain: Callable[[int], None]) -> None:
    """Skip the batch of a step whose loss is not finite, or return to the last evaluation.

    Args:
        parts: objects of the run.
        step: the first step, counted from 0, after which loss or weights were not finite.
        retrain: trains from the state's step to a given step.

    Raises:
        UserError: `train.non_finite` is "stop", or the run has already recovered `MOST` times.
    """
    state, policy = parts.state, parts.config.train.non_finite
    parts.checkpointer.finish()
    if policy == "stop" or state.recoveries == MOST:
        raise _not_finite(parts, step)
    count = state.recoveries + 1
    if policy == "reduce":
        # The factor changes only at evaluations, so this is also the factor at the bad step.
        factor = float(state.rate_factor) / 2
        _restore(parts, parts.run.checkpoint(EVALUATED))
        state.rate_factor.assign(factor)
        done = (
            f"returning to step {int(state.step)} with {factor:.2g} times the scheduled learning"
            " rate"
        )
    else:
        # Only the chief writes the newest checkpoint, and all workers read it. Wait until it is
        # written before reading it, and until all have read it before replacing it below.
        _wait_for_workers(parts)
        step = _last_good_step(parts, step, retrain)
        _wait_for_workers(parts)
        state.step.assign_add(1)
        done = "skipping its batch"
    state.recoveries = count
    parts.run.forget_metrics_after(int(state.step))
    parts.checkpointer.save("last")
    parts.log.note(f"the loss is not finite at step {step}; {done} ({count} of {MOST} times)")


def _last_good_step(parts: Parts, step: int, retrain: Callable[[int], None]) -> int:
    """Train again up to the step that makes the loss or weights not finite; return its number."""
    # Every evaluation and every recovery saves a checkpoint, so no evaluation and no skipped batch
    # lies between the newest checkpoint and the bad step.
    newest = _newest(parts)
    _restore(parts, newest)
    if step > int(parts.state.step):
        retrain(step)
        if not parts.state.is_finite():
            # The previous batch made the weights not finite, although its loss was finite.
            step -= 1
            _restore(parts, newest)
            retrain(step)
    return step


def _newest(parts: Parts) -> Path:
    last = parts.run.checkpoint("last")
    # A damaged "last" was renamed when the run was resumed from an earlier checkpoint.
    return last if last.exists() else next(iter(earlier_checkpoints(last)), last)


def _restore(parts: Parts, file: Path) -> None:
    parts.state.restore(read_checkpoint(file), file)


def _wait_for_workers(parts: Parts) -> None:
    any_worker(parts.strategy, False)


def _not_finite(parts: Parts, step: int) -> UserError:
    """Return the error for a loss that is not finite at `step`, counted from 0.

    Also writes the batch and the names of its examples to the run's folder.
    """
    source, run, config = parts.splits["train"], parts.run, parts.config
    index, _ = batch_examples(
        source, tf.constant(step, tf.int64), seed=config.seed, batch_size=config.train.batch_size
    )
    names = [source.name(int(i)) for i in index]
    rate = float(parts.schedule(step))
    file = run.folder / "not_finite.json"
    if run.writes:
        write_json(
            file, {"step": step, "seed": config.seed, "learning_rate": rate, "examples": names}
        )
        _dump(parts, step)
    count = parts.state.recoveries
    gone_on = f" It has recovered {counted(count, 'time')} before." if count else ""
    return UserError(
        f"the loss is not finite at step {step} (learning rate {rate:g}, batch:"
        f" {', '.join(names[:4])}, …; {file} lists all examples, and not_finite.npz has their"
        f" pixels and targets); {run.kept()}.{gone_on} Lower optimizer.learning_rate, add"
        " schedule.warmup_epochs, or check these examples"
    )


def _dump(parts: Parts, step: int) -> None:
    """Write the input batch of a step to not_finite.npz."""
    [batch] = training_batches(
        parts.splits["train"],
        parts.config,
        parts.task.encode,
        parts.quarantines["train"],
        first_step=step,
        last_step=step + 1,
    )
    arrays = {"/".join(path): value.numpy() for path, value in keras.tree.flatten_with_path(batch)}
    with atomic_write(parts.run.folder / "not_finite.npz") as stream:
        np.savez(stream, **arrays)
