"""Guards each network family as backbone of a detector and a segmenter: the model is built, trains
a step, and passes the export gate.

CVPIPE_NETWORKS=all makes `make soak` run every family.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT, soaked
from cvpipe import config_file
from cvpipe.export.export import export
from cvpipe.models.abstract import without_weights
from cvpipe.models.blocks import Style
from cvpipe.models.build import backbone
from cvpipe.models.detectors import ssd, ssd_maps
from cvpipe.models.segmenters import fcn
from cvpipe.training.run import Run
from cvpipe.training.train import train

MAPPED = {
    "mobilenet_v3_small": 0.25,
    "shufflenet_g3": 0.25,
    "vgg16": 0.0625,
    "ssd_vgg16": 0.0625,
    "fcn_vgg16": 0.0625,
    "unet": 0.0625,
    "googlenet": 0.125,
    "inception_v2": 0.125,
    "resnet18": 0.0625,
    "resnet50": 0.0625,
    "plain18": 0.0625,
    "preresnet50": 0.0625,
    "wide_resnet50_2": 0.0625,
    "resnext50_32x4d": 0.0625,
    "se_resnet50": 0.0625,
    "densenet121": 0.125,
    "fractalnet20": 0.0625,
    "nasnet_mobile": 0.25,
    "xception": 0.0625,
    "mobilenet_v1": 0.25,
    "mobilenet_v2": 0.25,
    "efficientnet_lite0": 0.25,
    "efficientnet_b0": 0.25,
    "extraction": 0.0625,
    "darknet19": 0.0625,
    "darknet53": 0.0625,
}
"""Widths by network, one of each family with maps of the strides 8, 16 and 32; coarser maps are
added if it has none.
"""
# After one step at a fraction of their width, these networks amplify rounding, so that detections
# of almost equal score change places, or scores differ by more than 1e-5.
AMPLIFYING = {
    "wide_resnet50_2": ["train.epochs=20"],
    "resnext50_32x4d": ["train.epochs=20"],
    "nasnet_mobile": ["train.epochs=20", "export.tolerance=1e-4"],
}
SOME = ("vgg16",)
CHOSEN = list(MAPPED) if os.environ.get("CVPIPE_NETWORKS") == "all" else SOME
SCENES = (
    "augment=[]",
    "data.source.size=[64, 64]",
    "data.source.digit_sizes=[24, 40]",
    "data.source.train=2",
    "data.source.validation=2",
    "data.source.test=2",
    "prepare.size=[64, 64]",
    "train.batch_size=2",
    "train.epochs=1",
    "train.pictures=false",
    "schedule={kind: constant}",
    "export.batch_sizes=[1]",
)
HEADS = {
    "detection/digit_scenes_ssd.yaml": "model.head={kind: ssd, strides: [8, 16]}",
    "segmentation/digit_scenes_fcn.yaml": "model.head={kind: fcn, stride: 8}",
}


def test_these_are_the_families_that_the_page_marks_as_backbones() -> None:
    lines = (ROOT / "docs/canon.md").read_text(encoding="utf-8").splitlines()
    assert {line.split("`")[1] for line in lines if line.endswith("| yes |")} == set(MAPPED)


@pytest.mark.soak
@pytest.mark.parametrize("name", MAPPED)
@without_weights()
def test_a_family_is_the_backbone_of_an_ssd_and_of_an_fcn(name: str) -> None:
    maps = ssd_maps((64, 64), (8, 16))
    boxes = [2] * (len(maps.strides) + len(maps.extras))
    settings = {"width": MAPPED[name], "style": Style()}
    detector = ssd(backbone(name), (64, 64, 3), 4, maps=maps, boxes=boxes, **settings)
    assert detector.output["boxes"].shape == (None, 2 * (64 + 16 + 4 + 1), 4)
    segmenter = fcn(backbone(name), (64, 64, 3), 5, stride=8, **settings)
    assert segmenter.output["logits"].shape == (None, 64, 64, 5)


@pytest.mark.parametrize("pipeline", HEADS)
@pytest.mark.parametrize("name", soaked(*CHOSEN))
def test_a_family_trains_a_step_and_is_exported(
    name: str, pipeline: str, tmp_path: Path, gate_in_this_process: None
) -> None:
    config = config_file.load(
        ROOT / "pipelines" / pipeline,
        [
            *SCENES,
            *AMPLIFYING.get(name, ()),
            HEADS[pipeline],
            f"model.backbone={name}",
            f"model.width={MAPPED[name]}",
        ],
    )
    assert train(config, tmp_path / "run")["steps"] == config.train.epochs
    run = Run(tmp_path / "run")
    [trained, *_] = run.metrics()
    assert np.isfinite(trained["loss"])
    exported = export(run, tmp_path / "saved")
    assert (Path(exported["artifact"]) / "saved_model.pb").is_file()
