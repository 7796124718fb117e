"""Guards ensembles: several runs whose answers are averaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from conftest import ROOT, Once, small_config
from cvpipe import config_file
from cvpipe.errors import DataError
from cvpipe.json_files import write_json
from cvpipe.training.ensemble import evaluate_ensemble, find_members, load_ensemble
from cvpipe.training.run import Run
from cvpipe.training.train import train
from cvpipe.training.trained import load


@pytest.fixture(scope="session")
def other_run(once: Once) -> Path:
    """A run of the same pipeline with another seed and another network."""
    other = ("seed=1", "model={backbone: linear, norm: none}", "train.epochs=1")
    return once("runs/other", lambda folder: train(small_config(*other), folder))


def test_an_ensemble_answers_with_the_mean_of_its_members_probabilities(
    trained_run: Path, other_run: Path
) -> None:
    image = tf.random.stateless_uniform([5, 16, 16, 1], [0, 0], -1, 1)
    together = load_ensemble(find_members([Run(trained_run), Run(other_run)])).predict(image)
    each = [
        load(Run(folder)).predict(image)["probabilities"] for folder in (trained_run, other_run)
    ]
    assert not np.allclose(each[0], each[1], atol=1e-3)
    np.testing.assert_allclose(together["probabilities"], np.mean(each, 0), atol=1e-6)


def test_a_single_member_answers_as_its_run(trained_run: Path) -> None:
    image = tf.random.stateless_uniform([5, 16, 16, 1], [0, 0], -1, 1)
    alone, member = (
        load(Run(trained_run)).predict(image),
        load_ensemble(find_members([Run(trained_run)])).predict(image),
    )
    assert alone.keys() == member.keys()
    for name in alone:
        np.testing.assert_array_equal(alone[name], member[name], err_msg=name)


def test_an_ensemble_is_scored_with_each_of_its_members(trained_run: Path, other_run: Path) -> None:
    scores = evaluate_ensemble(find_members([Run(trained_run), Run(other_run)]))
    assert scores["split"] == "test" and scores["images"] == 359
    assert [member["run"] for member in scores["members"]] == [str(trained_run), str(other_run)]
    assert all(0 < member["accuracy"] <= 1 for member in scores["members"])


def test_an_ensemble_isnt_scored_on_images_that_a_member_was_trained_on(
    trained_run: Path, swap_copy: Callable[[Path], Path]
) -> None:
    members = find_members([Run(trained_run), Run(swap_copy(trained_run))])
    with pytest.raises(DataError, match=r"/swapped: trained on \d+ images of the \d+ in the valid"):
        evaluate_ensemble(members, "validation")


def test_members_that_dont_fit_together_are_refused(trained_run: Path, tmp_path: Path) -> None:
    changes: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
        "because their configurations differ in 'prepare'": (
            "config",
            lambda config: config["prepare"].update(std=[0.4]),
        ),
        "probabilities mean different things with loss.kind softmax and binary": (
            "config",
            lambda config: config.update(loss={"kind": "binary"}),
        ),
        "its classes or keypoints differ from those of": (
            "run",
            lambda known: known["facts"]["class_names"].reverse(),
        ),
        "has other test images than": ("run", lambda known: known["digests"].update(test="other")),
    }
    for number, (sentence, (file, change)) in enumerate(changes.items()):
        other = Run(shutil.copytree(trained_run, tmp_path / str(number)))
        values = json.loads((other.folder / f"{file}.json").read_text())
        change(values)
        write_json(other.folder / f"{file}.json", values)
        with pytest.raises(DataError, match=sentence):
            load_ensemble(find_members([Run(trained_run), other]))


def test_members_with_heatmaps_of_different_sizes_are_refused_before_they_are_loaded(
    trained_run: Path, tmp_path: Path
) -> None:
    runs = []
    for stride in (4, 8):
        run = Run(shutil.copytree(trained_run, tmp_path / str(stride)))
        pipeline = ROOT / "pipelines/pose/stick_figures.yaml"
        config = config_file.load(pipeline, [f"model.head.stride={stride}"])
        write_json(run.folder / "config.json", config.to_json())
        runs.append(run)
    with pytest.raises(DataError, match=r"outputs with model.head.stride 8 and 4 can't be averag"):
        load_ensemble(find_members(runs))


def test_a_run_without_snapshots_says_how_to_get_them(trained_run: Path) -> None:
    with pytest.raises(
        DataError,
        match="no snapshots; train it with schedule.kind: restarts and train.snapshots: true",
    ):
        find_members([Run(trained_run)], snapshots=True)
