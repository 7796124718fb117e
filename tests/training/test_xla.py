"""Guards XLA: the step of networks with max-pooling compiles and has TensorFlow's gradient."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

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
# One step of plain gradient descent: what it changes is the gradient.
ONE_STEP = (
    "augment=[]",
    "optimizer={kind: sgd, learning_rate: 0.1, momentum: 0}",
    "schedule={kind: constant}",
    "train.epochs=1",
    "train.batch_size=4",
    "train.ema=null",
    "train.pictures=false",
)
# Digits and scenes have even backgrounds, in which all pixels of a window are the same.
CLASSIFIER = (
    *ONE_STEP,
    "data={source: {kind: digits}, only: ['0', '1'], limit: 4, validation: 0.02}",
    "prepare.size=[64, 64]",
)
DETECTOR = (
    *ONE_STEP,
    "data.source={kind: digit_scenes, size: [300, 300], train: 4, validation: 1, test: 1}",
    "prepare.size=[300, 300]",
    "model={backbone: ssd_vgg16, norm: none, head: {kind: ssd, layout: ssd300}}",
)
NETWORKS = {
    "resnet50": (DIGITS, (*CLASSIFIER, "model.backbone=resnet50")),
    "keras/ResNet50": (
        DIGITS,
        (*CLASSIFIER, "model.backbone=keras/ResNet50", "prepare={size: [64, 64], channels: 3}"),
    ),
    "SSD300": (SCENES, DETECTOR),
}


def weights_after_a_step(config: Config, folder: Path) -> dict[str, np.ndarray]:
    train(config, folder)
    with np.load(Run(folder).checkpoint("last")) as arrays:
        return {name: array for name, array in arrays.items() if array.ndim}


@pytest.mark.soak
@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_of_a_network_with_max_pooling_compiles_and_moves_weights_as_the_kernel_does(
    network: str, tmp_path: Path
) -> None:
    pipeline, overrides = NETWORKS[network]
    start, plain, compiled = (
        weights_after_a_step(config_file.load(pipeline, [*overrides, *choice]), tmp_path / name)
        for name, choice in {
            "start": ["train.xla=off", "optimizer.learning_rate=1e-30"],
            "plain": ["train.xla=off"],
            "compiled": ["train.xla=on"],
        }.items()
    )
    kernels = [name for name in plain if name.endswith("kernel")]
    assert len(kernels) > 20
    for name in kernels:
        moved = np.linalg.norm(plain[name] - start[name])
        assert moved > 0, name
        assert np.linalg.norm(compiled[name] - plain[name]) < 1e-3 * moved, name


@pytest.mark.parametrize(
    "replicas, choice, expected", [(1, "on", True), (1, "off", False), (2, "auto", False)]
)
def test_one_device_compiles_where_the_pipeline_says_so(
    replicas: int, choice: str, expected: bool
) -> None:
    strategy = SimpleNamespace(num_replicas_in_sync=replicas)
    assert uses_xla(small_config(f"train.xla={choice}"), strategy) is expected


def test_xla_is_refused_for_several_devices() -> None:
    with pytest.raises(ConfigError, match="train.xla: on works with one device only; use auto"):
        uses_xla(small_config("train.xla=on"), SimpleNamespace(num_replicas_in_sync=2))
