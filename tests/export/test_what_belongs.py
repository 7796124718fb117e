"""Guards the contents of an artifact: every operation that answers need, and no operation that only
training uses.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from conftest import Once, small_config
from cvpipe.errors import DataError
from cvpipe.export.about import read_about
from cvpipe.export.artifact import open_artifact
from cvpipe.export.export import export, export_members
from cvpipe.export.score import evaluate_artifact
from cvpipe.training.ensemble import evaluate_ensemble, find_members
from cvpipe.training.run import Run
from cvpipe.training.train import train

EVERY_AUGMENTATION = [
    "flip",
    "pad_crop",
    "random_resized_crop",
    "rotate",
    "translate",
    "shear",
    "lens",
    "color_jitter",
    "pca_lighting",
    "grayscale",
    "erase",
    "cutout",
    "rand_augment",
    "auto_augment",
]


@pytest.fixture(scope="session")
def whitened(once: Once) -> tuple[Path, Path]:
    """Train and export a run with whitening, ten views of two sizes, and all random operations of
    training.
    """
    ops = ", ".join(f"{{op: {name}}}" for name in EVERY_AUGMENTATION)
    config = small_config(
        "prepare.size=[12, 12]",
        "prepare.normalize=zca",
        "test_time={views: ten, sides: [12, 16]}",
        f"augment=[{ops}]",
        "mix=[{op: mixup}, {op: cutmix}]",
        "model.stochastic_depth=0.1",
        "model.drop_connect=0.1",
        "train.epochs=1",
        "data.limit=200",
        "schedule.warmup_epochs=0",
    )

    def make(folder: Path) -> None:
        train(config, folder / "run")
        export(Run(folder / "run"), folder / "model")

    folder = once("whitened", make)
    return folder / "run", folder / "model" / "1"


def operations(artifact: Path) -> set[str]:
    """Return the names of all operations in a SavedModel's graph and its functions."""
    saved = SavedModel.FromString((artifact / "saved_model.pb").read_bytes())
    [graph] = [meta.graph_def for meta in saved.meta_graphs]
    return {
        node.op
        for nodes in (graph.node, *(function.node_def for function in graph.library.function))
        for node in nodes
    }


@pytest.mark.soak
def test_whitening_and_views_pass_the_gate(whitened: tuple[Path, Path]) -> None:
    assert read_about(whitened[1])["gate"]["max_difference"] <= 1e-5


@pytest.mark.soak
def test_nothing_random_is_in_an_artifact(whitened: tuple[Path, Path]) -> None:
    found = operations(whitened[1])
    assert "Conv2D" in found and "DecodePng" in found
    assert not {name for name in found if "Random" in name or "Shuffle" in name}
    # Only geometric augmentations use this operation.
    assert "ImageProjectiveTransformV3" not in found


@pytest.mark.soak
def test_the_artifact_takes_every_view_and_whitens_by_the_training_set(
    whitened: tuple[Path, Path],
) -> None:
    loaded = tf.saved_model.load(str(whitened[1]))
    assert loaded.signatures["tensor"].structured_input_signature[1]["image"].shape == (
        None,
        20,
        12,
        12,
        1,
    )
    with np.load(Run(whitened[0]).checkpoint("last")) as arrays:
        matrix = arrays["networks/network/normalize/matrix"]
    assert any(
        variable.shape == matrix.shape and (variable.numpy() == matrix).all()
        for variable in loaded.variables
    )


@pytest.mark.soak
def test_the_artifact_scores_as_the_run_does(whitened: tuple[Path, Path]) -> None:
    report = Run(whitened[0]).report("test").read_text(encoding="utf-8")
    served = evaluate_artifact(whitened[1], "test")
    assert f"accuracy | {served['accuracy']:.4f}" in report


@pytest.mark.soak
@pytest.mark.usefixtures("gate_in_this_process")
def test_an_ensemble_is_one_artifact(trained_run: Path, tmp_path: Path) -> None:
    """The ensemble consists of the same run twice, so its mean equals the run's answers."""
    members = find_members([Run(trained_run), Run(trained_run)])
    result = export_members(members, tmp_path / "together")
    assert result["max_difference"] <= 1e-5
    about = read_about(Path(result["artifact"]))
    assert [member["checkpoint"] for member in about["members"]] == [
        str(member.checkpoint) for member in members
    ]
    assert json.dumps(about["config"]) == json.dumps(Run(trained_run).config.to_json())
    scores, served = evaluate_ensemble(members), evaluate_artifact(Path(result["artifact"]), "test")
    assert served["accuracy"] == scores["accuracy"] == scores["members"][0]["accuracy"]
    assert open_artifact(Path(result["artifact"])).facts == Run(trained_run).facts


@pytest.mark.soak
@pytest.mark.usefixtures("gate_in_this_process")
def test_an_exported_ensemble_isnt_scored_on_images_that_a_member_was_trained_on(
    trained_run: Path, swap_copy: Callable[[Path], Path], tmp_path: Path
) -> None:
    members = find_members([Run(trained_run), Run(swap_copy(trained_run))])
    artifact = Path(export_members(members, tmp_path / "together")["artifact"])
    with pytest.raises(DataError, match=r"/swapped: trained on \d+ images of the \d+ in the valid"):
        evaluate_artifact(artifact, "validation")
    assert evaluate_artifact(artifact, "test")["images"] == 359
