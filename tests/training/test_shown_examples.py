"""Guards the examples in reports and TensorBoard: from the whole split, for any batch size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from conftest import ROOT, small_config
from cvpipe import config_file
from cvpipe.data.facts import Facts
from cvpipe.pictures import load_pictures
from cvpipe.tasks import load_task
from cvpipe.training.shown_examples import SHOWN_IMAGES, ShownExamples

TILES = "prepare={size: [64, 64], resize: tile, overlap: 16}"
CONFIG = config_file.load(ROOT / "pipelines" / "segmentation" / "digit_scenes_fcn.yaml", [TILES])
FACTS = Facts(("ground", "square"))
TASK, PICTURES = load_task(CONFIG, FACTS), load_pictures(CONFIG, FACTS)
CLASSES = 10
CLASSIFIED = load_pictures(small_config(), Facts(tuple("0123456789")))
assert PICTURES and CLASSIFIED


def watched(shown: ShownExamples, *sizes: tuple[int, int], readable: bool = True) -> None:
    """Give it batches of one image each, with masks."""
    for index, (height, width) in enumerate(sizes):
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
            "index": np.array([index]),
        }
        shown.watch(batch, predictions)


def classified(labels: np.ndarray, wrong: np.ndarray, batch_size: int) -> list[dict[str, Any]]:
    """Return the examples that are shown of a split with these labels, int [N], of which the
    examples in `wrong`, bool [N], are answered wrongly.
    """
    assert CLASSIFIED
    shown = ShownExamples(CLASSIFIED)
    for begin in range(0, len(labels), batch_size):
        index = np.arange(begin, min(begin + batch_size, len(labels)))
        batch = {
            "image": np.zeros((len(index), 2, 2, 1), np.float32),
            "targets": {"label": labels[index]},
            "weight": np.ones(len(index), np.float32),
            "index": index,
        }
        answers = (labels[index] + wrong[index]) % CLASSES
        shown.watch(batch, {"class_id": answers, "position": index})
    return shown.in_order()


def positions(examples: list[dict[str, Any]]) -> list[int]:
    return [int(example["predictions"]["position"][0]) for example in examples]


def test_examples_of_a_sorted_split_show_right_and_wrong_answers_of_every_class() -> None:
    labels = np.repeat(np.arange(CLASSES), 200)
    wrong = np.zeros(len(labels), bool)
    # Two of the 200 answers of each class are wrong.
    wrong[np.arange(CLASSES) * 200 + 150] = wrong[np.arange(CLASSES) * 200 + 20] = True
    chosen = positions(classified(labels, wrong, 50))
    assert len(chosen) == len(set(chosen)) == SHOWN_IMAGES
    kinds = [(int(labels[place]), bool(wrong[place])) for place in chosen]
    assert set(kinds) == {(label, right) for label in range(CLASSES) for right in (False, True)}
    # All examples in the first row of the picture, which has eight, differ in kind.
    assert len(set(kinds[:8])) == 8


def test_the_choice_doesnt_depend_on_the_batch_size_and_includes_the_last_examples() -> None:
    labels, wrong = np.zeros(3000, int), np.zeros(3000, bool)
    chosen = positions(classified(labels, wrong, 7))
    assert chosen == positions(classified(labels, wrong, 1000))
    gaps = np.diff([0, *sorted(chosen), 3000])
    assert gaps.max() < 3 * 3000 / SHOWN_IMAGES


def test_of_more_kinds_than_are_shown_each_is_shown_once_at_most() -> None:
    labels = np.arange(500) % 100
    assert CLASSIFIED
    examples = classified(labels, np.zeros(500, bool), 64)
    shown = [int(example["targets"]["label"][0]) for example in examples]
    assert len(shown) == len(set(shown)) == SHOWN_IMAGES


def test_no_batch_stays_in_memory() -> None:
    for example in classified(np.arange(300) % CLASSES, np.zeros(300, bool), 100):
        assert all(values.base is None for values in tf.nest.flatten(example))


def test_examples_come_from_several_batches_and_differ_in_size() -> None:
    shown = ShownExamples(PICTURES)
    watched(shown, (70, 60), (1, 1), readable=False)
    watched(shown, (40, 30), (20, 50))
    figure = shown.draw(TASK, CONFIG)
    assert figure is not None and len(figure.axes) == 2 * len(["image", "truth", "answer"])
    heights = [axes.get_images()[0].get_array().shape[:2] for axes in figure.axes]
    assert sorted(heights) == sorted(3 * [(40, 30)] + 3 * [(20, 50)])


def test_fewer_large_images_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvpipe.training.shown_examples.SHOWN_VALUES", 300)
    shown = ShownExamples(PICTURES)
    watched(shown, *[(6, 6)] * 5)
    assert len(shown.in_order()) == 2
    shown = ShownExamples(PICTURES)
    watched(shown, (60, 60))
    assert len(shown.in_order()) == 1


def test_where_nothing_can_be_read_there_is_no_picture() -> None:
    shown = ShownExamples(PICTURES)
    watched(shown, (5, 5), readable=False)
    assert shown.draw(TASK, CONFIG) is None
