"""Events for TensorBoard's HParams dashboard. A run is a session, and the folds of a trial are a
session group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorboard.plugins.hparams import api as hp

from cvpipe.search.space import Dimension, Range, Value
from cvpipe.yaml_files import read_yaml


def write_experiment(folder: Path, space: Sequence[Dimension], metric: str) -> None:
    """Write the search space and the metric's name. `folder` is the parent of all run folders."""
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(0):
        hp.hparams_config(
            [hp.HParam(dimension.key, _domain(dimension)) for dimension in space],
            [hp.Metric(metric)],
        )
    writer.close()


def write_run(
    folder: Path,
    trial: str,
    values: Mapping[str, Value],
    metric: str,
    score: float | None,
    epoch: int | None,
) -> None:
    """Write a run: the values of its trial, and its best score with the epoch. A failed run has
    neither score nor epoch.
    """
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(epoch or 0):
        hp.hparams({key: _plain(value) for key, value in values.items()}, trial_id=trial)
        if score is not None:
            tf.summary.scalar(metric, score)
    writer.close()


def _domain(dimension: Dimension) -> Any:
    if isinstance(dimension, Range):
        whole, low, high = dimension.whole, dimension.low, dimension.high
        return (
            hp.IntInterval(int(low), int(high))
            if whole
            else hp.RealInterval(float(low), float(high))
        )
    values = [_plain(text) for text in dimension.texts]
    # HParams requires that all values have the same type.
    return hp.Discrete(
        values if len({type(value) for value in values}) == 1 else list(map(str, values))
    )


def _plain(value: Value) -> bool | int | float | str:
    """Convert a value to bool, int or float if possible, else to str."""
    read = read_yaml(value, value)[0] if isinstance(value, str) else value
    return read if isinstance(read, (bool, int, float)) else str(value)
