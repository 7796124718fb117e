"""Workers: detection of lost processes, and exchange of evaluation results.

TensorFlow detects immediately that a process has ended, because its connection closes. It detects a
stalled process after 10 seconds without heartbeats.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from cvpipe.errors import Interrupted
from cvpipe.evaluation import Exchange
from cvpipe.training.cluster import Member, read_member
from cvpipe.training.strategy import is_multi_worker

_TASK = re.compile(r"/job:(chief|worker)(?:/replica:\d+)?/task:(\d+)")
# Errors that collectives raise if a process is lost.
_LOSS_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.DeadlineExceededError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
)


def share_of(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """Return the index of this process, from 0, and the number of processes."""
    member = read_member() if is_multi_worker(strategy) else None
    return member.place if member else (0, 1)


@contextlib.contextmanager
def naming_lost_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Context that converts TensorFlow's errors about lost processes to an error that names the
    process.

    Raises:
        Interrupted: a process ended or stalled.
    """
    try:
        yield
    except _LOSS_ERRORS as error:
        member = read_member() if is_multi_worker(strategy) else None
        if member is None:
            raise
        raise Interrupted(
            f"{_lost(str(error), member)} no longer answers: it has ended or stalled. Stop"
            " the run's other processes, and restart all workers with the same command: the run"
            " continues from its last checkpoint"
        ) from error


def make_exchange(strategy: tf.distribute.Strategy) -> Exchange | None:
    """Return a function that gathers arrays from all processes in order; None for a single process.

    The function is a collective: all workers must call it.
    """
    if not is_multi_worker(strategy):
        return None
    local = len(strategy.extended.worker_devices)

    @tf.function(reduce_retracing=True)
    def gather(values: tf.distribute.DistributedValues) -> tf.Tensor:
        return strategy.gather(values, axis=0)

    def from_each(own: np.ndarray) -> np.ndarray:
        # Only the first replica of each process sends the array.
        def value(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
            speaks = context.replica_id_in_sync_group % local == 0
            return tf.constant(own if speaks else own[:0])

        values = strategy.experimental_distribute_values_from_function(value)
        return np.asarray(gather(values).numpy())

    def exchange(arrays: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        sent = _to_bytes(arrays)
        lengths = from_each(np.array([len(sent)], np.int64))
        # `gather` doesn't support bytes, so send them as int32.
        words = from_each(np.frombuffer(sent + bytes(-len(sent) % 4), np.int32))
        parts = np.split(words, np.cumsum(-(-lengths // 4))[:-1])
        return [_read(part.tobytes()[:length]) for part, length in zip(parts, lengths, strict=True)]

    return exchange


def _to_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    sendable = {name: _without_objects(value) for name, value in arrays.items()}
    np.savez(stream, **sendable)  # type: ignore[arg-type]
    return stream.getvalue()


def _without_objects(value: np.ndarray) -> np.ndarray:
    """Convert bytes objects to fixed-length strings, each with an appended ".", because NumPy drops
    zero bytes at the end.
    """
    if value.dtype != object:
        return value
    return np.array([each + b"." for each in value.flat], bytes).reshape(value.shape)


def _read(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content)) as arrays:
        return {name: _with_objects(arrays[name]) for name in arrays}


def _with_objects(value: np.ndarray) -> np.ndarray:
    if value.dtype.kind != "S":
        return value
    objects = np.empty(value.shape, object)
    objects.reshape(-1)[:] = [each[:-1] for each in value.flat]
    return objects


def _lost(message: str, own: Member) -> str:
    """Return the name of the lost process that an error names; if it names none, the leader."""
    named = [(job, int(number)) for job, number in _TASK.findall(message)]
    others = [each for each in named if each != (own.job, own.number)]
    job, number = others[-1] if others else (own.leader, 0)
    return f"{job} {number} ({own.jobs[job][number]})"
