"""Guards `.keras` files: every network is read back with the same paths and the same answers."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import soaked
from cvpipe import models
from cvpipe.config.prepare import Prepare
from cvpipe.models import detectors, layers, segmenters
from cvpipe.models.blocks import Style
from cvpipe.models.build import backbone, classification_network
from cvpipe.models.norms import Norm

Build = Callable[[], keras.Model]
SMALL = (32, 32, 3)
SIZES = {
    "fmp6_sqrt2": (36, 36, 1),
    "alexnet": (67, 67, 3),
    "nin_imagenet": (67, 67, 3),
    "inception_v3": (75, 75, 3),
    "inception_resnet_v2": (75, 75, 3),
    "nasnet_mobile": (33, 33, 3),
    "xception": (71, 71, 3),
}
SAVED = (
    "linear",
    "two_layer",
    "lenet5",
    "lenet5_sparse",
    "resnet8",
    "resnet18",
    "resnet50",
    "fmp6_sqrt2",
    "vgg16",
    "ssd_vgg16",
    "fcn_vgg16",
    "vgg11_fc",
    "alexnet",
    "nin_imagenet",
    "googlenet",
    "inception_v3",
    "inception_resnet_v2",
    "preresnet50",
    "resnext50_32x4d",
    "se_resnet50",
    "densenet121",
    "fractalnet20",
    "squeezenet1_0_bypass",
    "nasnet_mobile",
    "cells",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "shufflenet_g3",
    "xception",
    "efficientnet_b0",
    "unet",
    "extraction",
    "darknet19",
    "darknet53",
)
"""Networks that together contain every kind of layer."""
RANDOM = Style(stochastic_depth=0.5)


def classifier(name: str, style: Style = Style(), **settings: Any) -> keras.Model:
    shape = SIZES.get(name, SMALL)
    width = 1.0 if name.startswith("keras/") else 0.0625
    return classification_network(name, shape, 3, width=width, style=style, **settings)


def ssd(name: str = "ssd_vgg16", **settings: Any) -> keras.Model:
    maps = detectors.ssd_maps((32, 32), (8, 16))
    boxes = [2] * (len(maps.strides) + len(maps.extras))
    return detectors.ssd(backbone(name), SMALL, 4, maps=maps, boxes=boxes, width=0.0625, **settings)


def yolo(network: Callable[..., keras.Model], name: str, **settings: Any) -> keras.Model:
    return network(backbone(name), SMALL, 3, width=0.0625, **settings)


def segmenter(network: Callable[..., keras.Model], *arguments: Any, **settings: Any) -> keras.Model:
    return network(*arguments, SMALL, 3, width=0.0625, **settings)


DROPPING: dict[str, Build] = {
    "dropout, DropConnect, stochastic depth": partial(
        classifier, "resnet8", RANDOM, dropout=0.5, drop_connect=0.5
    ),
    "fractional": partial(classifier, "fmp6_sqrt2", dropout=0.5),
    "YOLOv1": partial(yolo, detectors.yolo_v1, "extraction", dropout=0.5),
}
SHORT: dict[str, Build] = {
    **DROPPING,
    "SSD": ssd,
    "YOLOv2": partial(yolo, detectors.yolo_v2, "darknet19"),
    "FCN-8s": partial(segmenter, segmenters.fcn, backbone("resnet18"), stride=8, learned=False),
    "SegNet": partial(segmenter, segmenters.segnet),
    "whitened": partial(classifier, "linear", normalize=Prepare(size=(32, 32), normalize="zca")),
}
LONG: dict[str, Build] = {
    **{name: partial(classifier, name) for name in SAVED},
    **{
        f"keras/{name}": partial(classifier, f"keras/{name}")
        for name in ("VGG16", "MobileNetV2", "ResNet50", "ResNet50V2", "DenseNet121")
    },
    **{
        f"{kind} norm": partial(classifier, "resnet8", Style(Norm(kind)))
        for kind in ("layer", "instance", "group", "none")
    },
    **{
        f"normalized by {kind}": partial(
            classifier, "linear", normalize=Prepare(size=(32, 32), normalize=kind)
        )
        for kind in ("channels", "image", "pca")
    },
    "SSDLite on a pyramid": partial(ssd, "mobilenet_v2", separable=True, pyramid=32),
    "YOLOv3": partial(yolo, detectors.yolo_v3, "darknet53"),
    "FCN-32s, learned": partial(segmenter, segmenters.fcn, backbone("fcn_vgg16"), stride=32),
    "U-Net": partial(segmenter, segmenters.unet, backbone("unet")),
    **{
        f"DeconvNet, {kind}": partial(segmenter, segmenters.deconvnet, unpooling=kind)
        for kind in ("max", "bed_of_nails", "nearest")
    },
}
ALL = [*SHORT.items(), *(pytest.param(*item, marks=pytest.mark.soak) for item in LONG.items())]


def reloaded(model: keras.Model, folder: Path) -> keras.Model:
    model.save(folder / "network.keras")
    return keras.saving.load_model(folder / "network.keras")


def with_spread_weights(build: Build) -> keras.Model:
    """Return a network with random weights, also in norms and biases, which start as constants."""
    keras.utils.set_random_seed(0)
    model, random = build(), np.random.default_rng(0)
    for variable in model.variables:
        if "seed" not in variable.path:
            noise = random.uniform(0.9, 1.1, variable.shape)
            variable.assign((variable.numpy() + 0.01) * noise.astype(variable.dtype))
    return model


def answers(model: keras.Model, training: bool = False) -> dict[str, bytes]:
    image = np.random.default_rng(1).random((2, *model.input_shape[1:]), np.float32)
    return {
        name: value.numpy().tobytes()
        for name, value in model(tf.constant(image), training=training).items()
    }


@pytest.mark.parametrize(
    "name, build", ALL, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_network_is_read_back_with_its_paths_and_answers(
    name: str, build: Build, tmp_path: Path
) -> None:
    model = with_spread_weights(build)
    again = reloaded(model, tmp_path)
    assert [v.path for v in again.variables] == [v.path for v in model.variables]
    assert answers(again) == answers(model)


@pytest.mark.parametrize("build", DROPPING.values(), ids=DROPPING)
def test_a_network_that_is_read_back_trains_as_it_did(build: Build, tmp_path: Path) -> None:
    model = with_spread_weights(build)
    again = reloaded(model, tmp_path)
    for ours, theirs in zip(again.variables, model.variables, strict=True):
        ours.assign(theirs)
    assert answers(again, training=True) == answers(model, training=True)


@pytest.mark.parametrize("network", [*soaked(*DROPPING.values()), ssd])
def test_half_precision_is_read_back(network: Build, tmp_path: Path, mixed_bfloat16: None) -> None:
    model = with_spread_weights(network)
    again = reloaded(model, tmp_path)
    assert [layer.compute_dtype for layer in again.layers] == [
        layer.compute_dtype for layer in model.layers
    ]
    assert answers(again) == answers(model)


READ = """
import sys
import keras
import numpy as np
import cvpipe.models.layers
loaded = sorted(name for name in sys.modules if name.startswith("cvpipe."))
light = {"cvpipe.data", "cvpipe.data.annotated"}
known = ("cvpipe.models", "cvpipe.geometry", "cvpipe.errors", "cvpipe.answers")
assert all(name in light or name.startswith(known) for name in loaded), loaded
for file in sys.argv[1:]:
    model = keras.saving.load_model(file)
    image = np.random.default_rng(1).random((2, *model.input_shape[1:]), np.float32)
    found = {name: value.numpy() for name, value in model(image).items()}
    np.savez(file.replace(".keras", ".npz"), **found)
"""


@pytest.mark.soak
def test_a_fresh_process_reads_every_kind_of_layer_with_the_layers_module_alone(
    tmp_path: Path,
) -> None:
    expected = {}
    for number, build in enumerate(SHORT.values()):
        model = with_spread_weights(build)
        model.save(tmp_path / f"{number}.keras")
        expected[number] = answers(model)
    files = [str(tmp_path / f"{number}.keras") for number in expected]
    subprocess.run([sys.executable, "-c", READ, *files], check=True)
    for number, outputs in expected.items():
        with np.load(tmp_path / f"{number}.npz") as found:
            assert {name: found[name].tobytes() for name in found} == outputs


def layer_classes() -> list[type]:
    """Return every layer class that a module of `cvpipe.models` defines."""
    modules = [
        importlib.import_module(f"cvpipe.models.{module.name}")
        for module in pkgutil.iter_modules(models.__path__)
    ]
    return sorted(
        {
            value
            for module in modules
            for value in vars(module).values()
            if inspect.isclass(value)
            and issubclass(value, keras.layers.Layer)
            and value.__module__.startswith("cvpipe.")
            and not inspect.isabstract(value)
        },
        key=lambda value: value.__name__,
    )


ARGUMENTS: dict[str, dict[str, Any]] = {
    "BilinearUpsampling": {"factor": 3},
    "DropConnect": {"units": 4, "rate": 0.3},
    "Dropout": {"rate": 0.3},
    "FractionalMaxPooling": {"ratio": 1.5, "overlapping": False},
    "GroupedConv2D": {"filters": 4, "kernel_size": [3, 3], "groups": 2},
    "L2Normalization": {"initial": 12.0},
    "PatchBank": {"size": 4, "neighbors": 2},
    "PatchGaussians": {"channels": [0, 2], "regularization": 0.1},
    "PathChoice": {"columns": 3},
    "ReflectionPadding": {"pixels": 2},
    "Normalize": {"kind": "image", "shape": [4, 4, 3]},
    "StochasticDepth": {"rate": 0.3},
    "Unpooling": {"kind": "nearest", "size": [5, 4]},
}


@pytest.mark.parametrize("layer", layer_classes())
def test_every_layer_is_registered_and_made_again_from_json(layer: type) -> None:
    assert keras.saving.get_registered_name(layer) == f"cvpipe>{layer.__name__}"
    assert getattr(layers, layer.__name__) is layer
    arguments = {**ARGUMENTS.get(layer.__name__, {}), "name": "a_name", "trainable": False}
    made = layer(**arguments)
    text = json.dumps(keras.saving.serialize_keras_object(made))
    again = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(again) is layer
    assert again.get_config() == made.get_config()
    for name, value in arguments.items():
        found = getattr(again, name)
        assert (list(found) if isinstance(found, tuple) else found) == value, name
