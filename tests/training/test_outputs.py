"""Guards the comparison of pipelines whose outputs are compared or averaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import DIGITS, ROOT
from cvpipe import config_file
from cvpipe.training.outputs import outputs_differ

PIPELINES = ROOT / "pipelines"
SSD = PIPELINES / "detection/digit_scenes_ssd.yaml"
FCN = PIPELINES / "segmentation/digit_scenes_fcn.yaml"
POSE = PIPELINES / "pose/stick_figures.yaml"


@pytest.mark.parametrize(
    "path, override, difference",
    [
        (DIGITS, "loss={kind: binary}", ("loss.kind", "binary", "softmax")),
        (SSD, "model.head.smallest=0.3", ("model.head.smallest", "0.3", "0.17")),
        (SSD, "model.head.coarsest=2", ("model.head.coarsest", "2", "4")),
        (SSD, "loss={kind: focal}", ("loss.kind", "focal", "multibox")),
        (FCN, "model.head.output_stride=4", ("model.head.output_stride", "4", "1")),
        (POSE, "model.head.stride=8", ("model.head.stride", "8", "4")),
        (POSE, "loss={kind: soft_argmax}", ("loss.kind", "soft_argmax", "gaussian")),
    ],
)
def test_a_key_that_changes_the_outputs_is_named(
    path: Path, override: str, difference: tuple[str, str, str]
) -> None:
    assert outputs_differ(*(config_file.load(path, given) for given in ([override], []))) == (
        difference
    )


@pytest.mark.parametrize(
    "path, override",
    [
        (DIGITS, "loss={kind: hinge}"),
        (SSD, "model.head.suppress.candidates=10"),
        (SSD, "model.head.pyramid=32"),
        (SSD, "model.head.separable=true"),
        (SSD, "model.backbone=resnet34"),
        (FCN, "model.head.stride=16"),
        (FCN, "model.head={kind: unet}"),
        (POSE, "model.head.channels=16"),
    ],
)
def test_a_key_that_keeps_the_form_of_the_outputs_is_no_difference(
    path: Path, override: str
) -> None:
    assert outputs_differ(config_file.load(path, [override]), config_file.load(path)) is None
