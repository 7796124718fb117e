"""Guards TFRecords: Model Garden's own decoders give the same images, boxes and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.config.record_files import TfRecord, TfRecordBoxes, TfRecordMasks
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.annotations.label import Label
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.tfrecord import tfrecord
from image_files import encode, noise
from record_writers import write_tfrecord

NUMBERS = [3, 18, 44, 90]
FILES = [encode(noise(24, 32, seed=n), kind) for n, kind in enumerate(["JPEG", "PNG"] * 3)]


def feature(value: Any) -> tf.train.Feature:
    from official.vision.data import tfrecord_lib

    return tfrecord_lib.convert_to_feature(value)


def written(file: Path, rows: list[dict[str, Any]]) -> list[bytes]:
    """Write examples with Model Garden's own functions; return the records."""
    from official.vision.data import tfrecord_lib

    records = []
    for number, row in enumerate(rows):
        features = tfrecord_lib.image_info_to_feature_dict(
            24, 32, f"{number}.jpg", number, FILES[number], "jpeg"
        )
        features |= {name: feature(value) for name, value in row.items() if value != []}
        example = tf.train.Example(features=tf.train.Features(feature=features))
        records.append(example.SerializeToString())
    write_tfrecord(file, records)
    return records


def drawn_objects(random: np.random.Generator, count: int) -> dict[str, Any]:
    corners = np.sort(random.random((count, 2, 2)), axis=1).astype(np.float32)
    sides = dict(zip(("ymin", "xmin", "ymax", "xmax"), corners.reshape(-1, 4).T, strict=True))
    return {
        **{f"image/object/bbox/{side}": each.tolist() for side, each in sides.items()},
        "image/object/class/label": random.choice(NUMBERS, count).tolist(),
        "image/object/is_crowd": random.integers(0, 2, count).tolist(),
        "image/object/area": (random.random(count) * 500).tolist(),
    }


def same_image(source: Source, index: int, image: Any) -> None:
    stored = source.read(tf.constant(index, tf.int64))["bytes"]
    np.testing.assert_array_equal(tf.io.decode_image(stored, channels=3), image)


def test_objects_are_those_of_its_detection_decoder(tmp_path: Path) -> None:
    from official.vision.dataloaders.tf_example_decoder import TfExampleDecoder

    random = np.random.default_rng(0)
    rows = [drawn_objects(random, count) for count in (3, 1, 0, 5, 2, 4)]
    records = written(tmp_path / "train-00000-of-00001.tfrecord", rows)
    source = tfrecord(TfRecordBoxes(kind="tfrecord", path=str(tmp_path)))["train"]
    boxes = source.annotation(Boxes)
    decoder = TfExampleDecoder()
    for number, record in enumerate(records):
        theirs = {name: value.numpy() for name, value in decoder.decode(record).items()}
        rows_of_image = boxes.rows(number)
        np.testing.assert_array_equal(boxes.boxes[rows_of_image], theirs["groundtruth_boxes"])
        labels = [int(source.classes[label]) for label in boxes.labels[rows_of_image]]
        assert labels == theirs["groundtruth_classes"].tolist()
        assert boxes.crowd[rows_of_image].tolist() == theirs["groundtruth_is_crowd"].tolist()
        np.testing.assert_array_equal(boxes.area[rows_of_image], theirs["groundtruth_area"])
        same_image(source, number, theirs["image"])
    assert len(boxes.labels) == 15


def test_names_have_the_numbers_of_its_decoder_with_a_label_map(tmp_path: Path) -> None:
    from official.vision.dataloaders.tf_example_label_map_decoder import TfExampleDecoderLabelMap

    names = {"dog": 4, "cat": 1, "cow": 2}
    rows = []
    for labels in (["cow", "cat"], ["dog"], ["cat", "cat", "cow"]):
        objects = drawn_objects(np.random.default_rng(len(rows)), len(labels))
        del objects["image/object/class/label"]
        rows.append({**objects, "image/object/class/text": [name.encode() for name in labels]})
    records = written(tmp_path / "train.tfrecord", rows)
    label_map = tmp_path / "names.csv"
    label_map.write_text("".join(f"{number},{name}\n" for name, number in names.items()))
    config = TfRecordBoxes(kind="tfrecord", path=str(tmp_path), names="names.csv")
    source = tfrecord(config)["train"]
    assert source.classes == ("cat", "cow", "dog")
    boxes = source.annotation(Boxes)
    decoder = TfExampleDecoderLabelMap(str(label_map))
    for number, record in enumerate(records):
        theirs = decoder.decode(record)["groundtruth_classes"].numpy().tolist()
        labels = [source.classes[label] for label in boxes.labels[boxes.rows(number)]]
        assert [names[name] for name in labels] == theirs


def test_labels_and_masks_are_those_of_its_decoders(tmp_path: Path) -> None:
    from official.vision.dataloaders import classification_input, segmentation_input

    random = np.random.default_rng(0)
    masks = [random.integers(0, 4, (24, 32, 1)).astype(np.uint8) for _ in FILES]
    rows = [
        {
            "image/class/label": int(random.choice(NUMBERS)),
            "image/segmentation/class/encoded": encode(mask, "PNG"),
        }
        for mask in masks
    ]
    records = written(tmp_path / "train.tfrecord", rows)
    labeled = tfrecord(TfRecord(kind="tfrecord", path=str(tmp_path)))["train"]
    masked = tfrecord(
        TfRecordMasks(kind="tfrecord", path=str(tmp_path), classes=("a", "b", "c", "d"))
    )["train"]
    decoders = classification_input.Decoder(), segmentation_input.Decoder()
    for number, record in enumerate(records):
        label, mask = (decoder.decode(record) for decoder in decoders)
        number_of_class = labeled.classes[labeled.annotation(Label).labels[number]]
        assert int(number_of_class) == int(label["image/class/label"])
        example = masked.read(tf.constant(number, tf.int64))
        assert example["bytes"] == label["image/encoded"] == mask["image/encoded"]
        theirs = tf.io.decode_image(mask["image/segmentation/class/encoded"])
        np.testing.assert_array_equal(example["mask"], theirs)
