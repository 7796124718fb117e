"""Guards what TensorBoard finds in a run."""

from __future__ import annotations

from typing import Any

import pytest
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from conftest import small_config
from cvpipe.training.train import train


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("runs")
    options = ("train.pictures=true", "train.epochs=1", "schedule.warmup_epochs=0")
    train(small_config(*options, "train.histograms=true"), folder / "digits")
    multiplexer = EventMultiplexer(size_guidance={"tensors": 0, "images": 0})
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    return multiplexer


def test_a_run_is_two_of_tensorboards_named_after_it_whose_curves_have_the_same_names(
    events: Any,
) -> None:
    assert set(events.Runs()) == {"digits/train", "digits/validation"}
    for run in events.Runs().values():
        assert "loss" in run["tensors"]


@pytest.mark.parametrize(
    "name",
    [
        "train/loss",
        "train/cross_entropy",
        "train/learning_rate",
        "train/images_per_second",
        "train/input_wait",
        "train/gradient_norm",
        "train/augmented training images",
        "train/config",
        "train/environment",
        "train/weights/logits/kernel",
        "train/gradients/logits/kernel",
        "train/activations/network/logits",
        "validation/accuracy",
        "validation/loss",
        "validation/per_class/7/f1",
        "validation/predictions",
        "validation/confusion_matrix",
        "validation/calibration",
    ],
)
def test_tensorboard_shows(events: Any, name: str) -> None:
    part, _, tag = name.partition("/")
    assert tag in events.Runs()[f"digits/{part}"]["tensors"]


def test_tensorboard_shows_the_graph(events: Any) -> None:
    assert events.Runs()["digits/train"]["graph"]


def test_tensorboard_itself_can_be_started() -> None:
    # It needs pkg_resources, which newer setuptools lack.
    from tensorboard import default

    assert default.get_plugins()
