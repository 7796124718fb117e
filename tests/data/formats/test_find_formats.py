"""Guards detection of formats: each tool's layout is recognized, and the detected source reads
it.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from pydantic import TypeAdapter

from cvpipe.config.box_sources import AutoBoxes, BoxSource
from cvpipe.config.defect_sources import DefectSource
from cvpipe.config.keypoint_sources import KeypointSource
from cvpipe.config.label_sources import AutoLabels, LabelSource
from cvpipe.config.mask_sources import MaskSource
from cvpipe.data.formats import FORMATS, find_formats
from cvpipe.data.sources import open_source
from cvpipe.data.sources.source import Source
from cvpipe.errors import DataError
from image_files import encode, noise, zipped
from record_writers import tar, tfrecord

SECTIONS: dict[str, Any] = {
    "classification": LabelSource,
    "detection": BoxSource,
    "segmentation": MaskSource,
    "pose": KeypointSource,
    "anomaly": DefectSource,
}
JPEG = encode(noise(8, 10), "JPEG")
MASK_OF_TWO = np.arange(80, dtype=np.uint8).reshape(8, 10, 1) % 2
XML = (
    "<annotation><size><width>10</width><height>8</height><depth>3</depth></size><object><name>cat"
    "</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>4</ymax></bndbox></object>"
    "</annotation>"
)
LINE = "0 0.5 0.5 0.2 0.4\n"


def coco(*names: str, **more: Any) -> str:
    """Return COCO's JSON with a cat in each image."""
    row = {"category_id": 7, "bbox": [1, 1, 4, 3], "area": 12, "iscrowd": 0, **more}
    return json.dumps(
        {
            "images": [
                {"id": 3 * n, "file_name": name, "width": 10, "height": 8}
                for n, name in enumerate(names)
            ],
            "annotations": [{"id": n, "image_id": 3 * n, **row} for n in range(len(names))],
            "categories": [
                {"id": 7, "name": "cat", **({"keypoints": ["nose"]} if "keypoints" in more else {})}
            ],
        }
    )


def mask(*values: int) -> bytes:
    pixels = np.resize(np.array(values, np.uint8), (8, 10, 1))
    return encode(pixels, "PNG")


def colored(*colors: tuple[int, int, int]) -> bytes:
    return encode(np.resize(np.array(colors, np.uint8), (8, 10, 3)), "PNG")


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(head + array.tobytes())


def table(split_rows: int, **more: list[Any]) -> bytes:
    """Return a Parquet file with a column of images, as public hubs store it, and other columns."""
    images = [{"bytes": JPEG, "path": f"{n}.jpg"} for n in range(split_rows)]
    file = io.BytesIO()
    pq.write_table(pa.table({"image": images, **more}), file)
    return file.getvalue()


IMAGES, LABELS = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1], np.uint8)
MASKS = "image/segmentation/class/encoded"
OUTLINE = [[1, 1, 5, 1, 5, 4]]

# Each layout's files, task, kind of source, and number of images in each split.
LAYOUTS: dict[str, tuple[dict[str, Any], str, str, dict[str, int]]] = {
    "class folders": (
        {"cat/1.jpg": JPEG, "cat/2.jpg": JPEG, "dog/1.jpg": JPEG},
        "classification",
        "folder",
        {"all": 3},
    ),
    "class folders, deeper": (
        {"a/b/cat/1.jpg": JPEG, "a/b/dog/1.jpg": JPEG, "a/notes.md": ""},
        "classification",
        "folder",
        {"all": 2},
    ),
    "split folders of classes": (
        {"train/cat/1.jpg": JPEG, "train/dog/1.jpg": JPEG, "val/cat/2.jpg": JPEG, "x.txt": ""},
        "classification",
        "folder",
        {"train": 2, "validation": 1},
    ),
    "Parquet of labels": (
        {
            "data/train-00000-of-00002.parquet": table(2, label=["cat", "dog"]),
            "data/train-00001-of-00002.parquet": table(1, label=["dog"]),
            "data/test-00000-of-00001.parquet": table(1, label=["cat"]),
            "README.md": "",
        },
        "classification",
        "parquet",
        {"train": 3, "test": 1},
    ),
    "Parquet of objects": (
        {"train.parquet": table(2, objects=[{"bbox": [[1, 1, 4, 3]], "category": ["cat"]}] * 2)},
        "detection",
        "parquet",
        {"train": 2},
    ),
    "TFRecords of labels, as of TensorFlow Datasets": (
        {
            "pets-train.tfrecord-00000-of-00001": tfrecord(
                [{"image": JPEG, "label": label} for label in (0, 1, 1)]
            ),
            "pets-test.tfrecord-00000-of-00001": tfrecord([{"image": JPEG, "label": 1}]),
            "label.labels.txt": "cat\ndog\n",
            "dataset_info.json": "{}",
        },
        "classification",
        "tfrecord",
        {"train": 3, "test": 1},
    ),
    "TFRecords of the Object Detection API": (
        {
            "train.record": tfrecord(
                [
                    {
                        "image/encoded": JPEG,
                        "image/object/class/text": "cat",
                        "image/object/class/label": 1,
                        "image/object/bbox/ymin": 0.1,
                        "image/object/bbox/xmin": 0.2,
                        "image/object/bbox/ymax": 0.5,
                        "image/object/bbox/xmax": 0.9,
                    }
                ]
            ),
            "label_map.pbtxt": "item {\n  id: 1\n  name: 'cat'\n}\n",
        },
        "detection",
        "tfrecord",
        {"train": 1},
    ),
    "TFRecords of masks": (
        {
            "train-00000-of-00001": tfrecord(
                [
                    {
                        "image/encoded": JPEG,
                        "image/segmentation/class/encoded": encode(MASK_OF_TWO, "PNG"),
                    }
                ]
            )
        },
        "segmentation",
        "tfrecord",
        {"train": 1},
    ),
    "WebDataset of labels": (
        {
            f"set-{split}-00000{n}.tar": tar(
                [
                    (f"{at}.{kind}", each)
                    for at in "ab"
                    for kind, each in (("jpg", JPEG), ("cls", b"1"))
                ]
            )
            for split, n in (("train", 0), ("train", 1), ("val", 0))
        },
        "classification",
        "webdataset",
        {"train": 4, "validation": 2},
    ),
    "WebDataset of objects": (
        {
            "0.tar": tar(
                [
                    ("1.jpg", JPEG),
                    ("1.json", b'{"objects": [{"bbox": [1, 1, 4, 3], "category": "cat"}]}'),
                ]
            )
        },
        "detection",
        "webdataset",
        {"all": 1},
    ),
    "WebDataset of masks": (
        {"0.tar": tar([("1.jpg", JPEG), ("1.mask.png", encode(MASK_OF_TWO, "PNG"))])},
        "segmentation",
        "webdataset",
        {"all": 1},
    ),
    "Roboflow COCO": (
        {
            "train/_annotations.coco.json": coco("1.jpg", "2.jpg"),
            "train/1.jpg": JPEG,
            "train/2.jpg": JPEG,
            "valid/_annotations.coco.json": coco("1.jpg"),
            "valid/1.jpg": JPEG,
            "test/_annotations.coco.json": coco("4.jpg"),
            "test/4.jpg": JPEG,
            "README.roboflow.txt": "exported\n",
        },
        "detection",
        "coco",
        {"train": 2, "validation": 1, "test": 1},
    ),
    "Roboflow YOLO": (
        {
            "data.yaml": "train: ../train/images\nval: ../valid/images\nnames: ['cat']\nnc: 1\n",
            "train/images/1.jpg": JPEG,
            "train/labels/1.txt": LINE,
            "valid/images/2.jpg": JPEG,
            "valid/labels/2.txt": LINE,
        },
        "detection",
        "yolo",
        {"train": 1, "validation": 1},
    ),
    "Roboflow VOC": (
        {
            "train/1.jpg": JPEG,
            "train/1.xml": XML,
            "valid/2.jpg": JPEG,
            "valid/2.xml": XML,
            "test/3.jpg": JPEG,
            "test/3.xml": XML,
        },
        "detection",
        "voc",
        {"train": 1, "validation": 1, "test": 1},
    ),
    "Roboflow masks": (
        {
            "train/1.jpg": JPEG,
            "train/1_mask.png": mask(0, 1),
            "train/_classes.csv": "Pixel Value, Class\n0, background\n1, cat\n",
            "valid/2.jpg": JPEG,
            "valid/2_mask.png": mask(0, 1),
            "valid/_classes.csv": "Pixel Value, Class\n0, background\n1, cat\n",
        },
        "segmentation",
        "masks",
        {"train": 1, "validation": 1},
    ),
    "Ultralytics": (
        {
            "set.yaml": "path: set\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n",
            "images/train/1.jpg": JPEG,
            "labels/train/1.txt": LINE,
            "images/val/2.jpg": JPEG,
            "labels/val/2.txt": "",
        },
        "detection",
        "yolo",
        {"train": 1, "validation": 1},
    ),
    "labelImg VOC": (
        {"photos/1.jpg": JPEG, "photos/1.xml": XML, "photos/2.jpg": JPEG, "photos/2.xml": XML},
        "detection",
        "voc",
        {"all": 2},
    ),
    "labelImg YOLO": (
        {"1.jpg": JPEG, "1.txt": LINE, "2.jpg": JPEG, "2.txt": LINE, "classes.txt": "cat\n"},
        "detection",
        "yolo",
        {"all": 2},
    ),
    "YOLO without names": (
        {"images/1.jpg": JPEG, "labels/1.txt": "1" + LINE[1:], "x.md": ""},
        "detection",
        "yolo",
        {"all": 1},
    ),
    "CVAT COCO": (
        {
            "annotations/instances_default.json": coco("a/1.jpg", segmentation=OUTLINE),
            "images/default/a/1.jpg": JPEG,
        },
        "detection",
        "coco",
        {"train": 1},
    ),
    "CVAT VOC": (
        {
            "Annotations/1.xml": XML,
            "JPEGImages/1.jpg": JPEG,
            "ImageSets/Main/default.txt": "1\n",
            "labelmap.txt": "# label:color_rgb:parts:actions\ncat:9,8,7::\n",
        },
        "detection",
        "voc",
        {"all": 1},
    ),
    "CVAT YOLO": (
        {
            "obj.data": "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\n",
            "obj.names": "cat\n",
            "train.txt": "data/obj_train_data/1.jpg\n",
            "obj_train_data/1.jpg": JPEG,
            "obj_train_data/1.txt": LINE,
        },
        "detection",
        "yolo",
        {"train": 1},
    ),
    "CVAT masks": (
        {
            "JPEGImages/1.jpg": JPEG,
            "SegmentationClass/1.png": colored((0, 0, 0), (9, 8, 7)),
            "SegmentationObject/1.png": colored((0, 0, 0), (1, 1, 1)),
            "ImageSets/Segmentation/default.txt": "1\n",
            "labelmap.txt": "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:9,8,7::\n",
        },
        "segmentation",
        "masks",
        {"train": 1},
    ),
    "mask folders of values": (
        {"images/1.jpg": JPEG, "masks/1.png": mask(0, 1, 2, 255), "readme": ""},
        "segmentation",
        "masks",
        {"train": 1},
    ),
    "mask folders, black and white": (
        {"train/images/1.jpg": JPEG, "train/masks/1.png": mask(0, 255), "readme": ""},
        "segmentation",
        "masks",
        {"train": 1},
    ),
    "table with absolute paths of another machine": (
        {
            "labels.csv": "file,kind\n/home/me/a/1.jpg,x\n/home/me/b/1.jpg,y\n/home/me/a/2.jpg,x\n"
            "/home/me/b/2.jpg,y\n",
            **{f"photos/{folder}/{n}.jpg": JPEG for folder in "ab" for n in (1, 2)},
        },
        "classification",
        "csv",
        {"train": 4},
    ),
    "table": (
        {
            "labels.csv": "file;species\n"
            + "".join(f"img/{n}.jpg;{['dog', 'cat'][n % 2]}\n" for n in range(1, 5)),
            **{f"img/{n}.jpg": JPEG for n in range(1, 5)},
        },
        "classification",
        "csv",
        {"train": 4},
    ),
    "tables of splits, without headings": (
        {
            "lists/train.txt": "a/1.jpg 0\na/2.jpg 1\na/3.jpg 0\na/4.jpg 1\n".replace(" ", "\t"),
            "lists/test.txt": "a/5.jpg 0\na/6.jpg 1\n".replace(" ", "\t"),
            **{f"images/a/{n}.jpg": JPEG for n in range(1, 7)},
        },
        "classification",
        "csv",
        {"train": 4, "test": 2},
    ),
    "IDX": (
        {
            "train-images-idx3-ubyte.gz": idx(IMAGES),
            "train-labels-idx1-ubyte.gz": idx(LABELS),
            "t10k-images-idx3-ubyte.gz": idx(IMAGES),
            "t10k-labels-idx1-ubyte.gz": idx(LABELS),
        },
        "classification",
        "idx",
        {"train": 4, "test": 4},
    ),
    "COCO with absolute paths of another machine": (
        {
            "annotations/train.json": coco(
                "/home/me/set/images/1.jpg", "/home/me/set/images/2.jpg"
            ),
            "images/1.jpg": JPEG,
            "images/2.jpg": JPEG,
        },
        "detection",
        "coco",
        {"train": 2},
    ),
    "COCO keypoints": (
        {
            "annotations/person_keypoints_train2017.json": coco("1.jpg", keypoints=[2, 2, 2]),
            "annotations/captions_train2017.json": '{"images": [], "annotations": []}',
            "train2017/1.jpg": JPEG,
        },
        "pose",
        "coco",
        {"train": 1},
    ),
    "keypoint table": (
        {"points.csv": "image,nose_x,nose_y\n1.jpg,3,4\n", "1.jpg": JPEG},
        "pose",
        "keypoint_csv",
        {"train": 1},
    ),
    "LabelMe": (
        {
            "train/1.jpg": JPEG,
            "train/1.json": json.dumps(
                {
                    "shapes": [{"label": "cat", "points": [[1, 1], [5, 4]]}],
                    "imagePath": "1.jpg",
                    "imageHeight": 8,
                    "imageWidth": 10,
                }
            ),
            "x.md": "",
        },
        "detection",
        "labelme",
        {"train": 1},
    ),
    "CVAT's XML": (
        {
            "annotations.xml": '<annotations><image id="0" name="a/1.jpg" width="10" height="8">'
            '<box label="cat" xtl="1" ytl="1" xbr="5" ybr="4"/></image></annotations>',
            "images/a/1.jpg": JPEG,
        },
        "detection",
        "cvat",
        {"train": 1},
    ),
    "Label Studio": (
        {
            "project-1.json": json.dumps(
                [
                    {
                        "image": "/data/upload/1/12345678-1.jpg",
                        "label": [
                            {
                                "x": 10,
                                "y": 10,
                                "width": 50,
                                "height": 50,
                                "rotation": 0,
                                "rectanglelabels": ["cat"],
                            }
                        ],
                    }
                ]
            ),
            "images/1.jpg": JPEG,
        },
        "detection",
        "label_studio",
        {"train": 1},
    ),
    "VIA": (
        {
            "via_region_data.json": json.dumps(
                {
                    "1.jpg9": {
                        "filename": "1.jpg",
                        "size": 9,
                        "regions": [
                            {
                                "shape_attributes": {
                                    "name": "rect",
                                    "x": 1,
                                    "y": 1,
                                    "width": 4,
                                    "height": 3,
                                },
                                "region_attributes": {"class": "cat"},
                            }
                        ],
                    }
                }
            ),
            "1.jpg": JPEG,
        },
        "detection",
        "via",
        {"train": 1},
    ),
    "KITTI": (
        {
            "training/image_2/1.jpg": JPEG,
            "training/label_2/1.txt": "Car 0 0 0 1 1 5 4 1 1 1 1 1 1 1\n",
            "x.md": "",
        },
        "detection",
        "kitti",
        {"all": 1},
    ),
    "Roboflow's table of objects": (
        {
            "train/_annotations.csv": "filename,width,height,class,xmin,ymin,xmax,ymax\n"
            "1.jpg,10,8,cat,1,1,5,4\n1.jpg,10,8,dog,2,2,6,5\n",
            "train/1.jpg": JPEG,
            "valid/_annotations.csv": "filename,width,height,class,xmin,ymin,xmax,ymax\n"
            "1.jpg,10,8,cat,1,1,5,4\n",
            "valid/1.jpg": JPEG,
        },
        "detection",
        "box_csv",
        {"train": 1, "validation": 1},
    ),
    "Roboflow's table of classes": (
        {
            "train/_classes.csv": "filename, cat, dog\n1.jpg, 1, 0\n2.jpg, 0, 1\n",
            "train/1.jpg": JPEG,
            "train/2.jpg": JPEG,
            "valid/_classes.csv": "filename, cat, dog\n1.jpg, 1, 0\n",
            "valid/1.jpg": JPEG,
        },
        "classification",
        "one_hot_csv",
        {"train": 2, "validation": 1},
    ),
    "MVTec AD": (
        {
            "bottle/train/good/0.jpg": JPEG,
            "bottle/train/good/1.jpg": JPEG,
            "bottle/test/good/2.jpg": JPEG,
            "bottle/test/crack/3.jpg": JPEG,
            "bottle/ground_truth/crack/3_mask.png": mask(0, 255),
            "license.txt": "",
        },
        "anomaly",
        "mvtec",
        {"train": 2, "test": 2},
    ),
    "Open Images": (
        {
            "oidv6-train-annotations-bbox.csv": "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\n"
            "1a,/m/01,0.1,0.5,0.1,0.5,0\n",
            "class-descriptions-boxable.csv": "/m/01,Cat\n/m/02,Dog\n",
            "train/1a.jpg": JPEG,
        },
        "detection",
        "box_csv",
        {"train": 1},
    ),
}


def write(root: Path, files: Mapping[str, Any]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        (root / name).write_bytes(data)
    return root


def in_a_folder(root: Path, files: Mapping[str, Any]) -> Path:
    return write(root / "data", files)


def in_a_zip(root: Path, files: Mapping[str, Any]) -> Path:
    return zipped(write(root / "data", files))


def in_a_zip_with_a_folder_around(root: Path, files: Mapping[str, Any]) -> Path:
    return zipped(write(root / "data", {f"my set/{name}": each for name, each in files.items()}))


def opened(source: Mapping[str, Any], task: str) -> dict[str, Source]:
    section = TypeAdapter(SECTIONS[task]).validate_json(json.dumps(source), strict=True)
    return open_source(section, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", [in_a_folder, in_a_zip, in_a_zip_with_a_folder_around])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tools_layout_is_found_and_its_source_reads_every_image(
    tmp_path: Path, layout: str, place: Callable[[Path, Mapping[str, Any]], Path]
) -> None:
    files, task, kind, images = LAYOUTS[layout]
    found = find_formats(str(place(tmp_path, files)))[0]
    assert (found.task, found.source["kind"]) == (task, kind)
    splits = opened(found.source, task)
    assert {split: len(source) for split, source in splits.items()} == images
    for source in splits.values():
        example = source.read(tf.constant(0, tf.int64))
        assert "image" in example or example["bytes"].numpy() == JPEG


def test_the_table_has_every_format() -> None:
    kinds = {kind for _, _, kind, _ in LAYOUTS.values()}
    assert {*FORMATS, "keypoint_csv"} == kinds


@pytest.mark.parametrize(
    ("layout", "classes"),
    [
        ("Roboflow masks", ("background", "cat")),
        ("CVAT masks", ("background", "cat")),
        ("mask folders of values", ("class_0", "class_1", "class_2")),
        ("mask folders, black and white", ("background", "foreground")),
        ("YOLO without names", ("0", "1")),
        ("table", ("cat", "dog")),
    ],
)
def test_classes_have_the_names_that_files_give(
    tmp_path: Path, layout: str, classes: tuple[str, ...]
) -> None:
    files, task, _, _ = LAYOUTS[layout]
    found = find_formats(str(in_a_folder(tmp_path, files)))[0]
    assert next(iter(opened(found.source, task).values())).classes == classes


@pytest.mark.parametrize("numbers", [2, 3])
def test_keypoints_in_yolos_lines_are_left_out_with_a_remark(tmp_path: Path, numbers: int) -> None:
    files = {
        "data.yaml": f"train: images\nkpt_shape: [2, {numbers}]\nnames: [cat]\n",
        "images/1.jpg": JPEG,
        "labels/1.txt": f"{LINE.strip()} {' '.join(['0.5', '0.4', '2'][:numbers] * 2)}\n",
    }
    found = find_formats(str(in_a_folder(tmp_path, files)))[0]
    assert found.remarks == (
        "The keypoints in the text files are left out, since only boxes are read",
    )
    boxes = opened(found.source, "detection")["train"].read(tf.constant(0, tf.int64))["boxes"]
    np.testing.assert_allclose(boxes, [[0.3, 0.4, 0.7, 0.6]], atol=1e-6)


def test_polygons_in_yolos_lines_are_read_as_boxes_with_a_remark(tmp_path: Path) -> None:
    files = {
        "data.yaml": "train: images\nnames: [cat]\n",
        "images/1.jpg": JPEG,
        "labels/1.txt": "0 0.1 0.2 0.5 0.2 0.5 0.6\n",
    }
    [remark] = find_formats(str(in_a_folder(tmp_path, files)))[0].remarks
    assert remark == "The polygons in the text files are read as the boxes around them"


def test_a_folder_of_masks_beside_a_test_split_is_no_anomaly_data_without_good_images(
    tmp_path: Path,
) -> None:
    photos = {f"{split}/{kind}/1.jpg": JPEG for split in ("train", "test") for kind in "ab"}
    files = {**photos, "ground_truth/a/1_mask.png": mask(0, 1)}
    tasks = [found.task for found in find_formats(str(in_a_folder(tmp_path, files)))]
    assert tasks and "anomaly" not in tasks


def test_outlines_are_found_if_segmentation_is_requested(tmp_path: Path) -> None:
    path = str(in_a_folder(tmp_path, LAYOUTS["CVAT COCO"][0]))
    assert [found.task for found in find_formats(path)] == ["detection", "segmentation"]
    found = find_formats(path, task="segmentation")[0]
    assert next(iter(opened(found.source, "segmentation").values())).classes == (
        "background",
        "cat",
    )


def test_a_table_of_names_is_used_for_the_numbers_of_another_table(tmp_path: Path) -> None:
    rows = "".join(f"{n}.jpg,{n % 2}\n" for n in range(6))
    names = "Class ID,Class Name\n0,dog\n1,cat\n2,cow\n"
    files = {"train.csv": rows, "names.csv": names, **{f"{n}.jpg": JPEG for n in range(6)}}
    found = find_formats(str(in_a_folder(tmp_path, files)))[0]
    assert found.source["names"] == {"file": "names.csv", "label": "Class ID", "name": "Class Name"}
    assert opened(found.source, "classification")["train"].classes == ("dog", "cat")


def test_annotations_take_precedence_over_folders_that_look_like_classes(tmp_path: Path) -> None:
    files = {"cat/1.jpg": JPEG, "dog/2.jpg": JPEG, "cat/1.xml": XML, "dog/2.xml": XML}
    found = find_formats(str(in_a_folder(tmp_path, files)))
    assert [each.source["kind"] for each in found] == ["voc", "folder"]


def test_two_formats_that_fit_equally_are_named_with_the_way_to_choose(tmp_path: Path) -> None:
    files = {"1.jpg": JPEG, "1.xml": XML, "1.txt": LINE, "classes.txt": "cat\n"}
    path = str(in_a_folder(tmp_path, files))
    with pytest.raises(DataError, match="2 formats fit equally well: voc, .*; yolo, .*--kind voc "):
        find_formats(path)
    assert find_formats(path, kind="yolo")[0].source["kind"] == "yolo"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"1.jpg": JPEG, "2.jpg": JPEG}, r"2 images among 2 files \(2 \.jpg\)"),
        ({"notes.md": ""}, r"0 images among 1 file \(1 \.md\)"),
        ({"1.jpg": JPEG, "c.json": coco("7.jpg")}, "1 image such as 7.jpg, but none of these"),
        ({"1.jpg": JPEG, "c.json": "{"}, r"c\.json is not valid JSON"),
        ({"1.jpg": JPEG, "2.xml": XML}, r"such as 2\.xml, but no image has the same name"),
        ({"1.jpg": JPEG, "1.xml": "<annotation>"}, r"1\.xml:1: not valid XML"),
        ({"1.jpg": JPEG, "data.yaml": "names: [cat]\n"}, "no image has a text file of objects"),
        (
            {"1.jpg": JPEG, "t.csv": "1.jpg,a\n2.jpg,b\n3.jpg,a\n4.jpg,b\n"},
            r"t\.csv names 4 images, but only 1 of 4 checked images exist",
        ),
        (
            {"val/cat/1.jpg": JPEG, "test/cat/1.jpg": JPEG},
            "the folders test and val look like splits, but none is named train",
        ),
        (
            {"1.jpg": JPEG, "a.json": coco("1.jpg"), "b.json": coco("1.jpg")},
            "both COCO's instances of the split train",
        ),
        (
            {"train.tfrecord": tfrecord([{"image/encoded": JPEG, MASKS: b"no image"}])},
            rf"data/train\.tfrecord: masks in '{MASKS}': the mask is damaged",
        ),
        ({"train-images-idx3-ubyte": idx(IMAGES)}, "but not train-labels and t10k-images"),
        (
            {"cat/1.jpg": JPEG, "cat/2.jpg": JPEG},
            r"All images are in the folder cat, but a classifier needs two classes or more\. Add a"
            " folder of images of each other class beside it, or provide annotations",
        ),
        ({"train/cat/1.jpg": JPEG, "val/cat/2.jpg": JPEG}, "All images are in the folder cat, but"),
        ({"images/1.jpg": JPEG}, r"1 file \(1 \.jpg\)\. Put each image into a folder"),
    ],
)
def test_files_that_fit_nothing_are_described(
    tmp_path: Path, files: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        find_formats(str(in_a_folder(tmp_path, files)))


def test_the_current_folder_is_called_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(in_a_folder(tmp_path, LAYOUTS["class folders"][0]))
    assert find_formats(".")[0].why.startswith("data has 2 folders with images, such as cat,")


def test_labels_for_another_task_are_named(tmp_path: Path) -> None:
    path = str(in_a_folder(tmp_path, LAYOUTS["class folders"][0]))
    with pytest.raises(DataError, match="no labels for detection; it is data for classification"):
        find_formats(path, task="detection")


def test_kind_auto_reads_the_detected_format_and_logs_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(in_a_folder(tmp_path, LAYOUTS["labelImg VOC"][0]))
    with caplog.at_level(logging.WARNING):
        splits = open_source(AutoBoxes(kind="auto", path=path), None)  # type: ignore[arg-type]
    assert splits["all"].classes == ("cat",)
    assert "kind: voc, because 2 images have an XML file of Pascal VOC" in caplog.text
    with pytest.raises(DataError, match="no labels for classification"):
        open_source(AutoLabels(kind="auto", path=path), None)  # type: ignore[arg-type]
