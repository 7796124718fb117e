"""Guards `cvpipe train --sanity`: sound pipelines pass, each fault is caught by its check."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import small_config
from cvpipe.config import Config
from cvpipe.config.digits import Digits
from cvpipe.data.facts import Facts
from cvpipe.data.sources.digits import digits
from cvpipe.losses.classification import expected_initial_loss
from cvpipe.tasks import load_task
from cvpipe.training.sanity.activations import activations, statistics
from cvpipe.training.sanity.case import SanityCase, some_examples, without_regularization
from cvpipe.training.sanity.gradient_check import gradient_check
from cvpipe.training.sanity.gradient_flow import gradient_flow, gradient_norms
from cvpipe.training.sanity.initial_loss import initial_loss
from cvpipe.training.sanity.overfit import attempt_overfit, overfit
from cvpipe.training.sanity.rate_range import rate_range, rising_rates, smoothed

FACTS = Facts(tuple("0123456789"))
CHECKS = [
    "initial loss",
    "gradient",
    "activations",
    "gradient flow",
    "overfits one batch",
    "learning rate",
]
Cvpipe = Callable[..., tuple[int, str, str]]
Layers = list[keras.layers.Layer]


def small_network(first: Layers | None = None, last: Layers | None = None) -> keras.Model:
    """Return a network: convolution, ReLU, `first`, convolution, ReLU, `last`, and ten scores."""
    keras.utils.set_random_seed(0)
    image = x = keras.Input((16, 16, 1))
    for number, own in enumerate((first, last), 1):
        x = keras.layers.Conv2D(8, 3, 2, kernel_initializer="he_normal", name=f"conv{number}")(x)
        x = keras.layers.Activation("relu", name=f"relu{number}")(x)
        for layer in own or []:
            x = layer(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(image, {"logits": keras.layers.Dense(10, name="logits")(x)})


def case(model: keras.Model | None = None, *overrides: str) -> SanityCase:
    config = without_regularization(small_config("optimizer.learning_rate=0.02", *overrides))
    source = digits(Digits(kind="digits"))["all"]
    task = load_task(config, source.facts)
    examples = some_examples(source, config, task)
    return SanityCase(model or small_network(), task, config, examples)


class Doubling(keras.layers.Layer):
    """The identity, with a gradient that is twice the right one."""

    def call(self, x: Any) -> Any:
        @tf.custom_gradient
        def wrong(x: Any) -> Any:
            return tf.identity(x), lambda gradient: 2 * gradient

        return wrong(x)


class Cut(keras.layers.Layer):
    """The identity, without a gradient."""

    def call(self, x: Any) -> Any:
        return tf.stop_gradient(x)


class Noise(keras.layers.Layer):
    """Adds other noise at every call, as dropout does."""

    def __init__(self) -> None:
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, x: Any) -> Any:
        return x + tf.cast(keras.random.normal(tf.shape(x), seed=self.seed_generator), x.dtype)


@pytest.mark.parametrize(
    "loss",
    [
        "{kind: softmax}",
        "{kind: softmax, label_smoothing: 0.1}",
        "{kind: hinge}",
        "{kind: squared_hinge}",
        "{kind: binary}",
        "{kind: focal}",
    ],
)
def test_the_expected_initial_loss_is_that_of_equal_scores(loss: str) -> None:
    config = small_config(f"loss={loss}")
    expected = load_task(config, FACTS).initial_loss()
    assert expected == expected_initial_loss(config.loss, 10)
    for factor, ok in ((1.05, True), (1.2, False)):
        losses = {"some": expected * factor, "loss": expected * factor}
        assert initial_loss(losses, expected, config, 10).ok is ok


def test_each_kind_of_suspicious_initial_loss_has_its_advice() -> None:
    plain, weighed = small_config("loss.l2=0"), small_config("loss.l2=0.1")

    def judged(config: Config, loss: float, l2: float | None = None) -> str:
        losses = {"loss": loss} if l2 is None else {"l2": l2, "loss": loss + l2}
        finding = initial_loss(losses, load_task(config, FACTS).initial_loss(), config, 10)
        assert finding.ok is (finding.advice == "")
        return finding.advice

    assert judged(plain, math.log(10)) == judged(weighed, math.log(10), 0.2) == ""
    assert "too large or not finite" in judged(plain, 9.0)
    assert "too large or not finite" in judged(plain, math.nan)
    assert "reveal their labels" in judged(plain, 1.0)
    assert "lower loss.l1 or loss.l2" in judged(weighed, math.log(10), 30.0)
    transferred = plain.model_copy(
        update={"model": plain.model.model_copy(update={"weights": "runs/other"})}
    )
    assert judged(transferred, 1.0) == ""


@pytest.mark.parametrize(
    "layers", [[], ["BatchNormalization"], ["Noise"], ["MaxPooling2D"]], ids=str
)
def test_right_gradients_agree_with_differences_and_the_model_is_left_as_it_was(
    layers: list[str],
) -> None:
    made = [Noise() if name == "Noise" else getattr(keras.layers, name)() for name in layers]
    own = case(small_network(made))
    before = [variable.numpy() for variable in own.model.variables]
    finding = gradient_check(own)
    assert finding.ok and finding.measured["weights"] == 6
    assert finding.measured["median_relative_error"] < 1e-5
    for variable, value in zip(own.model.variables, before):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert {layer.compute_dtype for layer in own.model.layers} == {"float32"}


@pytest.mark.parametrize(
    "loss", ["{kind: hinge}", "{kind: squared_hinge}", "{kind: binary}", "{kind: focal}"]
)
def test_every_loss_has_the_gradient_of_its_value(loss: str) -> None:
    finding = gradient_check(case(None, f"loss={loss}"))
    assert finding.ok and finding.measured["median_relative_error"] < 1e-4


def test_a_wrong_gradient_is_found_at_the_kernels_that_get_it() -> None:
    finding = gradient_check(case(small_network([Doubling()])))
    assert not finding.ok
    assert finding.measured["wrong_kernels"] == ["conv1/kernel"]
    errors = dict(finding.table)["conv1/kernel"].split()
    assert [float(error) for error in errors] == pytest.approx([0.5, 0.5], rel=1e-2)


def test_a_layer_that_is_cut_off_gets_no_gradient() -> None:
    sound, cut = (gradient_norms(case(small_network(last=layers))) for layers in ([], [Cut()]))
    assert gradient_flow(sound, {}).ok
    finding = gradient_flow(cut, {})
    assert not finding.ok
    assert finding.measured["unreached"] == [
        "conv1/kernel",
        "conv1/bias",
        "conv2/kernel",
        "conv2/bias",
    ]
    assert "No gradient reaches conv1/kernel, conv1/bias, conv2/kernel and others" in finding.advice


def test_gradients_that_are_zero_or_not_finite_count_as_missing() -> None:
    zeros = small_network()
    zeros.get_layer("conv2").kernel.assign(tf.zeros_like(zeros.get_layer("conv2").kernel))
    assert {"conv1/kernel", "conv2/kernel"} <= set(
        gradient_flow(gradient_norms(case(zeros)), {}).measured["unreached"]
    )
    huge = small_network()
    huge.get_layer("conv1").kernel.assign(1e30 * huge.get_layer("conv1").kernel)
    huge.get_layer("conv2").kernel.assign(1e30 * huge.get_layer("conv2").kernel)
    assert "conv1/kernel" in gradient_flow(gradient_norms(case(huge)), {}).measured["not_finite"]


@pytest.mark.parametrize(
    "update, advice", [(1e-3, ""), (0.5, "lower"), (math.nan, "lower"), (1e-8, "raise")]
)
def test_updates_that_are_far_too_large_or_small_are_suspicious(update: float, advice: str) -> None:
    finding = gradient_flow({"a/kernel": 1.0}, {"a/kernel": update})
    assert finding.ok is (advice == "")
    assert finding.ok or finding.advice.endswith(f"{advice} optimizer.learning_rate")


def test_activation_statistics_are_those_of_the_outputs() -> None:
    own = case()
    found = statistics(own)
    assert list(found) == ["conv1", "relu1", "conv2", "relu2", "logits"]
    convolved = own.model.get_layer("conv1")(own.batch["image"]).numpy()
    rectified = np.maximum(convolved, 0)
    for name, values in (("conv1", convolved), ("relu1", rectified)):
        assert found[name].mean == pytest.approx(values.mean(), rel=1e-4)
        assert found[name].std == pytest.approx(values.std(), rel=1e-4)
        assert found[name].zeros == pytest.approx((values == 0).mean(), abs=1e-6)
        assert found[name].dead == pytest.approx((values == 0).all((0, 1, 2)).mean())
        assert not found[name].alike
    assert found["relu1"].zeros > 0.2 > found["conv1"].zeros
    assert activations(own).ok


@pytest.mark.parametrize(
    "change, advice",
    [
        (lambda kernel, bias: (kernel * 0 + 0.01, bias), "All channels of conv1 are equal"),
        (lambda kernel, bias: (kernel * 1e-5, bias), "The signal vanishes at conv1"),
        (lambda kernel, bias: (kernel * 1e5, bias), "The signal explodes at conv1"),
        (lambda kernel, bias: (kernel * math.nan, bias), "outputs of conv1 are not finite"),
        (
            lambda kernel, bias: (kernel, bias - 100 * (np.arange(8) < 5)),
            "62% of the channels of relu1 are 0",
        ),
    ],
)
def test_activations_that_can_not_learn_are_suspicious(
    change: Callable[[Any, Any], tuple[Any, Any]], advice: str
) -> None:
    model = small_network()
    layer = model.get_layer("conv1")
    for variable, value in zip(
        (layer.kernel, layer.bias), change(layer.kernel.numpy(), layer.bias.numpy())
    ):
        variable.assign(value)
    finding = activations(case(model))
    assert not finding.ok and finding.advice.startswith(advice)


def test_a_batch_is_overfitted_even_with_wrong_labels() -> None:
    own = case()
    shuffled = {"label": np.random.default_rng(1).permutation(own.batch["targets"]["label"])}
    attempt = attempt_overfit(own._replace(batch={**own.batch, "targets": shuffled}), 300)
    finding = overfit(attempt, "accuracy")
    assert finding.ok and finding.measured["accuracy"] == 1.0
    assert len(attempt.losses) < 300 and attempt.losses[-1] < 0.05 * attempt.losses[0]
    assert set(attempt.updates) == {"conv1/kernel", "conv2/kernel"}


def test_a_batch_that_cannot_be_overfitted_is_suspicious() -> None:
    own = case()
    # The same image under every label.
    same = np.repeat(own.batch["image"][:1], len(own.batch["image"]), axis=0)
    finding = overfit(
        attempt_overfit(own._replace(batch={**own.batch, "image": same}), 60), "accuracy"
    )
    assert not finding.ok and finding.measured["accuracy"] < 0.5


@pytest.mark.parametrize("rate", [1e-9, 1e6])
def test_an_absurd_learning_rate_overfits_nothing(rate: float) -> None:
    own = case(None, f"optimizer.learning_rate={rate}")
    attempt = attempt_overfit(own, 40)
    assert not overfit(attempt, "accuracy").ok
    assert not gradient_flow(gradient_norms(own), attempt.updates).ok


def test_the_first_update_is_that_of_the_full_rate_whatever_the_warm_up() -> None:
    cold, warmed = (
        attempt_overfit(case(None, f"schedule.warmup_epochs={epochs}"), 20) for epochs in (0, 1)
    )
    assert warmed.updates == pytest.approx(cold.updates, rel=1e-3)
    assert warmed.losses[1] > cold.losses[1]


def range_of(curve: Callable[[np.ndarray], np.ndarray], rate: float) -> Any:
    rates = rising_rates(200)
    return rate_range(curve(rates.astype(np.float64)).tolist(), rates, rate)


def valley(rates: np.ndarray) -> np.ndarray:
    """A loss that falls around 1e-3 and rises from 0.1 on."""
    return 2.3 - 1.5 / (1 + 1e-3 / rates) + (rates / 0.5) ** 2


def test_the_range_test_finds_where_a_loss_is_lowest() -> None:
    finding = range_of(valley, 0.01)
    grid = np.geomspace(1e-5, 10, 10_000)
    lowest = grid[valley(grid).argmin()]
    # Smoothing averages about the last ten steps; 33 steps raise the rate by a factor of 10.
    assert lowest <= finding.measured["lowest_at"] <= 3 * lowest
    assert finding.measured["suggested"] == pytest.approx(finding.measured["lowest_at"] / 10)
    assert finding.ok


@pytest.mark.parametrize(
    "rate, advice",
    [(5.0, "At the pipeline's rate the loss rises: lower"), (1e-6, "the loss falls slowly: raise")],
)
def test_a_rate_far_from_the_valley_is_suspicious(rate: float, advice: str) -> None:
    finding = range_of(valley, rate)
    assert not finding.ok and advice in finding.advice


def test_a_loss_that_falls_nowhere_is_suspicious() -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, 200)
    finding = range_of(lambda rates: 2.3 + noise, 0.01)
    assert not finding.ok and finding.measured["suggested"] is None
    assert not rate_range([math.nan], rising_rates(200), 0.01).ok


def test_smoothing_keeps_what_is_constant_and_forgets_slowly() -> None:
    np.testing.assert_allclose(smoothed(np.full(5, 3.0)), 3.0)
    np.testing.assert_allclose(
        smoothed(np.array([1.0, 2.0])), [1.0, (0.9 * 0.1 + 0.1 * 2) / (1 - 0.81)]
    )


@pytest.mark.soak
def test_a_sound_pipeline_passes_every_check_and_gets_a_report_beside_its_run(
    cvpipe: Cvpipe, small_arguments: list[str], tmp_path: Path
) -> None:
    small = ["--set", "prepare.size=[8, 8]", "--set", "train.batch_size=16"]
    code, out, _ = cvpipe(
        "train", *small_arguments, *small, "--run", tmp_path / "run", "--sanity", "--json"
    )
    result = json.loads(out)
    assert code == 0
    assert {check["name"]: check["ok"] for check in result["checks"]} == dict.fromkeys(
        CHECKS, True
    ), result
    assert result["ok"] and result["report"] == str(tmp_path / "run-sanity" / "report.md")
    assert [path.name for path in tmp_path.iterdir()] == ["run-sanity"]
    report = (tmp_path / "run-sanity" / "report.md").read_text()
    for name in CHECKS:
        assert f"## {name.capitalize()}: ok" in report
    for picture in ("activations", "gradient_flow", "overfits_one_batch", "learning_rate"):
        assert (tmp_path / "run-sanity" / f"{picture}.png").stat().st_size > 1000
        assert f"]({picture}.png)" in report
    assert "stage1_block1_conv1/kernel | " in report


FAST = ["--set", "prepare.size=[32, 32]", "--set", "loss.l2=0", "--sanity", "--sanity-steps", "20"]


@pytest.mark.soak
def test_a_broken_pipeline_gets_the_same_findings_each_time(
    cvpipe: Cvpipe, small_arguments: list[str], tmp_path: Path
) -> None:
    broken = ["--set", "model={backbone: lenet5, initializer: constant, initializer_value: 0.0}"]
    results = [
        cvpipe("train", small_arguments[0], *FAST, *broken, "--run", tmp_path / "run")
        for _ in range(2)
    ]
    assert results[0] == results[1]
    code, out, _ = results[0]
    assert code == 0
    *lines, last = out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "ok",
        "ok",
        "suspicious",
        "suspicious",
        "suspicious",
        "suspicious",
    ]
    assert last.endswith("report.md")


def test_l_bfgs_has_no_learning_rate_to_check(
    cvpipe: Cvpipe, small_arguments: list[str], tmp_path: Path
) -> None:
    overrides = [
        "augment=[]",
        "model={backbone: linear, norm: none}",
        "optimizer={kind: lbfgs}",
        "schedule={kind: constant}",
    ]
    arguments = [*FAST, *(part for override in overrides for part in ("--set", override))]
    code, out, _ = cvpipe(
        "train", small_arguments[0], *arguments, "--run", tmp_path / "run", "--json"
    )
    assert code == 0 and [check["name"] for check in json.loads(out)["checks"]] == CHECKS[:4]


def test_the_command_changes_no_folder_that_holds_something_else(
    cvpipe: Cvpipe, small_arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "run-sanity").mkdir()
    (tmp_path / "run-sanity" / "mine.txt").write_text("mine")
    code, _, err = cvpipe(
        "train",
        small_arguments[0],
        *FAST,
        "--set",
        "model={backbone: linear}",
        "--run",
        tmp_path / "run",
    )
    assert code == 2 and "choose another folder with --run" in err
    assert [path.name for path in (tmp_path / "run-sanity").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--fresh"], "--sanity trains nothing"),
        (["--sanity-steps", "5"], "give at least 20"),
        (["--set", "data.source={kind: folder, path: nowhere}"], "no such folder"),
    ],
)
def test_wrong_use_leaves_no_folder(
    cvpipe: Cvpipe, small_arguments: list[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    code, out, err = cvpipe(
        "train", small_arguments[0], "--sanity", *arguments, "--run", tmp_path / "run"
    )
    assert code and not out and message in err
    assert not any(tmp_path.iterdir())
