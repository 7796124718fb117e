"""Guards the train step: examples of weight 0 and the number of steps per call don't change it."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from conftest import small_config, soaked
from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.losses.classification import softmax_cross_entropy
from cvpipe.tasks import classification, load_task
from cvpipe.tasks.task import Task, Tensors, supervised
from cvpipe.training.build import build_state
from cvpipe.training.state import State
from cvpipe.training.step import Outcome, make_run_steps

FACTS = Facts(tuple("0123456789"))


def batches(count: int, size: int, seed: int = 0) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    return [
        {
            "image": tf.constant(random.normal(size=(size, 32, 32, 1)), tf.float32),
            "targets": {"label": tf.constant(random.integers(0, 10, size), tf.int32)},
            "weight": tf.ones([size]),
            "index": tf.range(size, dtype=tf.int64),
        }
        for _ in range(count)
    ]


def fresh(config: Config, task: Task | None = None) -> State:
    """Return the state before the first step."""
    return build_state(config, task or load_task(config, FACTS), examples=1000)[0]


def trained(
    config: Config, data: list[dict[str, Any]], calls: list[int], task: Task | None = None
) -> tuple[State, list[Outcome]]:
    """Return the state after calls of so many steps each, and what they returned."""
    task = task or load_task(config, FACTS)
    state = fresh(config, task)
    run_steps = make_run_steps(state, task, config, tf.distribute.get_strategy())
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(data),
        output_signature=tf.nest.map_structure(tf.TensorSpec.from_tensor, data[0]),
    )
    iterator = iter(dataset)
    return state, [run_steps(iterator, tf.constant(count)) for count in calls]


def two_layer(*overrides: str) -> Config:
    """A network without BatchNorm, in which examples don't see each other."""
    return lenet("model.backbone=two_layer", *overrides)


def lenet(*overrides: str) -> Config:
    """Return a small convolutional network without BatchNorm and dropout."""
    plain = (
        "model.backbone=lenet5",
        "model.width=1.0",
        "model.dropout=0.0",
        "prepare.size=[32, 32]",
        "train.ema=null",
    )
    return small_config(*plain, *overrides)


def mixed(batch: dict[str, Any]) -> dict[str, Any]:
    """Return the batch with the labels of mixed images: each image has the image at the other end
    of the batch as its partner.
    """
    other = batch["targets"]["label"][::-1]
    return {
        **batch,
        "partner_targets": {"label": other},
        "share": tf.linspace(0.5, 1.0, len(other)),
    }


def same_bits(first: State, second: State) -> bool:
    return {k: v.tobytes() for k, v in first.arrays().items()} == {
        k: v.tobytes() for k, v in second.arrays().items()
    }


def test_grouping_steps_in_calls_changes_no_bit() -> None:
    config = small_config("prepare.size=[32, 32]")
    data = batches(5, 8)
    together, _ = trained(config, data, [5])
    for calls in ([1, 1, 1, 1, 1], [2, 3]):
        assert same_bits(together, trained(config, data, calls)[0]), calls


def test_examples_of_weight_zero_change_nothing() -> None:
    [full] = batches(1, 8)
    few = tf.nest.map_structure(lambda tensor: tensor[:5], full)
    masked = {**full, "weight": tf.constant([1.0] * 5 + [0.0] * 3)}
    (first, [one]), (second, [two]) = trained(lenet(), [few], [1]), trained(lenet(), [masked], [1])
    np.testing.assert_allclose(
        float(one["losses"]["loss"]), float(two["losses"]["loss"]), rtol=1e-6
    )
    for (name, value), other in zip(first.arrays().items(), second.arrays().values()):
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_batch_that_weighs_nothing_gives_no_nan() -> None:
    [batch] = batches(1, 4)
    state, [outcome] = trained(two_layer("loss.l2=0"), [{**batch, "weight": tf.zeros([4])}], [1])
    assert float(outcome["losses"]["loss"]) == 0
    assert all(np.isfinite(value).all() for value in state.arrays().values() if value.shape)


def test_the_loss_is_the_sum_of_its_named_parts() -> None:
    _, [outcome] = trained(
        two_layer("loss.l2=1e-3", "loss.label_smoothing=0.1"), batches(3, 8), [3]
    )
    losses = {name: float(value) for name, value in outcome["losses"].items()}
    assert losses.keys() == {"cross_entropy", "l2", "loss"}
    assert losses["loss"] == pytest.approx(losses["cross_entropy"] + losses["l2"], rel=1e-5)
    assert losses["l2"] > 0


def test_l2_is_taken_of_kernels_alone() -> None:
    network = fresh(two_layer("loss.l2=1e-3")).networks["network"]
    expected = 1e-3 * sum(
        float((v.numpy() ** 2).sum()) for v in network.trainable_variables if v.name == "kernel"
    )
    _, [outcome] = trained(two_layer("loss.l2=1e-3"), batches(1, 8), [1])
    assert float(outcome["losses"]["l2"]) == pytest.approx(expected, rel=1e-5)


def test_l1_is_taken_of_kernels_alone() -> None:
    network = fresh(two_layer("loss.l1=1e-3")).networks["network"]
    expected = 1e-3 * sum(
        float(abs(v.numpy()).sum()) for v in network.trainable_variables if v.name == "kernel"
    )
    _, [outcome] = trained(two_layer("loss.l1=1e-3"), batches(1, 8), [1])
    assert float(outcome["losses"]["l1"]) == pytest.approx(expected, rel=1e-5)
    assert outcome["losses"].keys() == {"cross_entropy", "l1", "l2", "loss"}


def test_frozen_weights_are_neither_trained_nor_regularized(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = lenet("loss.l2=1e-3")
    build = classification.build_network

    def frozen(*arguments: Any, **options: Any) -> Any:
        model = build(*arguments, **options)
        model.layers[1].trainable = False
        return model

    monkeypatch.setattr(classification, "build_network", frozen)
    untrained = fresh(config).networks["network"]
    state, [outcome] = trained(config, batches(1, 8), [1])
    [kernel, bias] = untrained.layers[1].variables
    assert kernel.name == "kernel"
    expected = 1e-3 * sum(
        float((v.numpy() ** 2).sum()) for v in untrained.trainable_variables if v.name == "kernel"
    )
    assert float(outcome["losses"]["l2"]) == pytest.approx(expected, rel=1e-5)
    for variable, before in zip(state.networks["network"].layers[1].variables, (kernel, bias)):
        np.testing.assert_array_equal(variable.numpy(), before.numpy())


@pytest.mark.parametrize(
    "options",
    [
        ("model.norm=none",),
        ("train.clip_norm=0.1", "loss.l1=1e-4"),
        *soaked(("model.norm=layer",), ("train.xla=on",), ("mix=[{op: mixup}]",)),
    ],
)
def test_a_batch_in_parts_gives_the_step_of_the_whole_batch(options: tuple[str, ...]) -> None:
    [first, second] = batches(2, 12)
    # The parts' weights have different sums, one of which is 0: each example must count the same,
    # not each part.
    data = [{**first, "weight": tf.constant([1.0, 0.0, 1.0] * 4)}, second]
    if "mix" in options[0]:
        data = [mixed(batch) for batch in data]
    whole, [expected] = trained(lenet("train.batch_size=12", *options), data, [2])
    parts, [outcome] = trained(
        lenet("train.batch_size=12", *options, "train.accumulate=3"), data, [2]
    )
    for name, value in expected["losses"].items():
        np.testing.assert_allclose(
            float(outcome["losses"][name]), float(value), rtol=1e-5, err_msg=name
        )
    tolerance = 1e-5 if "train.xla=on" in options else 1e-6
    for name, value in whole.arrays().items():
        np.testing.assert_allclose(
            parts.arrays()[name], value, rtol=1e-5, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize("precision", ["mixed_float16", *soaked("mixed_bfloat16")])
def test_half_precision_learns_in_parts(precision: str) -> None:
    [batch] = batches(1, 16)
    adam = "optimizer={kind: adam, learning_rate: 0.003}"
    config = two_layer(
        f"train.precision={precision}", adam, "train.accumulate=4", "train.clip_norm=10"
    )
    _, outcomes = trained(config, [batch] * 30, [1, 28, 1])
    assert float(outcomes[-1]["losses"]["loss"]) < 0.8 * float(outcomes[0]["losses"]["loss"])


def test_parts_give_the_same_bits_however_steps_are_grouped_and_draw_dropout_of_their_own() -> None:
    config, data = two_layer("model.dropout=0.5", "train.accumulate=2"), batches(4, 8)
    state, _ = trained(config, data, [4])
    assert same_bits(state, trained(config, data, [1, 3])[0])
    [drawn] = [value for name, value in state.arrays().items() if "seed_generator" in name]
    [whole] = [
        value
        for name, value in trained(two_layer("model.dropout=0.5"), data, [4])[0].arrays().items()
        if "seed_generator" in name
    ]
    assert (drawn != whole).any()


def test_the_network_sees_a_part_at_a_time() -> None:
    seen = []

    def loss(outputs: Tensors, targets: Tensors, config: Config) -> Tensors:
        seen.append(outputs["logits"].shape[0])
        return classification.loss(outputs, targets, config)

    config = two_layer("train.accumulate=4")
    update = supervised(partial(loss, config=config))
    task = dataclasses.replace(load_task(config, FACTS), updates=(update,))
    trained(config, batches(1, 8), [1], task)
    assert set(seen) == {2}


def test_the_statistics_of_batchnorm_are_those_of_the_parts_one_after_the_other() -> None:
    config, [batch] = (
        small_config("prepare.size=[32, 32]", "model.dropout=0", "train.accumulate=2"),
        batches(1, 8),
    )
    by_hand = fresh(config)
    for part in (0, 1):
        # A part is every second example, so that it doesn't depend on the number of replicas.
        by_hand.networks["network"](batch["image"][part::2], training=True)
    state, _ = trained(config, [batch], [1])
    statistics = [name for name in state.arrays() if "moving" in name]
    assert statistics
    for name in statistics:
        np.testing.assert_allclose(
            state.arrays()[name], by_hand.arrays()[name], rtol=1e-4, atol=1e-5, err_msg=name
        )


def test_a_mixed_example_has_shares_of_two_labels() -> None:
    [batch] = batches(1, 8)
    batch = mixed(batch)
    share, other = batch["share"], batch["partner_targets"]["label"]
    config = two_layer("mix=[{op: mixup}]", "loss.l2=0")
    state = fresh(config)
    logits = state.networks["network"](batch["image"])["logits"]
    own, partners = (
        softmax_cross_entropy(logits, label, config.loss.label_smoothing)
        for label in (batch["targets"]["label"], other)
    )
    expected = float(tf.reduce_mean(share * own + (1 - share) * partners))
    _, [outcome] = trained(config, [batch], [1])
    assert float(outcome["losses"]["loss"]) == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_is_not_finite_ends_the_call_after_its_step() -> None:
    data = batches(5, 8)
    data[2]["image"] = data[2]["image"] * np.nan
    state, [outcome] = trained(lenet(), data, [5])
    assert (int(outcome["steps"]), bool(outcome["finite"]), int(state.step)) == (3, False, 3)


def test_an_error_in_the_input_leaves_exactly_the_steps_before_it() -> None:
    data = batches(3, 8)
    config = small_config("prepare.size=[32, 32]")
    task = load_task(config, FACTS)
    state = fresh(config, task)
    run_steps = make_run_steps(state, task, config, tf.distribute.get_strategy())

    def failing() -> Any:
        yield from data
        raise OSError("the disk is gone")

    specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, data[0])
    with pytest.raises(tf.errors.OpError):
        run_steps(
            iter(tf.data.Dataset.from_generator(failing, output_signature=specs)), tf.constant(5)
        )
    assert int(state.step) == 3
    assert same_bits(state, trained(config, data, [3])[0])


@pytest.mark.parametrize("precision", ["mixed_float16", *soaked("mixed_bfloat16")])
def test_half_precision_keeps_weights_and_logits_in_float32_and_learns(precision: str) -> None:
    [batch] = batches(1, 16)
    config = two_layer(
        f"train.precision={precision}", "optimizer={kind: adam, learning_rate: 0.003}"
    )
    state, outcomes = trained(config, [batch] * 30, [1, 28, 1])
    network = state.networks["network"]
    assert {v.dtype for v in network.trainable_variables} == {"float32"}
    assert network(batch["image"])["logits"].dtype == tf.float32
    assert float(outcomes[-1]["losses"]["loss"]) < 0.8 * float(outcomes[0]["losses"]["loss"])


def test_xla_gives_the_same_step_to_rounding() -> None:
    data = batches(2, 8)
    plain, compiled = (
        trained(lenet(f"train.xla={choice}"), data, [2])[0].arrays() for choice in ("off", "on")
    )
    for name, value in plain.items():
        np.testing.assert_allclose(value, compiled[name], rtol=1e-3, atol=1e-5, err_msg=name)
