"""Guards objects: boxes are clipped to the image, repeated objects are left out, changes are
counted.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from cvpipe.config.box_sources import MergedBoxes
from cvpipe.config.data import Data, Fold
from cvpipe.config.detection import DetectionData
from cvpipe.config.digits import Digits, DigitScenes
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.annotations.faults import faults_in_words
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.sources.constructors import detection_source
from cvpipe.data.sources.merge import merge
from cvpipe.data.sources.objects import collect
from cvpipe.errors import DataError

SCENES = DigitScenes(
    kind="digit_scenes",
    size=(32, 40),
    train=30,
    validation=5,
    test=8,
    most_digits=4,
    digit_sizes=(8, 16),
)


def collected(*annotations: tuple[int, int, tuple[float, ...]], records: int = 3) -> Boxes:
    """Return the objects of annotations (record, label, box)."""
    record, labels, boxes = zip(*annotations) if annotations else ((), (), ())
    rows = len(record)
    return collect(
        [f"{n}.xml" for n in range(records)],
        np.array(record, np.int64),
        np.array(boxes),
        np.array(labels, np.int32),
        np.arange(rows) % 2 == 1,
        np.arange(rows, dtype=np.float32),
        "annotation {}".format,
    )


def source_of(objects: Boxes, classes: tuple[str, ...] = ("cat", "dog")) -> Source:
    def read_record(record: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"image": tf.fill([2, 2, 1], tf.cast(record, tf.uint8))}

    return detection_source(classes, objects, read_record, "{}.png".format)


def rows(source: Source, index: int) -> list[tuple[str, float]]:
    """Class and ymin of an example's objects."""
    example = source.read(tf.constant(index, tf.int64))
    return [
        (source.classes[label], float(box[0]))
        for label, box in zip(example["labels"], example["boxes"].numpy())
    ]


WHOLE = (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "box, kept, fault",
    [
        ((0.1, 0.2, 0.3, 0.4), (0.1, 0.2, 0.3, 0.4), None),
        (WHOLE, WHOLE, None),
        ((-1e-6, 0, 1 + 1e-6, 1), WHOLE, None),
        ((-0.5, 0.2, 0.3, 1.4), (0, 0.2, 0.3, 1), "clipped to the image"),
        ((0.3, 0.2, 0.1, 0.4), None, "with corners in the wrong order, left out"),
        ((0.3, 0.2, 0.3, 0.4), None, "without area, left out"),
        ((0.3, 0.2, 0.3, 0.2), None, "without area, left out"),
        ((0.5, 0.2, np.nextafter(0.5, 1), 0.4), None, "without area, left out"),
        ((1.0, 0.2, 1.3, 0.4), None, "outside the image, left out"),
        ((0.1, -0.4, 0.3, 0.0), None, "outside the image, left out"),
    ],
)
def test_a_box_is_kept_clipped_or_left_out_and_counted(
    box: Any, kept: Any, fault: str | None
) -> None:
    objects = collected((1, 0, box))
    np.testing.assert_allclose(
        objects.boxes, np.array([kept] if kept else [], np.float32).reshape(-1, 4), atol=1e-7
    )
    assert objects.faults == ({"1.xml": {fault: 1}} if fault else {})
    assert objects.starts.tolist() == ([0, 0, 1, 1] if kept else [0, 0, 0, 0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_error_of_an_invalid_coordinate_names_the_object(bad: float) -> None:
    with pytest.raises(
        DataError,
        match="annotation 1: a coordinate isn't a finite number; correct or remove the object",
    ):
        collected((0, 0, WHOLE), (1, 0, (0, 0, bad, 1)))


def test_an_object_is_repeated_if_class_box_and_image_are_the_same() -> None:
    small = (0.1, 0.1, 0.2, 0.2)
    objects = collected(
        (0, 0, WHOLE), (0, 1, WHOLE), (1, 0, WHOLE), (0, 0, small), (0, 0, WHOLE), (0, 0, WHOLE)
    )
    assert objects.faults == {"0.xml": {"repeated, left out": 2}}
    assert (objects.labels.tolist(), objects.starts.tolist()) == ([0, 1, 0, 0], [0, 3, 4, 4])
    assert (objects.area.tolist(), objects.crowd.tolist()) == (
        [0, 1, 3, 2],
        [False, True, True, False],
    )


def test_annotations_of_a_record_stay_in_order_however_they_are_mixed() -> None:
    random = np.random.default_rng(0)
    record, top = random.integers(0, 20, 500), random.permutation(500) / 1000
    objects = collected(*((int(r), 0, (t, 0.0, 1.0, 1.0)) for r, t in zip(record, top)), records=20)
    for number in range(20):
        np.testing.assert_array_equal(
            objects.boxes[objects.rows(number), 0], top[record == number].astype(np.float32)
        )


def test_without_annotations_there_are_no_objects() -> None:
    objects = collected()
    assert objects.boxes.shape == (0, 4) and objects.starts.tolist() == [0, 0, 0, 0]
    example = source_of(objects).read(tf.constant(1, tf.int64))
    assert {key: (value.shape.as_list(), value.dtype.name) for key, value in example.items()} == {
        "image": ([2, 2, 1], "uint8"),
        "boxes": ([0, 4], "float32"),
        "labels": ([0], "int32"),
        "crowd": ([0], "bool"),
        "area": ([0], "float32"),
    }


def test_faults_are_reported_by_kind_with_the_first_files() -> None:
    faults = {f"{n}.xml": {"repeated, left out": 2} for n in range(6)} | {
        "6.xml": {"clipped to the image": 1}
    }
    text = faults_in_words(faults)
    assert text.startswith(
        "of the annotated objects 12 repeated, left out; 1 clipped to the image: 0.xml (2 repeated,"
        " left out), 1.xml"
    )
    assert text.endswith("4.xml (2 repeated, left out) and 2 more files")


def test_the_first_objects_of_an_image_are_kept_and_the_excess_is_counted() -> None:
    tops = [(0, 0, (n / 10_000, 0.0, 1.0, 1.0)) for n in range(1_000)]
    objects = collected(*tops, (2, 1, WHOLE)).at_most(100, "{}.png".format)
    assert objects.faults == {"0.png": {"beyond data.max_objects, left out": 900}}
    assert objects.starts.tolist() == [0, 100, 100, 101]
    np.testing.assert_allclose(objects.boxes[:100, 0], np.arange(100) / 10_000)
    assert objects.at_most(100, str) is objects


def test_a_source_reads_the_same_objects_eagerly_and_in_a_graph() -> None:
    objects = collected((0, 0, WHOLE), (2, 1, (0.5, 0, 1, 1)), (2, 0, (0.25, 0, 1, 1)))
    source = source_of(objects).subset(np.array([2, 1, 0]))
    expected = [[("dog", 0.5), ("cat", 0.25)], [], [("cat", 0.0)]]
    assert [rows(source, index) for index in range(3)] == expected
    data = tf.data.Dataset.range(3).map(source.read, num_parallel_calls=2)
    assert (
        data.element_spec["boxes"] == tf.TensorSpec([None, 4], tf.float32)
        and "label" not in data.element_spec
    )
    for index, example in enumerate(data.as_numpy_iterator()):
        assert example["image"].max() == 2 - index
        assert [
            (source.classes[label], box[0])
            for label, box in zip(example["labels"], example["boxes"])
        ] == expected[index]
    assert source.counts().tolist() == [2, 1] and source.subset(
        np.array([1])
    ).counts().tolist() == [0, 0]


def test_a_digest_depends_on_every_part_of_an_object() -> None:
    annotations = [(0, 0, WHOLE), (1, 1, (0.5, 0.0, 1.0, 1.0))]
    original = source_of(collected(*annotations))
    others = [
        collected((0, 1, WHOLE), annotations[1]),
        collected(annotations[0], (1, 1, (0.5, 0.0, 1.0, 0.9))),
        collected(annotations[0]),
        collected(annotations[0], (2, 1, (0.5, 0.0, 1.0, 1.0))),
    ]
    assert original.digest() == source_of(collected(*annotations)).digest()
    assert len({original.digest(), *(source_of(other).digest() for other in others)}) == 5


def test_chosen_classes_keep_all_images_and_drop_other_objects() -> None:
    source = source_of(
        collected((0, 0, WHOLE), (2, 1, (0.5, 0, 1, 1)), (2, 0, (0.25, 0, 1, 1)))
    ).relabel(("owl", "dog"))
    assert (len(source), source.classes) == (3, ("owl", "dog"))
    assert [rows(source, index) for index in range(3)] == [[], [], [("dog", 0.5)]]


def test_merged_sources_join_classes_by_name_and_number_records_consecutively() -> None:
    one = source_of(collected((0, 0, WHOLE), (1, 1, (0.5, 0, 1, 1)), (2, 0, (2.0, 0, 3, 1))))
    other = source_of(collected((1, 0, (0.25, 0, 1, 1)), (1, 1, (0.75, 0, 1, 1))), ("owl", "cat"))
    merged = merge(
        [{"train": one.subset(np.array([1, 0]))}, {"train": other.subset(np.array([1]))}]
    )["train"]
    assert merged.classes == ("cat", "dog", "owl")
    assert [rows(merged, index) for index in range(3)] == [
        [("dog", 0.5)],
        [("cat", 0.0)],
        [("owl", 0.25), ("cat", 0.75)],
    ]
    assert merged.annotation(Boxes).faults == {"2.xml": {"outside the image, left out": 1}}
    assert [
        int(merged.read(tf.constant(n, tf.int64))["image"].numpy().max()) for n in range(3)
    ] == [1, 0, 1]


def test_joined_objects_are_those_of_the_parts() -> None:
    parts = [collected((0, 0, WHOLE)), collected(), collected((2, 1, WHOLE), (0, 1, WHOLE))]
    both = Boxes.join(parts, [3, 3, 3])
    assert both.starts.tolist() == [0, 1, 1, 1, 1, 1, 1, 2, 2, 3] and both.labels.tolist() == [
        0,
        1,
        1,
    ]


def test_splits_limits_and_folds_treat_all_images_as_one_class() -> None:
    merged = MergedBoxes(kind="merge", sources=(SCENES, SCENES.model_copy(update={"seed": 1})))
    splits = open_splits(Data(source=merged, limit=10))
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 10,
        "validation": 10,
        "test": 16,
    }
    folded = open_splits(Data(source=SCENES, fold=Fold(of=3)))
    assert {name: len(split) for name, split in folded.items()} == {
        "train": 20,
        "validation": 10,
        "test": 8,
    }


def test_one_class_is_enough_to_detect(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        splits = open_splits(DetectionData(source=SCENES, only=("7",), max_objects=1))
    assert splits["train"].classes == ("7",) and len(splits["train"]) == 30
    with pytest.raises(ValidationError, match="one class can't be distinguished from others"):
        Data(source=Digits(kind="digits"), only=("7",))


def test_faults_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        splits = open_splits(DetectionData(source=SCENES, max_objects=1))
    [warning] = [message for message in caplog.messages if "beyond data.max_objects" in message]
    assert warning.startswith("digit_scenes: of the annotated objects")
    assert all(len(split.annotation(Boxes).labels) == len(split) for split in splits.values())


def test_a_class_without_objects_to_train_on_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        open_splits(Data(source=SCENES.model_copy(update={"train": 1, "most_digits": 1})))
    assert (
        sum(
            "has no object to train on, so its score is unreliable; add more" in message
            for message in caplog.messages
        )
        == 9
    )


def test_boxes_and_plain_labels_dont_merge() -> None:
    with pytest.raises(ValidationError, match="Input tag 'digits' .* does not match"):
        MergedBoxes(kind="merge", sources=(SCENES, Digits(kind="digits")))
