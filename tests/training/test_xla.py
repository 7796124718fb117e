"""Guards XLA: the step of networks with max-pooling compiles and has TensorFlow's gradient."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import keras
import numpy as np
import pytest

from conftest import DIGITS, ROOT, small_config
from cvpipe import config_file
from cvpipe.config import Config
from cvpipe.errors import ConfigError
from cvpipe.training.run import Run
from cvpipe.training.strategy import uses_xla
from cvpipe.training.train import train

SCENES = ROOT / "pipelines" / "detection" / "digit_scenes_ssd.yaml"
# One step of plain gradient descent changes the weights by the gradient.
ONE_STEP = (
    "augment=[]",
    "optimizer={kind: sgd, learning_rate: 0.1, momentum: 0}",
    "schedule={kind: constant}",
    "train.epochs=1",
    "train.ema=null",
    "train.pictures=false",
)
CLASSIFIER = (*ONE_STEP, "prepare={size: [64, 64], channels: 3}", "train.batch_size=16")
DETECTOR = (
    *ONE_STEP,
    "data.source={kind: digit_scenes, size: [300, 300], train: 2, validation: 1, test: 1}",
    "prepare.size=[300, 300]",
    "model={backbone: ssd_vgg16, norm: none, width: 0.5, head: {kind: ssd, layout: ssd300}}",
    "train.batch_size=2",
)


class Network(NamedTuple):
    """A network in a pipeline, and the largest distance of XLA's gradient from TensorFlow's."""

    pipeline: Path
    overrides: tuple[str, ...]
    tolerance: float


NETWORKS = {
    "ResNet-50 without norms": Network(
        DIGITS, (*CLASSIFIER, "model={backbone: resnet50, norm: none}"), 1e-3
    ),
    # XLA computes a variance as the mean of squares minus the square of the mean. In a deep
    # untrained network all images have nearly the same features, and the subtraction loses digits.
    "ResNet-50": Network(DIGITS, (*CLASSIFIER, "model.backbone=resnet50"), 0.1),
    "SSD300": Network(SCENES, DETECTOR, 1e-3),
}


def draw_squares(folder: Path) -> None:
    """Write images of even squares, in which windows of a pooling have several maxima.

    They differ more than digits do, which keeps batch normalization from magnifying rounding.
    """
    for split, count in {"train": 8, "validation": 1, "test": 1}.items():
        for name in ("a", "b"):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                random = np.random.default_rng([number, name == "a"])
                squares = random.integers(0, 256, (8, 8, 3), np.uint8)
                pixels = squares.repeat(8, axis=0).repeat(8, axis=1)
                keras.utils.save_img(folder / split / name / f"{number}.png", pixels, scale=False)


def weights_after_a_step(config: Config, folder: Path) -> dict[str, np.ndarray]:
    train(config, folder)
    with np.load(Run(folder).checkpoint("last")) as arrays:
        return {name: array for name, array in arrays.items() if array.ndim}


@pytest.mark.soak
@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_of_a_network_with_max_pooling_compiles_and_moves_weights_as_the_kernel_does(
    network: str, tmp_path: Path
) -> None:
    pipeline, overrides, tolerance = NETWORKS[network]
    if pipeline == DIGITS:
        draw_squares(tmp_path / "squares")
        overrides = (*overrides, f"data.source={{kind: folder, path: {tmp_path / 'squares'}}}")
    start, plain, compiled = (
        weights_after_a_step(config_file.load(pipeline, [*overrides, *choice]), tmp_path / name)
        for name, choice in {
            "start": ["train.xla=off", "optimizer.learning_rate=1e-30"],
            "plain": ["train.xla=off"],
            "compiled": ["train.xla=on"],
        }.items()
    )
    moved = {
        name: np.linalg.norm(plain[name] - start[name]) for name in plain if name.endswith("kernel")
    }
    # Two images with small objects train only the layers of SSD's first map: ten convolutions,
    # three poolings and two heads.
    assert sum(distance > 0 for distance in moved.values()) >= 12
    for name, distance in moved.items():
        assert np.linalg.norm(compiled[name] - plain[name]) <= tolerance * distance, name


@pytest.mark.parametrize(
    "replicas, choice, expected", [(1, "on", True), (1, "off", False), (2, "auto", False)]
)
def test_one_device_compiles_where_the_pipeline_says_so(
    replicas: int, choice: str, expected: bool
) -> None:
    strategy = SimpleNamespace(num_replicas_in_sync=replicas)
    assert uses_xla(small_config(f"train.xla={choice}"), strategy) is expected


def test_xla_is_refused_for_several_devices() -> None:
    with pytest.raises(ConfigError, match="train.xla: on works only with one device; use auto"):
        uses_xla(small_config("train.xla=on"), SimpleNamespace(num_replicas_in_sync=2))
