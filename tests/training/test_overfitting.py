"""Guards detection heads: each learns eight real images by heart."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import ROOT, FindData
from cvpipe import config_file
from cvpipe.training.report import evaluate_run
from cvpipe.training.run import Run
from cvpipe.training.train import train

ANCHORS = (
    "anchors: [[0.08, 0.06], [0.17, 0.14], [0.19, 0.18], [0.23, 0.15], [0.24, 0.19], [0.41, 0.34]]"
)
EIGHT = (
    "data.limit=8",
    "augment=[]",
    "prepare.size=[144, 192]",
    "model.width=0.25",
    "optimizer={kind: adamw, learning_rate: 0.003}",
    "schedule={kind: cosine, warmup_epochs: 10}",
    "train={epochs: 150, batch_size: 8, evaluate_every: 150, pictures: false}",
)
HEADS = {
    "ssd": "{kind: ssd, strides: [8, 16], coarsest: 6, smallest: 0.1, largest: 0.4}",
    "yolo_v1": "{kind: yolo_v1, stride: 16}",
    "yolo_v2": f"{{kind: yolo_v2, stride: 16, {ANCHORS}}}",
    "yolo_v3": f"{{kind: yolo_v3, strides: [8, 16], {ANCHORS}}}",
}


@pytest.mark.soak
@pytest.mark.parametrize("head", HEADS)
def test_a_head_learns_eight_real_images_by_heart(
    head: str, tmp_path: Path, public_data: FindData
) -> None:
    overrides = [f"data.source.path={public_data('bccd')}", f"model.head={HEADS[head]}", *EIGHT]
    overrides += [] if head == "ssd" else ["loss.kind=yolo"]
    train(config_file.load(ROOT / "pipelines" / "detection" / "bccd_ssd.yaml", overrides), tmp_path)
    scores = evaluate_run(Run(tmp_path), "train")
    assert scores["images"] == 8 and scores["ap50"] >= 0.99
