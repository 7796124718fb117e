"""Guards L-BFGS: the loss of all examples falls at each iteration, and a run can be stopped."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from conftest import small_config
from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.samples import read_examples
from cvpipe.data.sources import Source, open_splits
from cvpipe.errors import ConfigError, Interrupted, UserError
from cvpipe.losses.classification import softmax_cross_entropy
from cvpipe.tasks import load_task
from cvpipe.training.build import build_state
from cvpipe.training.checkpoints import read_checkpoint
from cvpipe.training.full_batch import Objective, check_full_batch
from cvpipe.training.run import Run
from cvpipe.training.run_log import RunLog
from cvpipe.training.state import State
from cvpipe.training.train import train

# A small training split, and no augmentation or dropout.
PLAIN = (
    "model.backbone=two_layer",
    "model.width=1.0",
    "model.norm=none",
    "model.dropout=0",
    "prepare.size=[8, 8]",
    "train.ema=null",
    "augment=[]",
    "schedule={kind: constant}",
    "data.test=0.9",
    "data.validation=0.05",
    "train.batch_size=32",
)
FACTS = Facts(tuple("0123456789"))
LBFGS = "optimizer={kind: lbfgs}"


def lbfgs(*overrides: str) -> Config:
    return small_config(*PLAIN, LBFGS, *overrides)


def objective(config: Config) -> tuple[Objective, State, Source]:
    source = open_splits(config.data)["train"]
    task = load_task(config, source.facts)
    state, _ = build_state(config, task, len(source))
    quarantine = Quarantine(source, "train", 0.5)
    network = state.networks["network"]
    return Objective(network, task, config, source, quarantine), state, source


def test_the_objective_is_the_mean_loss_of_all_examples_with_its_gradient() -> None:
    config = lbfgs("loss.l1=1e-4", "loss.l2=1e-3")
    whole, state, source = objective(config)
    assert len(source) % config.train.batch_size, "the last batch is to be filled up"
    loss, gradient = whole(whole.weights())
    encode, network = load_task(config, source.facts).encode, state.networks["network"]
    batch = read_examples(source, np.arange(len(source)), config, encode)
    with tf.GradientTape() as tape:
        logits = network(batch["image"])["logits"]
        each = softmax_cross_entropy(logits, batch["targets"]["label"], config.loss.label_smoothing)
        kernels = [v for v in network.trainable_variables if v.name == "kernel"]
        norms = [
            1e-4 * tf.reduce_sum(abs(k.value)) + 1e-3 * tf.reduce_sum(k.value**2) for k in kernels
        ]
        expected = tf.reduce_mean(each) + tf.add_n(norms)
    gradients = tape.gradient(expected, network.trainable_variables)
    assert loss == pytest.approx(float(expected), rel=1e-6)
    assert whole.losses["loss"] == pytest.approx(
        sum(whole.losses[name] for name in ("cross_entropy", "l1", "l2"))
    )
    np.testing.assert_allclose(
        gradient, np.concatenate([g.numpy().ravel() for g in gradients]), rtol=1e-4, atol=1e-7
    )
    assert gradient.dtype == np.float64


def test_weights_go_into_the_model_and_come_back() -> None:
    whole, state, _ = objective(lbfgs())
    weights = np.random.default_rng(0).normal(size=whole.weights().size)
    whole.assign(weights)
    np.testing.assert_array_equal(whole.weights(), weights.astype(np.float32))
    first = state.networks["network"].trainable_variables[0].numpy()
    np.testing.assert_array_equal(first.ravel(), weights[: first.size].astype(np.float32))


def follow(monkeypatch: pytest.MonkeyPatch, at: int | None = None) -> list[float]:
    """Return a list to which each iteration adds its loss. At iteration `at`, if given, the process
    is interrupted as by Ctrl-C.
    """
    losses: list[float] = []
    trained = RunLog.trained

    def watched(
        log: RunLog, step: int, steps: int, values: dict[str, float], *rest: Any, **more: Any
    ) -> None:
        losses.append(values["loss"])
        if step == at:
            os.kill(os.getpid(), signal.SIGINT)
        trained(log, step, steps, values, *rest, **more)

    monkeypatch.setattr(RunLog, "trained", watched)
    return losses


def loss_of(run: Path, config: Config) -> float:
    whole, state, _ = objective(config)
    state.restore(read_checkpoint(Run(run).checkpoint("last")), run)
    return whole(whole.weights())[0]


@pytest.mark.soak
@pytest.mark.parametrize("epochs", [7, 30])
def test_every_iteration_lowers_the_loss_and_they_beat_as_many_epochs_of_adam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    losses = follow(monkeypatch)
    config = lbfgs(f"train.epochs={epochs}", "train.evaluate_every=4", "loss.label_smoothing=0")
    result = train(config, tmp_path / "lbfgs")
    assert (result["ended"], result["steps"]) == ("finished", epochs)
    assert len(losses) == epochs and all(
        after < before for before, after in itertools.pairwise(losses)
    )
    assert loss_of(tmp_path / "lbfgs", config) == pytest.approx(losses[-1], rel=1e-6)
    monkeypatch.undo()
    adam = small_config(
        *PLAIN,
        "optimizer={kind: adam}",
        f"train.epochs={epochs}",
        f"train.evaluate_every={epochs}",
        "loss.label_smoothing=0",
    )
    train(adam, tmp_path / "adam")
    assert losses[-1] < loss_of(tmp_path / "adam", adam)
    rows = [row for row in Run(tmp_path / "lbfgs").metrics() if row["split"] == "validation"]
    assert (
        [row["step"] for row in rows]
        == [row["epoch"] for row in rows]
        == [*range(4, epochs, 4), epochs]
    )
    best = max(rows, key=lambda row: (row["accuracy"], row["step"]))
    assert read_checkpoint(tmp_path / "lbfgs/checkpoints/best.npz")["step"] == best["step"]


def test_a_stopped_run_keeps_its_last_iterate_and_goes_on_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config = lbfgs("train.epochs=6")
    losses = follow(monkeypatch, at=3)
    with pytest.raises(Interrupted, match="stopped at iteration 3 of 6; its weights are saved"):
        train(config, tmp_path / "run")
    monkeypatch.undo()
    assert loss_of(tmp_path / "run", config) == pytest.approx(losses[-1], rel=1e-6)
    more = follow(monkeypatch)
    result = train(config, tmp_path / "run")
    assert (result["ended"], result["steps"], len(more)) == ("finished", 6, 3)
    assert (
        "resuming at iteration 3 of 6; the curvature, which can't be saved, is estimated again"
        in capfd.readouterr().err
    )
    assert more[0] < losses[-1]
    steps = [row["step"] for row in Run(tmp_path / "run").metrics() if row["split"] == "validation"]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_it_ends_where_the_loss_falls_no_further_and_is_not_trained_again(tmp_path: Path) -> None:
    # This l2 is so strong that all kernels go to zero.
    config = lbfgs("train.epochs=200", "loss.l2=1", "train.evaluate_every=150")
    result = train(config, tmp_path / "run")
    assert result["ended"] == "finished: converged" and result["steps"] < 150
    rows = [row["step"] for row in Run(tmp_path / "run").metrics() if row["split"] == "validation"]
    assert rows == [result["steps"]]
    before = (tmp_path / "run/checkpoints/last.npz").read_bytes()
    again = train(config, tmp_path / "run")
    assert (again["ended"], again["steps"]) == (result["ended"], result["steps"])
    assert (tmp_path / "run/checkpoints/last.npz").read_bytes() == before


def test_early_stopping_stops_it(tmp_path: Path) -> None:
    result = train(lbfgs("train.epochs=60", "train.early_stopping.patience=2"), tmp_path / "run")
    assert result["ended"] == "stopped early" and result["steps"] < 60


def test_a_loss_that_is_not_finite_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="not finite near the weights of iteration 0; no checkpoint was written"
    ):
        train(
            lbfgs("model.initializer=constant", "model.initializer_value=1e30", "loss.l2=1"),
            tmp_path / "run",
        )


@pytest.mark.parametrize(
    "override, key",
    [
        ("augment=[{op: flip}]", "augment"),
        ("mix=[{op: mixup}]", "mix"),
        ("model.dropout=0.1", "model.dropout"),
        ("model.norm=batch", "model.norm"),
        ("train.ema=0.9", "train.ema"),
        ("schedule={kind: cosine}", "schedule"),
        ("schedule.warmup_epochs=1", "schedule.warmup_epochs"),
        ("train.accumulate=2", "train.accumulate"),
        ("train.clip_norm=1", "train.clip_norm"),
        ("train.precision=mixed_float16", "train.precision"),
    ],
)
def test_settings_that_lbfgs_does_not_use_are_refused(override: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} doesn't go with optimizer.kind: lbfgs"):
        lbfgs(override)


def test_several_devices_are_refused() -> None:
    several: Any = SimpleNamespace(num_replicas_in_sync=2)
    with pytest.raises(
        ConfigError, match="lbfgs works only on one device; set train.strategy: one"
    ):
        check_full_batch(load_task(lbfgs(), FACTS), several)


def test_a_task_of_several_updates_is_refused() -> None:
    task, one = load_task(lbfgs(), FACTS), tf.distribute.get_strategy()
    check_full_batch(task, one)
    with pytest.raises(ConfigError, match="minimizes one loss of one network"):
        check_full_batch(dataclasses.replace(task, updates=2 * task.updates), one)


def test_a_teacher_is_refused() -> None:
    task = dataclasses.replace(load_task(lbfgs(), FACTS), frozen=("teacher",))
    with pytest.raises(
        ConfigError, match="train.teacher can't be combined with optimizer.kind: lbfgs"
    ):
        check_full_batch(task, tf.distribute.get_strategy())


def test_histograms_are_written_at_each_evaluation(tmp_path: Path) -> None:
    train(lbfgs("train.epochs=2", "train.histograms=true"), tmp_path / "run")
    events = EventMultiplexer(size_guidance={"tensors": 0})
    events.AddRunsFromDirectory(str(tmp_path))
    events.Reload()
    for tag in ("gradients/logits/kernel", "gradient_norm"):
        assert [event.step for event in events.Tensors("run/train", tag)] == [1, 2]
