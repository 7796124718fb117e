"""Guards trainings that continue after a loss that isn't finite: interrupted or not, they end with
the same bits.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from conftest import DIGITS, SMALL, small_config, soaked
from cvpipe.errors import UserError
from cvpipe.tasks.task import Task, Tensors
from cvpipe.training import train as training
from cvpipe.training.checkpoints import read_checkpoint
from cvpipe.training.run import Run
from cvpipe.training.train import train

# Two epochs, of 7 and 6 steps, each followed by an evaluation.
OVERRIDES = (
    "model={backbone: two_layer, dropout: 0.1}",
    "prepare.size=[8, 8]",
    "data.limit=200",
    "schedule={kind: constant}",
    "optimizer.learning_rate=0.1",
)
EVERY_STEP = ("train.checkpoint_minutes=1e-9", "train.steps_per_call=1")
Poison = Callable[[Any, dict[str, Any]], tf.Tensor]


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[[Poison], None]:
    """Return a function that adds a given function of network and batch to each example's loss."""
    plain = training.with_teacher

    def use(added: Poison) -> None:
        def with_poison(task: Task, *arguments: Any) -> Task:
            [update] = plain(task, *arguments).updates

            def losses(networks: Any, batch: dict[str, Any], seed: tf.Tensor) -> Tensors:
                own = update.losses(networks, batch, seed)
                return {**own, "poison": added(networks["network"], batch)}

            return dataclasses.replace(task, updates=(dataclasses.replace(update, losses=losses),))

        monkeypatch.setattr(training, "with_teacher", with_poison)

    return use


def has(batch: dict[str, Any], examples: Sequence[int]) -> tf.Tensor:
    """True if one of these examples is in a batch."""
    return tf.reduce_any(batch["index"][:, None] == tf.constant(examples, batch["index"].dtype))


def bad_loss(network: Any, batch: dict[str, Any], examples: Sequence[int] = (7,)) -> tf.Tensor:
    """A loss that is NaN for batches with one of these examples. Its gradient is 0."""
    return tf.where(has(batch, examples), np.nan, tf.zeros_like(batch["weight"]))


def bad_gradient(network: Any, batch: dict[str, Any], examples: Sequence[int] = (7,)) -> tf.Tensor:
    """A loss of 0 whose gradient is NaN for batches with one of these examples."""
    scale = tf.where(has(batch, examples), 0.0, 1.0)
    kernel = network.trainable_variables[0].value
    root = tf.sqrt(scale * tf.reduce_sum(tf.square(kernel)))
    return (root - tf.stop_gradient(root)) * tf.ones_like(batch["weight"])


def far_weights(network: Any, batch: dict[str, Any]) -> tf.Tensor:
    """A loss that is NaN once the last layer's biases are large."""
    bias = network.trainable_variables[-1].value
    far = tf.reduce_max(tf.abs(bias)) > 0.04
    return tf.where(far, np.nan, tf.zeros_like(batch["weight"]))


def run_of(folder: Path, *overrides: str) -> dict[str, np.ndarray]:
    train(small_config(*OVERRIDES, *overrides), folder)
    return read_checkpoint(Run(folder).checkpoint("last"))


def assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in other.items()}


@pytest.mark.parametrize("bad", [bad_gradient, *soaked(bad_loss)])
def test_skip_leaves_out_the_batch_that_spoils_the_weights_and_no_other(
    tmp_path: Path,
    poison: Callable[[Poison], None],
    bad: Poison,
    capsys: pytest.CaptureFixture[str],
) -> None:
    poison(bad)
    seldom = run_of(tmp_path / "seldom", "train.non_finite=skip")
    assert "skipping its batch (1 of 3 times)" in capsys.readouterr().err
    # Example 7 is in one batch of each epoch.
    assert seldom["recoveries"] == 2
    [moved] = [value for name, value in seldom.items() if name.endswith("optimizer/iteration")]
    assert moved == seldom["step"] - 2
    often = run_of(tmp_path / "often", "train.non_finite=skip", *EVERY_STEP)
    assert_equal(seldom, often)


# In the first epoch, example 13 is in step 1, 7 in step 3 and 8 in step 4.
ONE_EPOCH = ("train.non_finite=skip", "train.epochs=1")


@pytest.mark.parametrize("steps", [{13: 1, 7: 3}, *soaked({7: 3, 8: 4})])
@pytest.mark.parametrize("bad", [bad_loss, *soaked(bad_gradient)])
def test_two_bad_batches_between_evaluations_are_each_skipped_once(
    tmp_path: Path,
    poison: Callable[[Poison], None],
    bad: Callable[..., tf.Tensor],
    steps: dict[int, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    poison(partial(bad, examples=tuple(steps)))
    end = run_of(tmp_path, *ONE_EPOCH)
    said = capsys.readouterr().err
    for count, step in enumerate(steps.values(), 1):
        assert f"finite at step {step}; skipping its batch ({count} of 3 times)" in said
    [moved] = [value for name, value in end.items() if name.endswith("optimizer/iteration")]
    assert end["recoveries"] == 2 and moved == end["step"] - 2


@pytest.mark.soak
@pytest.mark.parametrize("bad", [bad_loss, bad_gradient])
def test_two_skipped_batches_leave_the_same_bits_whenever_checkpoints_are_written(
    tmp_path: Path, poison: Callable[[Poison], None], bad: Callable[..., tf.Tensor]
) -> None:
    poison(partial(bad, examples=(13, 7)))
    seldom = run_of(tmp_path / "seldom", *ONE_EPOCH)
    often = run_of(tmp_path / "often", *ONE_EPOCH, *EVERY_STEP)
    assert_equal(seldom, often)


@pytest.mark.soak
def test_a_run_that_resumed_from_an_earlier_checkpoint_skips_the_same_batch(
    tmp_path: Path, poison: Callable[[Poison], None]
) -> None:
    # Example 0 is in step 5. Damage all checkpoints after it.
    poison(partial(bad_gradient, examples=(0,)))
    before = run_of(tmp_path, *ONE_EPOCH, *EVERY_STEP)
    last = Run(tmp_path).checkpoint("last")
    for file in (last, last.with_name("earlier-6.npz")):
        assert file.exists()
        file.write_bytes(b"garbage")
    after = run_of(tmp_path, *ONE_EPOCH, *EVERY_STEP)
    assert after["recoveries"] == 1
    assert_equal(before, after)


def test_reduce_goes_back_to_the_evaluation_before_with_half_the_learning_rate(
    tmp_path: Path, poison: Callable[[Poison], None], capsys: pytest.CaptureFixture[str]
) -> None:
    poison(far_weights)
    reduce = ("train.non_finite=reduce", "train.evaluate_every=2")
    seldom = run_of(tmp_path / "seldom", *reduce)
    assert "returning to step" in capsys.readouterr().err
    count = int(seldom["recoveries"])
    assert 1 <= count <= 3 and seldom["rate_factor"] == np.float32(0.5**count)
    often = run_of(tmp_path / "often", *reduce, *EVERY_STEP)
    assert_equal(seldom, often)
    steps = [row["step"] for row in Run(tmp_path / "often").metrics() if row["split"] == "train"]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("moment", ["after", *soaked("before")])
def test_reduce_goes_back_to_the_evaluation_at_which_the_run_was_killed(
    tmp_path: Path,
    poison: Callable[[Poison], None],
    capsys: pytest.CaptureFixture[str],
    moment: str,
) -> None:
    # The first evaluation is at step 7. Examples 82 and 166 are both in the batch after it, and in
    # no other, so the loss is not finite after each return.
    poison(
        lambda network, batch: tf.where(
            has(batch, [82]) & has(batch, [166]), np.nan, tf.zeros_like(batch["weight"])
        )
    )
    overrides = (*OVERRIDES, "train.non_finite=reduce")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    arguments = [part for override in (*SMALL, *overrides) for part in ("--set", override)]
    stopped = [str(Path(__file__).with_name("stopped.py")), "SIGKILL", "7", moment]
    done = subprocess.run(
        [sys.executable, *stopped, "train", str(DIGITS), *arguments, "--run", str(killed)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    for folder in (killed, whole):
        capsys.readouterr()
        with pytest.raises(UserError, match="the loss is not finite at step 7"):
            train(small_config(*overrides), folder)
        assert capsys.readouterr().err.count("returning to step 7") == 3
    assert_equal(*(read_checkpoint(Run(run).checkpoint("last")) for run in (killed, whole)))


@pytest.mark.parametrize("policy", ["stop", *soaked("skip", "reduce")])
def test_a_run_that_cant_go_on_names_and_keeps_the_batch(
    tmp_path: Path, poison: Callable[[Poison], None], policy: str
) -> None:
    poison(lambda network, batch: tf.fill(tf.shape(batch["weight"]), np.nan))
    with pytest.raises(UserError, match="the loss is not finite at step") as error:
        run_of(tmp_path, f"train.non_finite={policy}")
    assert ("It has recovered 3 times before." in str(error.value)) == (policy != "stop")
    told = json.loads((tmp_path / "not_finite.json").read_text())
    # "skip" leaves out steps 0, 1 and 2, and fails at step 3; "reduce" returns to step 0 each time.
    assert told["step"] == (3 if policy == "skip" else 0)
    with np.load(tmp_path / "not_finite.npz") as batch:
        assert batch["image"].shape == (32, 8, 8, 1) and batch["targets/label"].shape == (32,)
        assert len(told["examples"]) == len(batch["index"]) == 32
