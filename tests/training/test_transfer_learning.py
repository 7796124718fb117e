"""Guards transfer learning: weights of other libraries, layers that are unfrozen later, their
learning rates, and the record of a weights file's origin.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import small_config
from cvpipe.data.facts import Facts
from cvpipe.data.sources import open_splits
from cvpipe.errors import ConfigError, DataError
from cvpipe.export.about import read_about
from cvpipe.export.export import export
from cvpipe.models.freeze import freeze
from cvpipe.models.weights.convert import OF_NORM
from cvpipe.models.weights.names import tables_of
from cvpipe.tasks import classification, load_task
from cvpipe.training.build import build_state, load_networks
from cvpipe.training.layer_rates import with_rates
from cvpipe.training.run import Run
from cvpipe.training.start import initialize
from cvpipe.training.state import State
from cvpipe.training.thawing import freeze_as_at
from cvpipe.training.train import train
from torch_files import archive_bytes, described, storages_of

RESNET = ("model.backbone=resnet18", "model.width=0.125", "prepare={size: [32, 32], channels: 3}")


# -- weights of other libraries


def as_pytorch_has_them(model: keras.Model) -> dict[str, np.ndarray]:
    """Return a ResNet's weights with torchvision's names and layout."""
    values = {variable.path: variable.numpy() for variable in model.variables}
    tensors = {}
    for layer in tables_of("resnet18")[0].layers:
        if layer.kind == "norm":
            for theirs, ours in OF_NORM.items():
                tensors[f"{layer.theirs}.{theirs}"] = values[f"{layer.ours}/{ours}"]
            tensors[f"{layer.theirs}.num_batches_tracked"] = np.int64(3)[np.newaxis]
        elif layer.kind == "dense":
            tensors[f"{layer.theirs}.weight"] = values[f"{layer.ours}/kernel"].T
            tensors[f"{layer.theirs}.bias"] = values[f"{layer.ours}/bias"]
        else:
            tensors[f"{layer.theirs}.weight"] = values[f"{layer.ours}/kernel"].transpose(3, 2, 0, 1)
    return tensors


def started(file: Path, *overrides: str, classes: int = 10) -> keras.Model:
    config = small_config(*RESNET, f"model.weights={file}", *overrides)
    source = open_splits(config.data)["train"].relabel(tuple(map(str, range(classes))))
    task = load_task(config, Facts(tuple(map(str, range(classes)))))
    state, _ = build_state(config, task, 1000)
    initialize(state.networks, source, config, task)
    return state.networks["network"]


@pytest.fixture
def saved(tmp_path: Path) -> tuple[keras.Model, Path]:
    """A ResNet, and a file of its weights as PyTorch would have them."""
    origin = classification.build_network(small_config(*RESNET, "seed=5"), 10)
    tensors = as_pytorch_has_them(origin)
    (tmp_path / "a.pth").write_bytes(archive_bytes(described(tensors), storages_of(tensors)))
    return origin, tmp_path / "a.pth"


@pytest.mark.parametrize("classes", [10, 3])
def test_a_file_of_pytorch_gives_a_network_its_weights_by_name(
    saved: tuple[keras.Model, Path], classes: int
) -> None:
    origin, file = saved
    given = {variable.path: variable.numpy() for variable in origin.variables}
    for variable in started(file, classes=classes).variables:
        if variable.path.startswith("logits/") and classes != 10:
            assert variable.shape[-1] == classes
        elif not variable.path.endswith("seed_generator_state"):
            np.testing.assert_array_equal(variable.numpy(), given[variable.path])


def test_a_weights_file_doesnt_set_the_preprocessing_of_images(
    saved: tuple[keras.Model, Path],
) -> None:
    with pytest.raises(
        ConfigError, match="doesn't contain the mean and standard deviation .*; set prepare.mean"
    ):
        started(saved[1], "prepare={size: [32, 32], channels: 3, normalize: weights}")


def test_a_file_of_another_width_is_refused_with_the_layer(saved: tuple[keras.Model, Path]) -> None:
    with pytest.raises(DataError, match=re.escape("layer stem: its kernel has the shape")):
        started(saved[1], "model.width=0.25")


def test_weights_of_a_network_that_no_other_library_has_are_refused(
    saved: tuple[keras.Model, Path],
) -> None:
    with pytest.raises(
        ConfigError, match="no other library has resnet8; give a run of this network, or"
    ):
        started(saved[1], "model.backbone=resnet8")


# -- layers that are trained later


def state_of(*overrides: str) -> tuple[State, Any]:
    config = small_config("model.weights=unused", "train.epochs=9", *overrides)
    state, _ = build_state(config, load_task(config, Facts(tuple("0123456789"))), 320)
    return state, config


def trained_layers(network: keras.Model) -> set[str]:
    """Return the first parts of the names of trainable layers."""
    return {variable.path.split("_")[0].split("/")[0] for variable in network.trainable_variables}


def test_a_backbone_thaws_after_its_epochs_together() -> None:
    state, config = state_of("model.freeze=backbone", "model.freeze_epochs=2")
    network = state.networks["network"]
    assert state.thawing.steps == (20,)
    seen = []
    for step in (0, 19, 20, 89):
        freeze_as_at(step, state.thawing, state.trained, config)
        seen.append(trained_layers(network))
    every = {"stem", "stage1", "stage2", "stage3", "logits"}
    assert seen == [{"logits"}, {"logits"}, every, every]
    # From the start, the optimizer has variables for the frozen layers, too.
    assert len(state.moved["optimizer"]) == len(network.trainable_variables)


def test_stages_thaw_one_after_the_other_from_the_last_on() -> None:
    state, config = state_of(
        "model.freeze=backbone", "model.freeze_epochs=1.5", "model.unfreeze=gradually"
    )
    assert state.thawing.steps == (15, 30, 45, 60)
    seen = []
    for step in (0, 15, 30, 45, 60):
        freeze_as_at(step, state.thawing, state.trained, config)
        seen.append(trained_layers(state.networks["network"]) - {"logits"})
    order = ["stage3", "stage2", "stage1", "stem"]
    assert seen == [set(order[:count]) for count in range(5)]


@pytest.mark.parametrize("freezing", [(), ("model.freeze=stages", "model.freeze_stages=2")])
def test_norms_keep_their_statistics_and_scales_where_asked(freezing: tuple[str, ...]) -> None:
    state, _ = state_of("model.freeze_norms=true", *freezing)
    network = state.networks["network"]
    trained = {variable.path for variable in network.trainable_variables}
    assert "stage3_block1_conv1/kernel" in trained
    assert not any("_norm/" in path for path in trained)
    before = {variable.path: variable.numpy() for variable in network.variables}
    network(tf.random.stateless_normal((4, 16, 16, 1), (0, 0)), training=True)
    for variable in network.non_trainable_variables:
        if "moving" in variable.path:
            np.testing.assert_array_equal(variable.numpy(), before[variable.path])


def test_a_backbone_without_stages_cannot_thaw_gradually() -> None:
    config = small_config(
        "prepare.size=[32, 32]",
        "model={backbone: lenet5, weights: a, freeze: backbone, freeze_epochs: 1, unfreeze:"
        " gradually}",
    )
    network = classification.build_network(config, 10)
    with pytest.raises(ConfigError, match="gradually, but lenet5 has no stages"):
        freeze(network, config.model)


@pytest.mark.parametrize(
    "overrides, sentence",
    [
        (["model.freeze_epochs=1"], "freeze_epochs has no effect without freeze; add freeze"),
        (["model.freeze_norms=true"], "freeze_norms would freeze random weights"),
        (
            ["model={backbone: resnet8, weights: a, freeze: backbone, unfreeze: gradually}"],
            "unfreeze: gradually needs freeze_epochs",
        ),
        (
            ["model={backbone: resnet8, weights: a, freeze: backbone, freeze_epochs: 2}"],
            r"model.freeze_epochs \(2\) must be below train.epochs \(2\)",
        ),
        (["prepare={size: [8, 8], normalize: weights}"], "set model.weights, or choose another"),
        (
            ["model={backbone: efficientnet_lite0, weights: imagenet}"],
            "prepare.normalize must be weights for model.weights: imagenet",
        ),
        (
            ["prepare={size: [8, 8], normalize: weights, mean: [0.1]}", "model.weights=a"],
            "mean is given, and normalize: weights takes it from model.weights",
        ),
        (["optimizer={kind: sgd, backbone_rate: 0}"], "optimizer.backbone_rate"),
    ],
)
def test_contradicting_keys_are_an_error(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        small_config(*overrides)


THAWING = (
    "model.freeze=backbone",
    "model.freeze_epochs=1",
    "data.limit=64",
    "optimizer={kind: adamw, learning_rate: 0.01, backbone_rate: 0.5}",
    "schedule={kind: constant}",
    "train.evaluate_every=3",
)


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    with np.load(Run(folder).checkpoint("last")) as arrays:
        return {name: arrays[name] for name in arrays}


@pytest.mark.soak
def test_a_run_that_thaws_ends_with_the_same_bits_where_it_is_continued(
    trained_run: Path, tmp_path: Path
) -> None:
    shared = (f"model.weights={trained_run}", *THAWING)
    train(small_config(*shared, "train.epochs=3"), tmp_path / "whole")
    train(small_config(*shared, "train.epochs=2"), tmp_path / "parts")
    train(small_config(*shared, "train.epochs=3"), tmp_path / "parts")
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        if "/" in name:
            assert value.tobytes() == parts[name].tobytes(), name


def test_what_is_frozen_stays_until_it_thaws_and_then_learns(
    trained_run: Path, tmp_path: Path
) -> None:
    config = small_config(f"model.weights={trained_run}", *THAWING, "train.epochs=2")
    train(config, tmp_path / "run")
    [given] = load_networks(Run(trained_run), Run(trained_run).checkpoint("best")).values()
    ended = weights_of(tmp_path / "run")
    assert ended["step"] == 4
    moved = np.abs(ended["networks/network/stem/kernel"] - given.get_layer("stem").kernel).max()
    # Adam moves a weight by about the learning rate per step; two of the four steps moved this one.
    assert 0.5 * 0.01 < moved < 2.5 * 0.5 * 0.01


# -- rates


def apply(optimizer: keras.optimizers.Optimizer, steps: range, *variables: Any) -> None:
    for step in steps:
        gradients = [tf.fill(v.shape, 0.1 * (step + 1) * (-1) ** step) for v in variables]
        optimizer.apply(gradients, variables)


OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "sgd": (keras.optimizers.SGD, {"momentum": 0.9, "nesterov": True}),
    "adam": (keras.optimizers.Adam, {}),
    "adamw": (keras.optimizers.AdamW, {"weight_decay": 0.3}),
    "rmsprop": (keras.optimizers.RMSprop, {}),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_share_of_the_rate_is_a_smaller_rate_of_one_variable(kind: str) -> None:
    optimizer, settings = OPTIMIZERS[kind]
    head, backbone, alone = (keras.Variable([1.0, 2.0]) for _ in range(3))
    both = with_rates(optimizer, (1.0, 0.25), (0, 0), 0.1, **settings)
    both.build([head, backbone])
    apply(both, range(3), head, backbone)
    whole, quarter = optimizer(0.1, **settings), optimizer(0.025, **settings)
    expected = keras.Variable([1.0, 2.0])
    apply(whole, range(3), expected)
    apply(quarter, range(3), alone)
    np.testing.assert_allclose(head.numpy(), expected.numpy(), rtol=1e-6)
    np.testing.assert_allclose(backbone.numpy(), alone.numpy(), rtol=1e-6)
    assert (backbone.numpy() != head.numpy()).all()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_variable_that_begins_late_moves_as_if_it_were_the_first_step(kind: str) -> None:
    optimizer, settings = OPTIMIZERS[kind]
    head, backbone, alone = (keras.Variable([1.0, 2.0]) for _ in range(3))
    both = with_rates(optimizer, (1.0, 1.0), (0, 3), 0.1, **settings)
    both.build([head, backbone])
    apply(both, range(3), head)
    assert backbone.numpy().tolist() == [1.0, 2.0]
    apply(both, range(3, 6), head, backbone)
    apply(optimizer(0.1, **settings), range(3, 6), alone)
    np.testing.assert_allclose(backbone.numpy(), alone.numpy(), rtol=1e-5)


def test_the_backbones_share_reaches_the_backbone_alone() -> None:
    state, _ = state_of("optimizer={kind: sgd, learning_rate: 0.1, backbone_rate: 0.2}")
    optimizer = state.optimizers["optimizer"]
    rates = dict(zip([v.path for v in state.moved["optimizer"]], optimizer.rates, strict=True))
    assert rates["stem/kernel"] == rates["stage3_block1_conv2_norm/gamma"] == 0.2
    assert rates["logits/kernel"] == rates["logits/bias"] == 1.0


# -- origins


@pytest.mark.soak
def test_a_run_and_its_artifact_name_the_weights_it_began_with(
    trained_run: Path, tmp_path: Path, gate_in_this_process: None
) -> None:
    config = small_config(f"model.weights={trained_run}", "train.epochs=1", "data.limit=32")
    train(config, tmp_path / "run")
    run, checkpoint = Run(tmp_path / "run"), Run(trained_run).checkpoint("best")
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert json.loads(run.weights_file.read_text())["sha256"] == digest
    artifact = Path(export(run, tmp_path / "model")["artifact"])
    [member] = read_about(artifact)["members"]
    assert member["weights"] == {"source": str(checkpoint), "license": None, "sha256": digest}
    card = (artifact / "assets.extra" / "model_card.md").read_text()
    assert "Training started from these weights" in card and digest in card


def test_a_run_that_begins_with_random_weights_names_none(trained_run: Path) -> None:
    assert Run(trained_run).weights is None
