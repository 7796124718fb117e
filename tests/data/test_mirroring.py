"""Guards the warning about mirrored images whose annotations can't be mirrored."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from cvpipe.config_file import load
from cvpipe.data.mirroring import warn_of_mirroring
from cvpipe.data.sources import open_splits
from image_files import encode, noise

TABLE = """file,nose_x,nose_y,{left}_x,{left}_y,{right}_x,{right}_y
a.png,10,5,20,10,30,20
b.png,11,6,21,10,31,20
c.png,12,7,22,10,32,20
d.png,13,8,23,10,33,20
"""


def pipeline(root: Path, left: str, right: str, augment: str, pairs: str = "[]") -> Path:
    """Write a pipeline of pose whose images have these two keypoints."""
    (root / "points.csv").write_text(TABLE.format(left=left, right=right))
    for name in "abcd":
        (root / f"{name}.png").write_bytes(encode(noise(32, 48, seed=ord(name)), "PNG"))
    file = root / "pose.yaml"
    file.write_text(
        f"""task: pose
data: {{source: {{kind: keypoint_csv, path: {root}, train: points.csv, flip_pairs: {pairs}}}}}
augment: {augment}
prepare: {{size: [32, 32]}}
model: {{backbone: resnet8, head: {{kind: regression}}}}
loss: {{kind: l2}}
optimizer: {{kind: sgd, learning_rate: 0.1}}
train: {{epochs: 1, batch_size: 4}}
"""
    )
    return file


@pytest.mark.parametrize(
    ("names", "augment", "pairs", "warned"),
    [
        (("Left_Eye", "Right_Eye"), "[{op: flip}]", "[]", False),
        (("left_eye", "right_ear"), "[{op: flip}]", "[]", True),
        (("left_eye", "right_ear"), "[{op: flip, direction: vertical}]", "[]", True),
        (("left_eye", "right_ear"), "[{op: flip}]", "[[left_eye, right_ear]]", False),
        (("left_eye", "right_ear"), "[{op: flip, probability: 0}]", "[]", False),
        (("left_eye", "right_ear"), "[]", "[]", False),
        (("ear", "tail"), "[{op: flip}]", "[]", False),
    ],
)
def test_mirroring_points_of_one_side_without_a_partner_is_warned_of(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    names: tuple[str, str],
    augment: str,
    pairs: str,
    warned: bool,
) -> None:
    config = load(pipeline(tmp_path, *names, augment, pairs))
    source = open_splits(config.data)["train"]
    with caplog.at_level(logging.WARNING):
        warn_of_mirroring(config, source)
    said = [r.getMessage() for r in caplog.records if "flip mirrors images" in r.getMessage()]
    assert len(said) == warned
    for text in said:
        assert "left_eye, right_ear; name the pairs of keypoints in data.source.flip_pairs" in text


def test_training_and_the_check_of_data_warn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, cvpipe: Callable[..., tuple[int, str, str]]
) -> None:
    file = pipeline(tmp_path, "left_eye", "right_ear", "[{op: flip}]")
    # The training ends before its first step.
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    for words in (
        ("data", "check", file, "--to", tmp_path / "seen"),
        ("train", file, "--run", tmp_path / "run"),
    ):
        caplog.clear()
        cvpipe(*words)
        assert caplog.text.count("augment.0: flip mirrors images") == 1, words
