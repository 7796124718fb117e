"""Guards the inspection of networks: its numbers are those of the step, and the training stays the
same, bit for bit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from conftest import small_config
from cvpipe.tasks import load_task
from cvpipe.training.build import build_state
from cvpipe.training.checkpoints import read_checkpoint
from cvpipe.training.insight import Insight
from cvpipe.training.run import Run
from cvpipe.training.step import make_run_steps
from cvpipe.training.train import train
from test_step import FACTS, batches


def test_gradients_are_those_of_a_step_and_the_state_stays(tmp_path: Path) -> None:
    config = small_config(
        "model={backbone: resnet8, width: 0.25, dropout: 0.1}",
        "prepare.size=[32, 32]",
        "optimizer={kind: sgd, learning_rate: 1, momentum: 0}",
        "schedule={kind: constant}",
        "model.dropout=0",
        "train.ema=null",
    )
    task = load_task(config, FACTS)
    state, _ = build_state(config, task, examples=1000)
    [batch] = batches(1, 8)
    before = state.arrays()
    values, norm = Insight(state.networks, task, config, batch).look()
    after = state.arrays()
    assert {k: v.tobytes() for k, v in before.items()} == {k: v.tobytes() for k, v in after.items()}
    run_steps = make_run_steps(state, task, config, tf.distribute.get_strategy())
    run_steps(iter(tf.data.Dataset.from_tensors(batch)), tf.constant(1))
    moved = state.arrays()
    squares = 0.0
    for name, gradient in values.items():
        kind, _, path = name.partition("/")
        if kind == "gradients":
            step = before[f"networks/network/{path}"] - moved[f"networks/network/{path}"]
            np.testing.assert_allclose(step, gradient, rtol=1e-3, atol=1e-5, err_msg=name)
            squares += float((gradient.astype(np.float64) ** 2).sum())
    assert squares > 0
    np.testing.assert_allclose(norm**2, squares, rtol=1e-5)
    kernel = values["weights/logits/kernel"]
    np.testing.assert_array_equal(kernel, before["networks/network/logits/kernel"])
    assert values["activations/network/logits"].shape == (8, 10)


@pytest.mark.soak
def test_inspection_changes_no_bit_of_a_training(trained_run: Path, tmp_path: Path) -> None:
    train(small_config("train.histograms=true"), tmp_path / "run")
    one, other = (
        read_checkpoint(Run(run).checkpoint("last")) for run in (trained_run, tmp_path / "run")
    )
    assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in other.items()}
