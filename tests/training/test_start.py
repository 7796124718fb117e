"""Guards trainings that start from trained weights, some of which are frozen."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import ROOT, small_config
from cvpipe import config_file
from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.data.sources import open_splits
from cvpipe.errors import ConfigError, DataError
from cvpipe.export.keras_file import export_keras
from cvpipe.models.applications import application
from cvpipe.models.freeze import freeze
from cvpipe.tasks import classification, detection, load_task, pose
from cvpipe.training.build import build_state, load_networks
from cvpipe.training.ensemble import Member
from cvpipe.training.run import Run
from cvpipe.training.start import initialize, take_over
from cvpipe.training.train import train

DIGITS = tuple("0123456789")
MOBILE = (
    "model.backbone=keras/MobileNetV2",
    "model.width=1",
    "prepare.size=[32, 32]",
    "prepare.channels=3",
    "prepare.mean=[0]",
    "prepare.std=[1]",
    "model.dropout=0",
)


def started(*overrides: str, classes: tuple[str, ...] = DIGITS) -> keras.Model:
    config = small_config(*overrides)
    task = load_task(config, Facts(classes))
    state, _ = build_state(config, task, 1000)
    source = open_splits(config.data)["train"]
    source = source.relabel(classes) if classes != DIGITS else source
    initialize(state.networks, source, config, task)
    return state.networks["network"]


def trained_network(run: Run, checkpoint: Path | None = None) -> keras.Model:
    """Return the run's network at its best, or at a checkpoint."""
    return load_networks(run, checkpoint or run.checkpoint("best"))["network"]


def values(model: keras.Model) -> dict[str, np.ndarray]:
    return {
        variable.path: variable.numpy()
        for variable in model.variables
        if "seed_generator" not in variable.path
    }


def assert_taken_over(model: keras.Model, origin: keras.Model, but: str = " ") -> None:
    before, after = values(origin), values(model)
    assert before.keys() == after.keys()
    for path, value in after.items():
        assert path.startswith(but) or (value == before[path]).all(), path


def test_all_weights_of_a_run_are_taken_if_the_classes_are_the_same(trained_run: Path) -> None:
    run = Run(trained_run)
    assert_taken_over(started(f"model.weights={trained_run}"), trained_network(run))


def test_other_classes_get_a_fresh_last_layer(trained_run: Path) -> None:
    run = Run(trained_run)
    before, model = (
        trained_network(run),
        started(f"model.weights={trained_run}", classes=("3", "5")),
    )
    for path, value in values(model).items():
        if path.startswith("logits/"):
            assert value.shape[-1] == 2
        else:
            np.testing.assert_array_equal(value, values(before)[path])


def test_all_weights_in_a_file_are_taken(trained_run: Path, tmp_path: Path) -> None:
    run = Run(trained_run)
    origin = trained_network(run)
    origin.save_weights(tmp_path / "digits.weights.h5")
    assert_taken_over(started(f"model.weights={tmp_path / 'digits.weights.h5'}"), origin)
    fewer = started(f"model.weights={tmp_path / 'digits.weights.h5'}", classes=("3", "5"))
    assert fewer.get_layer("logits").kernel.shape[-1] == 2
    np.testing.assert_array_equal(fewer.get_layer("stem").kernel, origin.get_layer("stem").kernel)


def test_all_weights_in_a_runs_keras_file_are_taken(trained_run: Path, tmp_path: Path) -> None:
    run = Run(trained_run)
    file = tmp_path / "digits.keras"
    export_keras(Member(run, run.checkpoint("best")), file)
    origin = load_networks(run, run.checkpoint("best"))["network"]
    assert_taken_over(started(f"model.weights={file}"), origin)
    fewer = started(f"model.weights={file}", classes=("3", "5"))
    assert fewer.get_layer("logits").kernel.shape[-1] == 2
    np.testing.assert_array_equal(fewer.get_layer("stem").kernel, origin.get_layer("stem").kernel)


def test_a_keras_file_doesnt_change_the_seed_of_dropout(trained_run: Path, tmp_path: Path) -> None:
    run = Run(trained_run)
    export_keras(Member(run, run.checkpoint("best")), tmp_path / "digits.keras")
    fresh, model = started(), started(f"model.weights={tmp_path / 'digits.keras'}")
    seeds = [
        [v.numpy().tolist() for v in network.variables if "seed_generator" in v.path]
        for network in (fresh, model)
    ]
    assert seeds[0]
    assert seeds[0] == seeds[1]


def test_a_network_of_keras_applications_takes_its_weights_and_brings_its_preprocessing(
    tmp_path: Path,
) -> None:
    keras.utils.set_random_seed(1)
    published = application("MobileNetV2", input_shape=(32, 32, 3))
    published.save_weights(tmp_path / "mobilenet.weights.h5")
    model = started(*MOBILE, f"model.weights={tmp_path / 'mobilenet.weights.h5'}")
    image = tf.random.stateless_uniform([2, 32, 32, 3], [0, 0])
    features = keras.Model(model.input, model.get_layer("pool").input)(image)
    expected = published(keras.applications.mobilenet_v2.preprocess_input(image * 255))
    np.testing.assert_allclose(features, expected, atol=1e-5)


@pytest.mark.parametrize(
    "overrides, sentence",
    [
        (
            ["model.width=0.5"],
            "layer stem: its kernel has the shape [3, 3, 1, 4], but the pipeline's kernel has",
        ),
        (["model.backbone=resnet32"], "has no weights for layer stage1_block2_conv1"),
    ],
)
def test_weights_of_another_network_are_refused_with_the_layer(
    trained_run: Path, overrides: list[str], sentence: str
) -> None:
    with pytest.raises(DataError, match=re.escape(f"model.weights: {trained_run}: {sentence}")):
        started(f"model.weights={trained_run}", *overrides)


def test_a_file_of_another_shape_is_refused_with_the_layer(
    trained_run: Path, tmp_path: Path
) -> None:
    run = Run(trained_run)
    trained_network(run).save_weights(tmp_path / "digits.weights.h5")
    with pytest.raises(
        DataError,
        match="layer stem: the file's shape is .*3, 3, 1, 4.*, but the pipeline's is .*3, 3, 1, 8",
    ):
        started(f"model.weights={tmp_path / 'digits.weights.h5'}", "model.width=0.5")


def test_an_invalid_weights_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.weights.h5").write_text("I am a text file in disguise.")
    (tmp_path / "weights.npz").write_bytes(b"")
    for weights, sentence in {
        "nowhere": "not a run, a checkpoint or a file; give an existing path, or give imagenet",
        tmp_path
        / "weights.npz": "names of weight files end in .pth, .pt, .safetensors, .h5, .weights",
    }.items():
        with pytest.raises(ConfigError, match=sentence):
            started(f"model.weights={weights}")
    (tmp_path / "text.keras").write_text("So am I.")
    with pytest.raises(
        DataError, match="text.keras: can't be loaded .*give a file that cvpipe export"
    ):
        started(f"model.weights={tmp_path / 'text.keras'}")
    with pytest.raises(DataError, match="not weights saved by Keras"):
        started(f"model.weights={tmp_path / 'text.weights.h5'}")


@pytest.mark.parametrize(
    "freeze, frozen, free",
    [
        pytest.param(
            ["model.freeze=backbone"],
            "stage3_block1_conv2/kernel",
            "logits/kernel",
            marks=pytest.mark.soak,
        ),
        (
            ["model.freeze=stages", "model.freeze_stages=2"],
            "stage2_block1_conv1/kernel",
            "stage3_block1_conv1/kernel",
        ),
    ],
)
def test_what_is_frozen_stays_as_it_was_and_the_rest_learns(
    trained_run: Path, tmp_path: Path, freeze: list[str], frozen: str, free: str
) -> None:
    config = small_config(
        f"model.weights={trained_run}",
        *freeze,
        "data.only=['3', '5']",
        "train.epochs=1",
        "schedule.warmup_epochs=0",
        "train.ema=null",
    )
    train(config, tmp_path / "run")
    before, after = Run(trained_run).checkpoint("best"), Run(tmp_path / "run").checkpoint("last")
    origin, model = (
        values(trained_network(Run(trained_run), before)),
        values(trained_network(Run(tmp_path / "run"), after)),
    )
    np.testing.assert_array_equal(model[frozen], origin[frozen])
    # A frozen BatchNorm layer keeps its statistics, too.
    np.testing.assert_array_equal(model["stem_norm/moving_mean"], origin["stem_norm/moving_mean"])
    assert model[free].shape != origin[free].shape or (model[free] != origin[free]).any()


def test_more_stages_than_there_are_cant_be_frozen(trained_run: Path) -> None:
    with pytest.raises(
        ConfigError,
        match="model.freeze_stages: 4, but resnet8 has the stages stage1, stage2, stage3",
    ):
        started(f"model.weights={trained_run}", "model.freeze=stages", "model.freeze_stages=4")


def test_a_detector_takes_a_classifiers_backbone_over_and_keeps_its_own_head() -> None:
    shared = ("prepare={size: [32, 32], channels: 3}", "model.width=0.125")
    classifier = classification.build_network(small_config(*shared, "model.backbone=resnet18"), 2)
    pipeline = ROOT / "pipelines" / "detection" / "digit_scenes_ssd.yaml"
    detector = detection.build_network(config_file.load(pipeline, [*shared]), 2)
    before = {variable.path: variable.numpy() for variable in detector.variables}
    given = {variable.path: variable.numpy() + 1 for variable in classifier.variables}
    take_over(detector, given, "the classifier")
    for variable in detector.variables:
        expected = given.get(variable.path, before[variable.path])
        np.testing.assert_array_equal(variable.numpy(), expected, err_msg=variable.path)
    assert sum(variable.path in given for variable in detector.variables) > 40


POSE_HEADS = {
    "regression": ("model.head={kind: regression}", "loss={kind: smooth_l1}"),
    "heatmaps": ("model.head={kind: heatmaps}", "loss={kind: gaussian}"),
}
POSE = (
    "data.source={kind: stick_figures, size: [64, 64], train: 2, validation: 1, test: 1}",
    "prepare={size: [32, 32], channels: 3}",
    "model.width=0.125",
)


@pytest.mark.parametrize("head", POSE_HEADS)
def test_a_pose_network_takes_a_classifiers_backbone_over_and_learns_its_own_head(
    head: str,
) -> None:
    classifier = classification.build_network(small_config(*POSE[1:], "model.backbone=resnet18"), 2)
    frozen = ("model.weights=classifier", "model.freeze=backbone")
    pipeline = ROOT / "pipelines" / "pose" / "stick_figures.yaml"
    config = config_file.load(pipeline, [*POSE, *POSE_HEADS[head], *frozen])
    network = pose.build_network(config, 3)
    given = {variable.path: variable.numpy() + 1 for variable in classifier.variables}
    take_over(network, given, "the classifier")
    own = [variable for variable in network.variables if variable.path not in given]
    for variable in network.variables:
        if variable.path in given:
            np.testing.assert_array_equal(variable.numpy(), given[variable.path])
    freeze(network, config.model)
    trained = {variable.path for variable in network.trainable_variables}
    assert trained == {own.path for own in own if "moving" not in own.path} != set()


def assert_started_from_saved(config: Config, file: Path) -> None:
    """Save a network's weights to the file that `config` starts from, and start another."""
    source = open_splits(config.data)["train"]
    task = load_task(config, source.facts)
    origin, model = (task.build(False)["network"] for _ in range(2))
    origin.save_weights(file)
    initialize({"network": model}, source, config, task)
    assert_taken_over(model, origin)


def test_a_file_of_weights_starts_a_pose_network(tmp_path: Path) -> None:
    pipeline, file = ROOT / "pipelines" / "pose" / "stick_figures.yaml", tmp_path / "a.weights.h5"
    config = config_file.load(pipeline, [*POSE, *POSE_HEADS["regression"], f"model.weights={file}"])
    assert_started_from_saved(config, file)


@pytest.mark.parametrize("head", ["ssd", "yolo"])
def test_a_file_of_weights_starts_a_detector(tmp_path: Path, head: str) -> None:
    file = tmp_path / "a.weights.h5"
    config = config_file.load(
        ROOT / "pipelines" / "detection" / f"digit_scenes_{head}.yaml",
        ["data.source={kind: digit_scenes, train: 10, validation: 2, test: 2}"]
        + ["prepare.size=[64, 64]", "model.width=0.125", f"model.weights={file}"],
    )
    assert_started_from_saved(config, file)


def test_a_file_of_weights_starts_a_classifier_that_ends_with_a_convolution(tmp_path: Path) -> None:
    shared = ("model.backbone=squeezenet1_1", "prepare.size=[64, 64]", "model.width=0.125")
    file = tmp_path / "squeezenet.weights.h5"
    origin = started(*shared)
    origin.save_weights(file)
    assert_taken_over(started(*shared, f"model.weights={file}"), origin)
    fewer = started(*shared, f"model.weights={file}", classes=("3", "5"))
    last = [path for path in values(fewer) if path.startswith("logits/")]
    assert last and all(values(fewer)[path].shape[-1] == 2 for path in last)
    before = values(origin)
    for path, value in values(fewer).items():
        assert path in last or (value == before[path]).all(), path


def test_a_pose_head_goes_onto_a_backbone_with_a_hidden_layer() -> None:
    pipeline = ROOT / "pipelines" / "pose" / "stick_figures.yaml"
    more = ("model.backbone=two_layer", *POSE_HEADS["regression"])
    network = pose.build_network(config_file.load(pipeline, [*POSE, *more]), 3)
    assert {"hidden", "head_hidden"} <= {layer.name for layer in network.layers}
