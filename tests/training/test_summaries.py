"""Guards what TensorBoard finds in a run."""

from __future__ import annotations

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conftest import small_config
from cvpipe.training.train import train


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> EventAccumulator:
    run = tmp_path_factory.mktemp("runs") / "run"
    train(small_config("train.pictures=true", "train.epochs=1", "schedule.warmup_epochs=0"), run)
    accumulator = EventAccumulator(str(run / "events"), size_guidance={"tensors": 0, "images": 0})
    accumulator.Reload()
    return accumulator


@pytest.mark.parametrize(
    "name",
    [
        "train/loss",
        "train/cross_entropy",
        "train/learning_rate",
        "train/images_per_second",
        "train/input_wait",
        "validation/accuracy",
        "validation/loss",
        "augmented training images",
        "predictions",
        "confusion_matrix",
        "calibration",
        "config",
    ],
)
def test_tensorboard_shows(events: EventAccumulator, name: str) -> None:
    assert name in events.Tags()["tensors"]


def test_tensorboard_shows_the_graph(events: EventAccumulator) -> None:
    assert events.Tags()["graph"]


def test_tensorboard_itself_can_be_started() -> None:
    # It needs pkg_resources, which newer setuptools lack.
    from tensorboard import default

    assert default.get_plugins()
