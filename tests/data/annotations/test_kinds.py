"""Guards kinds of annotation: a new kind, beside others, needs no changes in other code."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter

from conftest import ROOT
from cvpipe.config.augment.augmentation import Augmentation, Fill
from cvpipe.config.detection import DetectionAugmentation
from cvpipe.data import annotations
from cvpipe.data.annotations import KINDS, keep_objects
from cvpipe.data.annotations.annotation import Annotation, Change
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.annotations.columns import Columns
from cvpipe.data.annotations.label import Label
from cvpipe.data.annotations.mask import Mask
from cvpipe.data.augment import augment
from cvpipe.data.check import check
from cvpipe.data.check_report import summary
from cvpipe.data.example import Example, Reader
from cvpipe.data.facts import Facts
from cvpipe.data.sources.merge import merge
from cvpipe.data.sources.objects import collect
from cvpipe.data.sources.source import Source, make_source

CLASSES, SIZE = ("cat", "dog"), (40, 48)
RECORDS = 6
# A record's objects in pixels of 40 × 48: ymin, xmin, ymax, xmax.
RECTANGLES = [(4, 6, 20, 30), (10, 20, 36, 46), (0, 0, 12, 10)]
MOVES: list[dict[str, Any]] = [
    {"op": "flip"},
    {"op": "flip", "direction": "vertical"},
    {"op": "pad_crop", "padding": 20},
    {"op": "random_resized_crop", "area": [0.2, 1]},
    {"op": "short_side_crop", "sides": [48, 70]},
    {"op": "expand", "probability": 1},
    {"op": "iou_crop"},
    {"op": "scale_jitter"},
    {"op": "scale_crop"},
    {"op": "mosaic", "probability": 1},
    {"op": "copy_paste", "probability": 1},
    {"op": "object_mixup", "probability": 1},
]


class Ends(Annotation):
    """Two points of each object, left and right, which change places in a mirror image.

    An example has "ends" float32 [n, 2, 2] (y, x), a column of the objects, and "ends_order" int32
    [2]: the order of the ends in a mirror image.
    """

    keys = ("ends", "ends_order")
    placed = ("ends",)
    per_object = ("ends",)

    def digests(self, records: np.ndarray) -> list[str]:
        return ["ends"] * len(records)

    def describe(self, record: int, read_record: Reader, facts: Facts) -> str:
        return f"ends of {record}"

    def read(self, record: tf.Tensor) -> Example:
        return {"ends_order": tf.constant([1, 0])}

    @classmethod
    def join(cls, parts: Sequence[Self], sizes: Sequence[int]) -> Ends:
        return cls()

    @classmethod
    def from_columns(cls, columns: Columns, facts: Facts) -> Ends:
        return cls()

    @staticmethod
    def mirrored(example: Example, axis: int) -> Example:
        y, x = tf.unstack(example["ends"], axis=-1)
        if axis == 0:
            return {"ends": tf.stack([1 - y, x], -1)}
        mirror = tf.stack([y, 1 - x], -1)
        return {"ends": tf.gather(mirror, example["ends_order"], axis=1)}

    @staticmethod
    def moved(example: Example, size: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> Change:
        scale, offset = tf.cast(scale, tf.float32), tf.cast(offset, tf.float32)
        return Change({"ends": example["ends"] * scale + offset})

    @staticmethod
    def warped(example: Example, transform: tf.Tensor, extent: tf.Tensor, fill: Fill) -> Change:
        raise AssertionError

    @staticmethod
    def sampled(example: Example, y: tf.Tensor, x: tf.Tensor, fill: Fill) -> Change:
        raise AssertionError


@pytest.fixture(autouse=True)
def one_more_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotations, "KINDS", (*KINDS, Ends))


def read_record(record: tf.Tensor) -> Example:
    image = tf.random.stateless_uniform([*SIZE, 3], tf.stack([record, 0]), 0, 256, tf.int32)
    return {"image": tf.cast(image, tf.uint8)}


def objects_with_ends() -> Boxes:
    """Objects whose ends are the left and the right end of the box's diagonal."""
    corners = (np.repeat(RECTANGLES, RECORDS, 0) / np.tile(SIZE, 2)).astype(np.float32)
    rows = len(corners)
    return collect(
        [f"{n}.xml" for n in range(RECORDS)],
        # Records are interleaved, as in some formats, so all columns must be sorted alike.
        np.arange(rows) % RECORDS,
        corners,
        np.arange(rows) // RECORDS % 2,
        np.zeros(rows, bool),
        np.full(rows, -1.0),
        str,
        more={"ends": corners.reshape(-1, 2, 2)},
    )


def with_ends() -> Source:
    return make_source(Facts(CLASSES), [objects_with_ends(), Ends()], RECORDS, read_record, str)


def at(index: int) -> tf.Tensor:
    return tf.constant(index, tf.int64)


def spans(example: dict[str, np.ndarray]) -> np.ndarray:
    """The smallest boxes around the ends, clipped to the image: float32 [n, 4]."""
    return np.clip(np.concatenate([example["ends"].min(1), example["ends"].max(1)], axis=1), 0, 1)


@pytest.mark.parametrize("given", MOVES, ids=lambda given: "-".join(map(str, given.values())))
def test_annotations_of_an_object_move_and_leave_together(given: dict[str, Any]) -> None:
    op: Augmentation = TypeAdapter(DetectionAugmentation).validate_python(given)
    source = with_ends()

    @tf.autograph.experimental.do_not_convert
    def changed(number: tf.Tensor) -> Example:
        seed = tf.stack([number, at(0)])
        return augment(
            source.read(number % RECORDS), seed, [op], SIZE, partner=lambda n: source.read(at(n))
        )

    counts = set()
    for example in tf.data.Dataset.range(24).map(changed).as_numpy_iterator():
        counts.add(len(example["boxes"]))
        assert len(example["ends"]) == len(example["labels"]) == len(example["boxes"])
        around = spans(example)
        if given["op"] == "mosaic":
            # Boxes are clipped to their quarter; points aren't.
            assert (around[:, :2] <= example["boxes"][:, :2] + 1e-5).all()
            assert (around[:, 2:] >= example["boxes"][:, 2:] - 1e-5).all()
        else:
            np.testing.assert_allclose(around, example["boxes"], atol=1e-5)
        assert (example["ends"][:, 0, 1] < example["ends"][:, 1, 1]).all(), "left comes first"
    assert counts != {0}


def test_a_dropped_object_is_dropped_from_all_columns() -> None:
    example = with_ends().read(at(0))
    kept = keep_objects(example, tf.constant([False, True, False]))
    assert kept["ends"].shape == (1, 2, 2) and kept["ends_order"].shape == (2,)
    np.testing.assert_array_equal(kept["ends"][0].numpy().ravel(), kept["boxes"][0])


def test_a_source_of_two_kinds_is_read_reported_limited_relabeled_and_merged() -> None:
    source = with_ends()
    np.testing.assert_allclose(
        source.read(at(3))["ends"].numpy().reshape(-1, 4) * np.tile(SIZE, 2), RECTANGLES, rtol=1e-5
    )
    assert source.describe(2) == "2 cat, 1 dog; ends of 2"
    assert source.counts().tolist() == [2 * RECORDS, RECORDS]
    assert source.strata().tolist() == [0] * RECORDS
    assert source.at_most(1).read(at(0))["ends"].shape == (1, 2, 2)
    dogs = source.relabel(("dog",))
    assert len(dogs) == RECORDS and dogs.facts == Facts(("dog",))
    merged = merge([{"train": dogs.subset(np.array([4]))}, {"train": source}])["train"]
    assert merged.classes == ("dog", "cat") and len(merged) == RECORDS + 1
    for example in (merged.read(at(0)), merged.read(at(3))):
        np.testing.assert_array_equal(spans({"ends": example["ends"].numpy()}), example["boxes"])
    assert [len(merged.read(at(index))["ends"]) for index in (0, 1)] == [1, 3]


def test_a_digest_depends_on_every_column_of_the_objects() -> None:
    source, boxes = with_ends(), objects_with_ends()
    shifted = Boxes(
        boxes.boxes,
        boxes.labels,
        boxes.crowd,
        boxes.area,
        boxes.starts,
        more={"ends": boxes.more["ends"] + np.float32(0.1)},
    )
    other = make_source(Facts(CLASSES), [shifted, Ends()], RECORDS, read_record, str)
    assert source.digest() == with_ends().digest() != other.digest()


def test_examples_of_a_label_and_objects_are_held_out_by_label() -> None:
    label = Label(np.array([0, 1, 1, 0, 1, 0], np.int32))
    source = make_source(Facts(CLASSES), [label, objects_with_ends()], RECORDS, read_record, str)
    assert source.strata().tolist() == [0, 1, 1, 0, 1, 0]
    assert source.describe(1) == "dog; 2 cat, 1 dog"
    # Images of other classes are left out.
    assert source.relabel(("dog",)).names() == ["1", "2", "4"]
    assert {"label", "boxes"} <= source.read(at(0)).keys()


def test_a_check_reports_the_findings_of_every_kind() -> None:
    def read_with_mask(record: tf.Tensor) -> Example:
        mask = tf.fill([*SIZE, 1], tf.constant(1, tf.uint8))
        return {**read_record(record), "mask": mask}

    kinds = [Mask(), objects_with_ends()]
    result = check({"train": make_source(Facts(CLASSES), kinds, RECORDS, read_with_mask, str)}, 3)
    found = result["splits"]["train"]
    assert (found["pixels"], found["counted"]) == ({"cat": 0, "dog": 1}, "objects")
    assert found["classes"] == {"cat": 2 * RECORDS, "dog": RECORDS} and found["imbalance"] == 2
    assert "  pixels   cat 0.00%, dog 100.00%; ignored 0.00% of all" in summary(result)


def test_a_source_without_a_kind_is_an_error() -> None:
    with pytest.raises(LookupError, match="the source has no Mask"):
        with_ends().annotation(Mask)


# -- no other code knows the kinds

DATA = ROOT / "cvpipe" / "data"
# Operations whose subject is objects or masks.
SUBJECTS = {"zoom.py", "partners.py", "scale_crop.py"}
BLIND = [
    *(DATA / f"{name}.py" for name in ("stream", "check", "check_report", "quarantine", "crop")),
    *(DATA / "sources" / f"{name}.py" for name in ("__init__", "source", "splits", "merge")),
    *(path for path in sorted((DATA / "augment").glob("*.py")) if path.name not in SUBJECTS),
]
TASKS = ("classif", "detect", "segmentation")


def knows_a_kind(path: Path) -> list[str]:
    """The modules of kinds that a file imports, and the names of their tensors that it uses."""
    # "area" is also a way to resize.
    names = {key for kind in KINDS for key in kind.keys} - {"area"}
    modules = {kind.__module__ for kind in KINDS}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    imports = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [name for name in strings if name in names] + [
        module for module in imports if module in modules
    ]


@pytest.mark.parametrize("path", BLIND, ids=lambda path: str(path.relative_to(DATA)))
def test_the_core_of_data_names_no_kind(path: Path) -> None:
    assert knows_a_kind(path) == []


@pytest.mark.parametrize("name", sorted(SUBJECTS - {"zoom.py"}))
def test_operations_on_objects_or_masks_name_their_kinds(name: str) -> None:
    assert knows_a_kind(DATA / "augment" / name)


def test_augmentation_names_no_task() -> None:
    for path in (DATA / "augment").glob("*.py"):
        text = path.read_text(encoding="utf-8").lower()
        assert not [task for task in TASKS if task in text], path.name
