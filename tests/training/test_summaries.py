"""Guards a run's files for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data

from conftest import small_config
from cvpipe.training.summaries import SWEEP, Summaries
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


def test_the_hparams_tab_lists_every_key_of_the_pipeline_with_the_validation_scores(
    events: Any,
) -> None:
    sessions = events.PluginRunToTagToContent("hparams")
    assert set(sessions) == {"digits/validation"}
    (content,) = (
        content for tag, content in sessions["digits/validation"].items() if "start" in tag
    )
    session = parse_session_start_info_plugin_data(content)
    read = {
        key: getattr(value, str(value.WhichOneof("kind"))) for key, value in session.hparams.items()
    }
    config = small_config("train.pictures=true", "train.epochs=1", "schedule.warmup_epochs=0")
    assert session.group_name == "digits"
    assert read["optimizer.learning_rate"] == config.optimizer.learning_rate
    assert read["train.histograms"] is True and read["model.backbone"] == config.model.backbone
    assert json.loads(read["prepare.size"]) == list(config.prepare.size)


def test_a_sweep_alone_tells_the_hparams_tab_of_its_runs(tmp_path: Path) -> None:
    (tmp_path / SWEEP).mkdir()
    summaries = Summaries(tmp_path / "trial-000")
    summaries.hyperparameters("train", small_config())
    summaries.close()
    assert not (tmp_path / "trial-000").exists()


def test_tensorboard_itself_can_be_started() -> None:
    # It needs pkg_resources, which newer setuptools lack.
    from tensorboard import default

    assert default.get_plugins()
