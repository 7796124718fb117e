"""Guards runs that are continued after their data moved, or for more epochs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import small_config
from cvpipe.errors import ConfigError
from cvpipe.training.report import evaluate_run
from cvpipe.training.run import Run
from cvpipe.training.train import train
from image_files import draw_photos

OPTIONS = (
    "train.batch_size=8",
    "train.epochs=1",
    "prepare={size: [8, 8], channels: 3}",
    "data.validation=0.2",
    "model={backbone: two_layer, dropout: 0.1}",
)
CONSTANT = "schedule={kind: constant}"


def train_photos(photos: Path, run: Path, *overrides: str) -> dict[str, Any]:
    source = f"data.source={{kind: folder, path: {photos}}}"
    return train(small_config(*OPTIONS, source, *overrides), run)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw_photos(tmp_path / "photos")


def weights(run: Path) -> dict[str, bytes]:
    with np.load(run / "checkpoints" / "last.npz") as arrays:
        return {name: arrays[name].tobytes() for name in arrays}


def started(run: Path, *overrides: str) -> Path:
    """Write a run's folder as it is after the first checkpoint of a training."""
    config = small_config(*OPTIONS, *overrides)
    known: Any = {"facts": {}, "examples": {"train": 8}, "digests": {"train": "x"}, "images": {}}
    Run(run).start(config, known, fresh=False)
    Run(run).checkpoint("last").parent.mkdir()
    Run(run).checkpoint("last").touch()
    return run


def goes_on(run: Path, *overrides: str) -> bool:
    """Resume the run with these overrides and the same data; return True if that works."""
    known: Any = json.loads((run / "run.json").read_text())
    return Run(run).start(small_config(*OPTIONS, *overrides), known, fresh=False)


@pytest.mark.soak
def test_a_run_goes_on_and_is_scored_where_its_data_lies_now(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    before = train_photos(photos, run, CONSTANT)
    moved = Path(shutil.move(photos, tmp_path / "elsewhere"))
    after = train_photos(moved, run, CONSTANT)
    assert (after["ended"], after["steps"]) == ("finished", before["steps"])
    assert evaluate_run(Run(run))["accuracy"] == before["accuracy"]
    (moved / "dark/01.jpg").rename(moved / "dark/new.jpg")
    again = Path(shutil.move(moved, tmp_path / "third"))
    with pytest.raises(ConfigError, match="changed since this run began .its images or annot"):
        train_photos(again, run, CONSTANT)


@pytest.mark.soak
def test_a_finished_run_made_longer_ends_as_one_that_was_that_long(
    photos: Path, tmp_path: Path
) -> None:
    train_photos(photos, tmp_path / "run", CONSTANT)
    longer = train_photos(photos, tmp_path / "run", CONSTANT, "train.epochs=2")
    train_photos(photos, tmp_path / "whole", CONSTANT, "train.epochs=2")
    assert longer["ended"] == "finished"
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    assert Run(tmp_path / "run").config.train.epochs == 2


PLACES = [
    ("data.source={kind: folder, path: here}", "data.source.path=there"),
    ("data.source={kind: tfds, name: mnist}", "data.source.data_dir=there"),
    (
        "data.source={kind: merge, sources: [{kind: idx, path: a}, {kind: idx, path: b}]}",
        "data.source.sources.1.path=there",
    ),
]


@pytest.mark.parametrize("source, place", PLACES)
def test_datas_path_may_change_and_no_other_key_of_the_data(
    source: str, place: str, tmp_path: Path
) -> None:
    run = started(tmp_path / "run", source)
    assert goes_on(run, source, place)
    key = place.partition("=")[0]
    assert Run(run).config == small_config(*OPTIONS, source, place)
    with pytest.raises(ConfigError, match="another configuration: data.test"):
        goes_on(run, source, place, "data.test=0.3")
    with pytest.raises(ConfigError) as refusal:
        goes_on(run, source, "seed=5")
    assert key not in str(refusal.value)


@pytest.mark.parametrize(
    "schedule",
    [
        "{kind: constant}",
        "{kind: step, at: [1]}",
        "{kind: exponential, decay: 0.1}",
        "{kind: inverse, decay: 0.1}",
        "{kind: restarts, cycle_epochs: 2}",
        "{kind: cyclic, cycle_epochs: 2}",
        "{kind: plateau}",
    ],
)
def test_a_run_whose_schedule_doesnt_depend_on_the_epochs_can_be_made_longer(
    schedule: str, tmp_path: Path
) -> None:
    overrides = (f"schedule={schedule}", "train.epochs=3")
    run = started(tmp_path / "run", *overrides)
    assert goes_on(run, *overrides, "train.epochs=7")
    with pytest.raises(ConfigError, match=r"train.epochs \(was 7, now 3\)"):
        goes_on(run, *overrides)


@pytest.mark.parametrize("kind", ["cosine", "polynomial"])
def test_a_schedule_up_to_the_last_epoch_cant_be_made_longer_and_says_what_to_do(
    kind: str, tmp_path: Path
) -> None:
    schedule = f"schedule={{kind: {kind}}}"
    run = started(tmp_path / "run", schedule)
    with pytest.raises(ConfigError) as error:
        goes_on(run, schedule, "train.epochs=2")
    said = str(error.value)
    assert "train.epochs can't be raised from 1 to 2, because the learning rates" in said
    assert f"schedule.kind: {kind} depend on the number of epochs" in said
    assert "--run" in said and f"--set model.weights={run}" in said
    assert Run(run).config.train.epochs == 1


def test_one_device_of_a_mirrored_strategy_trains_to_the_same_weights(
    photos: Path, tmp_path: Path
) -> None:
    for name in ("one", "mirrored"):
        train_photos(photos, tmp_path / name, f"train.strategy={name}")
    first, second = (
        dict(np.load(tmp_path / name / "checkpoints" / "last.npz")) for name in ("one", "mirrored")
    )
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_allclose(second[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_snapshots_of_cycles_that_dont_end_are_refused() -> None:
    cycles = "schedule={kind: restarts, cycle_epochs: 5}"
    with pytest.raises(ConfigError, match="the first cycle, of 5 epochs, doesn't end within"):
        small_config("train.epochs=2", "train.snapshots=true", cycles)
    assert small_config("train.epochs=5", "train.snapshots=true", cycles).train.snapshots
