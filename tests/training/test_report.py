"""Guards reports: the first examples of an evaluation, however they are batched."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import ROOT
from cvpipe import config_file
from cvpipe.data.facts import Facts
from cvpipe.pictures import load_pictures
from cvpipe.tasks import load_task
from cvpipe.training.report import SHOWN_IMAGES, FirstExamples

TILES = "prepare={size: [64, 64], resize: tile, overlap: 16}"
CONFIG = config_file.load(ROOT / "pipelines" / "segmentation" / "digit_scenes_fcn.yaml", [TILES])
FACTS = Facts(("ground", "square"))
TASK, PICTURES = load_task(CONFIG, FACTS), load_pictures(CONFIG, FACTS)
assert PICTURES


def watched(first: FirstExamples, *sizes: tuple[int, int], readable: bool = True) -> None:
    """Shows it batches of one image each."""
    for height, width in sizes:
        mask = np.zeros((1, height, width), np.uint8)
        names = np.array([[name.encode() for name in FACTS.class_names]], object)
        predictions = {
            "mask": mask,
            "image_size": np.array([[height, width]]),
            "class_names": names,
        }
        batch = {
            "image": np.zeros((1, height, width, 3), np.uint8),
            "targets": {"mask": mask},
            "weight": np.float32([readable]),
        }
        first.watch(batch, predictions)


def test_examples_come_from_several_batches_and_differ_in_size() -> None:
    first = FirstExamples()
    watched(first, (40, 30), (1, 1), readable=False)
    watched(first, (40, 30), (20, 50))
    figure = first.draw(PICTURES, TASK, CONFIG)
    assert figure is not None and len(figure.axes) == 2 * len(["image", "truth", "answer"])
    heights = [axes.get_images()[0].get_array().shape[:2] for axes in figure.axes]
    assert heights == 3 * [(40, 30)] + 3 * [(20, 50)]


def test_no_more_are_kept_than_are_shown_and_fewer_of_large_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = FirstExamples()
    watched(first, *[(2, 2)] * (SHOWN_IMAGES + 3))
    assert sum(len(kept["image"]) for kept in first._kept) == SHOWN_IMAGES
    monkeypatch.setattr("cvpipe.training.report.SHOWN_VALUES", 100)
    first = FirstExamples()
    watched(first, *[(6, 6)] * 3)
    assert len(first._kept) == 1


def test_where_nothing_can_be_read_there_is_no_picture() -> None:
    first = FirstExamples()
    watched(first, (5, 5), readable=False)
    assert first.draw(PICTURES, TASK, CONFIG) is None
