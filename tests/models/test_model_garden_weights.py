"""Guards checkpoints of TensorFlow Model Garden: features and logits are those of its own networks,
and other files are refused.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from cvpipe.config.classification import Classification
from cvpipe.config.model import Model
from cvpipe.data.facts import Facts
from cvpipe.errors import ConfigError, DataError
from cvpipe.models.abstract import without_weights
from cvpipe.models.build import backbone as backbone_of
from cvpipe.models.build import classification_network, make_style
from cvpipe.models.catalog import NETWORKS
from cvpipe.models.heads import classifier
from cvpipe.models.weights.checkpoint_file import find_checkpoint, read_checkpoint
from cvpipe.models.weights.convert import convert
from cvpipe.models.weights.model_garden import garden_weights
from cvpipe.models.weights.model_garden_names import GARDEN_NETWORKS, model_garden_table
from cvpipe.models.weights.names import Table
from cvpipe.training.given_weights import given_weights
from cvpipe.training.start import take_over

SOAK = pytest.mark.soak
CLASSES = 7
GARDEN: dict[str, Any] = {"conventions": "model_garden", "norm_epsilon": 1e-3}


def table_of(name: str) -> Table:
    table = model_garden_table(name)
    assert table is not None
    return table


def network_of(name: str, width: float) -> keras.Model:
    """Return a classifier that outputs the backbone's maps by stride, and its logits as stride
    0.
    """
    style = make_style(Model(backbone=name, **GARDEN), synchronized=False)
    image = keras.Input((64, 96, 3))
    maps = backbone_of(name)(image, width=width, style=style)
    settings: dict[str, Any] = {"dropout": 0.0, "drop_connect": 0.0, "bias": 0.0, "style": style}
    logits = classifier(maps, CLASSES, network=NETWORKS[name], width=width, **settings)
    return keras.Model(image, {**maps, 0: logits})


# -- Against Model Garden itself


def garden_model(family: str, size: str, width: float) -> Any:
    """Return Model Garden's classifier, as its tasks build it, with random statistics."""
    import tf_keras
    from official.vision.configs import backbones, common, image_classification
    from official.vision.modeling import factory

    key = {"resnet": "depth_multiplier", "mobilenet": "filter_size_scale"}.get(family)
    settings: dict[str, Any] = {"model_id": int(size) if family == "resnet" else size}
    if key:
        settings[key] = width
    if family == "efficientnet":
        settings["se_ratio"] = 0.25
    activation = "swish" if family == "efficientnet" else "relu"
    model = factory.build_classification_model(
        tf_keras.layers.InputSpec(shape=[None, 64, 96, 3]),
        image_classification.ImageClassificationModel(
            num_classes=CLASSES,
            input_size=[64, 96, 3],
            backbone=backbones.Backbone({"type": family, family: settings}),
            norm_activation=common.NormActivation(activation=activation, use_sync_bn=False),
        ),
    )
    draw = np.random.default_rng(0)
    for variable in model.variables:
        if len(variable.shape) == 1:
            spread = draw.uniform(size=variable.shape)
            positive = variable.name.split("/")[-1].startswith(("gamma", "moving_variance"))
            variable.assign(0.5 + spread if positive else 0.2 * spread - 0.1)
        elif "dense" in variable.name:
            variable.assign(draw.normal(size=variable.shape))
    return model


def save(model: Any, folder: Path, name: str = "ckpt", optimizer: Any = None) -> Path:
    """Save a model as Model Garden's trainer does."""
    more = {} if optimizer is None else {"optimizer": optimizer}
    step = tf.Variable(3, dtype=tf.int64)
    saved = tf.train.Checkpoint(global_step=step, model=model, **more, **model.checkpoint_items)
    manager = tf.train.CheckpointManager(saved, str(folder), 3, checkpoint_name=name)
    return Path(manager.save(checkpoint_number=3))


@pytest.mark.parametrize(
    "family, size, ours, width",
    [
        ("resnet", "18", "resnet18", 0.25),
        pytest.param("resnet", "34", "resnet34", 0.5, marks=SOAK),
        pytest.param("resnet", "50", "resnet50", 1.0, marks=SOAK),
        pytest.param("resnet", "101", "resnet101", 0.25, marks=SOAK),
        pytest.param("resnet", "152", "resnet152", 0.25, marks=SOAK),
        pytest.param("mobilenet", "MobileNetV1", "mobilenet_v1", 0.5, marks=SOAK),
        pytest.param("mobilenet", "MobileNetV2", "mobilenet_v2", 0.5, marks=SOAK),
        pytest.param("mobilenet", "MobileNetV3Large", "mobilenet_v3_large", 1.0, marks=SOAK),
        pytest.param("mobilenet", "MobileNetV3Small", "mobilenet_v3_small", 1.0, marks=SOAK),
        pytest.param("efficientnet", "b0", "efficientnet_b0", 1.0, marks=SOAK),
        pytest.param("efficientnet", "b2", "efficientnet_b2", 1.0, marks=SOAK),
    ],
)
def test_features_and_logits_are_those_of_model_garden(
    family: str, size: str, ours: str, width: float, tmp_path: Path
) -> None:
    theirs = garden_model(family, size, width)
    network = network_of(ours, width)
    prefix = save(theirs, tmp_path)
    weights, provenance = garden_weights(prefix, Model(backbone=ours, width=width, **GARDEN))
    take_over(network, weights, str(prefix))
    pixels = np.random.default_rng(1).normal(size=(2, 64, 96, 3)).astype("float32")
    expected = {2 ** int(n): x.numpy() for n, x in theirs.backbone(pixels).items() if n in "2345"}
    # MobileNetV2, V3 and EfficientNet have another convolution after Model Garden's last map.
    deepest = 32 if ours.startswith(("resnet", "mobilenet_v1")) else 16
    expected = {stride: x for stride, x in expected.items() if stride <= deepest}
    expected[0] = theirs(pixels).numpy()
    found = network(pixels)
    for stride, values in expected.items():
        assert np.ptp(values) > 0.01
        np.testing.assert_allclose(
            found[stride], values, rtol=1e-4, atol=1e-4 * np.abs(values).max(), err_msg=str(stride)
        )
    assert provenance.source == str(prefix) and provenance.license is None


def test_averages_are_read_as_model_garden_evaluates_with_them(tmp_path: Path) -> None:
    import tf_keras
    from official.modeling import optimization

    model = garden_model("resnet", "18", 0.125)
    optimizer = optimization.ExponentialMovingAverage(tf_keras.optimizers.legacy.SGD(0.1))
    optimizer.shadow_copy(model)
    averages = {v.ref(): optimizer.get_slot(v, "average") for v in model.trainable_variables}
    for average in averages.values():
        average.assign(tf.fill(average.shape, 0.25))
    stem, norm = model.backbone.layers[1], model.backbone.layers[2]
    name = "backbone.layer_with_weights"
    found = read_checkpoint(save(model, tmp_path, optimizer=optimizer))
    assert np.unique(found[f"{name}-0.kernel"]) == [0.25]
    # Statistics have no averages unless an experiment asks for them.
    np.testing.assert_array_equal(found[f"{name}-1.moving_mean"], norm.moving_mean.numpy())
    assert np.unique(found["model.layer_with_weights-1.bias"]) == [0.25]
    # The best checkpoint is saved with the averages in place of the weights.
    best = read_checkpoint(save(model, tmp_path / "best", "best_ckpt", optimizer))
    np.testing.assert_array_equal(best[f"{name}-0.kernel"], stem.kernel.numpy())


# -- Without Model Garden, by the names of tensors


OF_EACH_KIND = (
    "resnet34",
    "resnet50",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in OF_EACH_KIND else SOAK) for name in GARDEN_NETWORKS],
)
def test_a_table_names_every_variable_of_its_network(name: str) -> None:
    shapes = shapes_of(name)
    found = convert(file_of(name, shapes), [table_of(name)], name, "ckpt-1")
    assert {path: value.shape for path, value in found.items()} == shapes


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's variables by path."""
    style = make_style(Model(backbone=name, **GARDEN), synchronized=False)
    with without_weights():
        model = classification_network(name, (64, 64, 3), CLASSES, style=style)
    return {variable.path: tuple(variable.shape) for variable in model.variables}


def file_of(name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Return the tensors that Model Garden would save for a network."""
    kernels = {"tensorflow depthwise": "depthwise_kernel"}
    found = {}
    for layer in table_of(name).layers:
        for path, shape in shapes.items():
            if path.rsplit("/", 1)[0] != layer.ours:
                continue
            variable = path.rsplit("/", 1)[1]
            theirs = kernels.get(layer.kind, variable) if variable == "kernel" else variable
            if layer.kind == "tensorflow 1×1 as dense" and variable == "kernel":
                shape = (1, 1, *shape)
            found[f"{layer.theirs}.{theirs}"] = np.broadcast_to(np.float32(1), shape)
    return found


def write(folder: Path, tensors: dict[str, np.ndarray], number: int = 1) -> Path:
    """Save tensors by their names with dots as a checkpoint."""
    root = tf.train.Checkpoint()
    for name, value in tensors.items():
        *above, last = name.split(".")
        node = root
        for part in above:
            if not hasattr(node, part):
                setattr(node, part, tf.train.Checkpoint())
            node = getattr(node, part)
        setattr(node, last, tf.Variable(value))
    return Path(root.write(str(folder / f"ckpt-{number}")))


MOBILE = Model(backbone="mobilenet_v1", width=0.125, **GARDEN)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a checkpoint of a narrow MobileNet."""
    style = make_style(MOBILE, synchronized=False)
    with without_weights():
        model = classification_network("mobilenet_v1", (64, 64, 3), 3, width=0.125, style=style)
    shapes = {variable.path: tuple(variable.shape) for variable in model.variables}
    return write(tmp_path_factory.mktemp("garden"), file_of("mobilenet_v1", shapes))


def test_a_checkpoint_includes_the_normalization_of_its_images(small: Path) -> None:
    weights, provenance = garden_weights(small, MOBILE)
    np.testing.assert_allclose(weights["normalize/mean"], [0.485, 0.456, 0.406])
    np.testing.assert_allclose(1 / weights["normalize/scale"], [0.229, 0.224, 0.225], rtol=1e-6)
    assert re.fullmatch("[0-9a-f]{64}", provenance.sha256 or "")


@pytest.mark.parametrize("classes, has_last_layer", [("abc", True), ("abcd", False)])
def test_a_pipeline_starts_from_the_folder_of_a_training(
    small: Path, classes: str, has_last_layer: bool
) -> None:
    model = {"backbone": "mobilenet_v1", "width": 0.125, "weights": str(small.parent), **GARDEN}
    config = Classification.model_validate_json(
        json.dumps(
            {
                "task": "classification",
                "name": "garden",
                "data": {"source": {"kind": "digits"}},
                "prepare": {"size": [64, 64], "normalize": "weights"},
                "model": model,
                "optimizer": {"kind": "sgd"},
                "train": {"epochs": 1, "batch_size": 8},
            }
        )
    )
    given = given_weights(config, Facts(class_names=tuple(classes)))
    assert given.provenance.source == str(small)
    assert ("logits/kernel" in given.by_path) == has_last_layer and "stem/kernel" in given.by_path


def test_another_network_is_refused_with_the_tensor_that_is_missing(small: Path) -> None:
    with pytest.raises(DataError, match=r"ckpt-1: lacks backbone\.layer_with_weights-0\.kernel, "):
        garden_weights(small, Model(backbone="resnet18", **GARDEN))


def test_a_network_that_model_garden_does_not_have_is_refused(small: Path) -> None:
    with pytest.raises(
        ConfigError, match="doesn't have vgg16, or has a different .* known: resnet18"
    ):
        garden_weights(small, Model(backbone="vgg16", **GARDEN))


def test_a_network_of_other_conventions_is_refused(small: Path) -> None:
    sentence = "set model.conventions to model_garden and model.norm_epsilon to 0.001"
    with pytest.raises(ConfigError, match=sentence):
        garden_weights(small, Model(backbone="mobilenet_v1", width=0.125))


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ("norm_epsilon: 1.0e-05", "set model.norm_epsilon to 1e-05"),
        ("activation: swish", "set model.activation to silu"),
    ],
)
def test_the_norm_and_activation_of_the_training_are_required(
    settings: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "best_ckpt").mkdir()
    (tmp_path / "params.yaml").write_text(f"task: {{model: {{norm_activation: {{{settings}}}}}}}")
    with pytest.raises(ConfigError, match=sentence):
        garden_weights(tmp_path / "best_ckpt" / "ckpt-1", Model(backbone="resnet18", **GARDEN))


@pytest.mark.parametrize("kept", [0, 100, 4000])
@pytest.mark.parametrize("ending", [".index", ".data-00000-of-00001"])
def test_a_truncated_checkpoint_is_refused(
    small: Path, tmp_path: Path, ending: str, kept: int
) -> None:
    for file in small.parent.glob("ckpt-1.*"):
        data = file.read_bytes()
        (tmp_path / file.name).write_bytes(data[:kept] if file.name.endswith(ending) else data)
    with pytest.raises(DataError, match="ckpt-1: damaged, or not a TensorFlow checkpoint"):
        garden_weights(tmp_path / "ckpt-1", MOBILE)


def test_a_checkpoint_without_a_backbone_is_refused(tmp_path: Path) -> None:
    prefix = write(tmp_path, {"model.encoder.kernel": np.ones(3, np.float32)})
    with pytest.raises(
        DataError, match="has no backbone, so it isn't from an image model of Model Garden"
    ):
        read_checkpoint(prefix)


def test_a_folder_means_its_last_checkpoint(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path) is None
    for name in ("ckpt-900", "ckpt-1000"):
        (tmp_path / f"{name}.index").touch()
    with pytest.raises(ConfigError, match="has 2 checkpoints and no file 'checkpoint'"):
        find_checkpoint(tmp_path)
    # The file `checkpoint` has the path of another machine.
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/gone/ckpt-1000"\n')
    assert find_checkpoint(tmp_path) == tmp_path / "ckpt-1000"
    assert find_checkpoint(tmp_path / "ckpt-900") == tmp_path / "ckpt-900"
    assert find_checkpoint(tmp_path / "ckpt-900.index") == tmp_path / "ckpt-900"
    assert find_checkpoint(tmp_path / "ckpt-800") is None


@pytest.mark.soak
def test_reading_a_checkpoint_does_not_import_model_garden(small: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from cvpipe.models.weights.checkpoint_file import read_checkpoint\n"
        f"assert read_checkpoint(Path({str(small)!r}))\n"
        "assert not {'official', 'tf_keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
