"""Guards the formats of labeling tools: each gives the same boxes, and each fault is named."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter

from cvpipe.config.box_sources import BoxSource
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.sources import open_source
from cvpipe.data.sources.label_studio import image_of
from cvpipe.data.sources.source import Source
from cvpipe.errors import DataError
from image_files import encode, noise, zipped

HEIGHT, WIDTH = 50, 80
JPEG = encode(noise(HEIGHT, WIDTH), "JPEG")
# Class and left, top, right, bottom in pixels counted from 0.
Objects = Mapping[str, list[tuple[str, tuple[float, float, float, float]]]]
SET: Objects = {
    "a.jpg": [("cat", (8, 5, 24, 20)), ("dog", (40, 10, 72, 45))],
    "b.jpg": [("dog", (0, 0, 80, 50))],
}


def labelme(objects: Objects) -> dict[str, str]:
    return {
        name.replace(".jpg", ".json"): json.dumps(
            {
                "version": "5.5.0",
                "flags": {},
                "shapes": [
                    {
                        "label": label,
                        # The lower right corner comes first: LabelMe allows any two opposite
                        # corners.
                        "points": [[right, bottom], [left, top]],
                        "group_id": None,
                        "shape_type": "rectangle",
                        "flags": {},
                    }
                    for label, (left, top, right, bottom) in rows
                ],
                "imagePath": f"..\\photos\\{name}",
                "imageData": None,
                "imageHeight": HEIGHT,
                "imageWidth": WIDTH,
            }
        )
        for name, rows in objects.items()
    }


def cvat(objects: Objects) -> dict[str, str]:
    images = "".join(
        f'<image id="{n}" name="photos/{name}" width="{WIDTH}" height="{HEIGHT}">'
        + "".join(
            f'<box label="{label}" source="manual" occluded="0" xtl="{left}" ytl="{top}"'
            f' xbr="{right}" ybr="{bottom}" z_order="0"></box>'
            for label, (left, top, right, bottom) in rows
        )
        + '<tag label="day"></tag></image>'
        for n, (name, rows) in enumerate(objects.items())
    )
    head = '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta></meta>'
    return {"annotations.xml": f"{head}{images}</annotations>"}


def percents(label: str, box: tuple[float, float, float, float]) -> dict[str, Any]:
    left, top, right, bottom = box
    return {
        "x": 100 * left / WIDTH,
        "y": 100 * top / HEIGHT,
        "width": 100 * (right - left) / WIDTH,
        "height": 100 * (bottom - top) / HEIGHT,
        "rotation": 0,
        "rectanglelabels": [label],
    }


SIZE = {"original_width": WIDTH, "original_height": HEIGHT}


def label_studio(objects: Objects) -> dict[str, str]:
    tasks = [
        {
            "id": n + 7,
            "data": {"image": f"/data/upload/3/1a2b3c4d-{name}"},
            "annotations": [
                {"was_cancelled": True, "result": []},
                {
                    "was_cancelled": False,
                    "result": [
                        {"type": "rectanglelabels", "value": percents(*row), **SIZE} for row in rows
                    ],
                },
            ],
        }
        for n, (name, rows) in enumerate(objects.items())
    ]
    return {"project.json": json.dumps(tasks)}


def label_studio_min(objects: Objects) -> dict[str, str]:
    tasks = [
        {
            "image": f"http://localhost:8080/data/local-files/?d=photos/{name}",
            "id": n,
            "label": [{**percents(*row), **SIZE} for row in rows],
            "annotator": 1,
        }
        for n, (name, rows) in enumerate(objects.items())
    ]
    return {"project.json": json.dumps(tasks)}


def via(objects: Objects) -> dict[str, str]:
    entries = {
        f"{name}123": {
            "filename": name,
            "size": 123,
            "regions": [
                {
                    "shape_attributes": {
                        "name": "rect",
                        "x": left,
                        "y": top,
                        "width": right - left,
                        "height": bottom - top,
                    },
                    "region_attributes": {"animal": label},
                }
                for label, (left, top, right, bottom) in rows
            ],
            "file_attributes": {},
        }
        for name, rows in objects.items()
    }
    return {"via.json": json.dumps({"_via_settings": {}, "_via_img_metadata": entries})}


def via_of_version_1(objects: Objects) -> dict[str, str]:
    entries = json.loads(via(objects)["via.json"])["_via_img_metadata"]
    for entry in entries.values():
        entry["regions"] = {str(n): row for n, row in enumerate(entry["regions"])}
    return {"via.json": json.dumps(entries)}


def table(objects: Objects) -> dict[str, str]:
    rows = [
        f"{name},{WIDTH},{HEIGHT},{label},{left},{top},{right},{bottom}"
        for name, each in objects.items()
        for label, (left, top, right, bottom) in each
    ]
    return {"boxes.csv": "\n".join(["filename,width,height,class,xmin,ymin,xmax,ymax", *rows])}


def open_images(objects: Objects) -> dict[str, str]:
    rows = [
        f"{name[:-4]},xclick,/m/{label},1,{left / WIDTH},{right / WIDTH},{top / HEIGHT}"
        f",{bottom / HEIGHT},0,0,0,0,0"
        for name, each in objects.items()
        for label, (left, top, right, bottom) in each
    ]
    head = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,"
    return {
        "train-annotations-bbox.csv": "\n".join([f"{head}IsGroupOf,IsDepiction,IsInside", *rows]),
        "class-descriptions.csv": "/m/cat,cat\n/m/dog,dog\n/m/cow,cow\n",
    }


OPEN_IMAGES = {
    "train": "train-annotations-bbox.csv",
    "names": "class-descriptions.csv",
    "path_column": "ImageID",
    "label_column": "LabelName",
    "box_columns": ["XMin", "YMin", "XMax", "YMax"],
    "crowd_column": "IsGroupOf",
    "fractions": True,
}
# Each tool's files, beside the folder photos, and the keys of data.source that read them.
TOOLS: dict[str, tuple[Callable[[Objects], dict[str, str]], dict[str, Any]]] = {
    "LabelMe": (labelme, {"kind": "labelme"}),
    "CVAT": (cvat, {"kind": "cvat", "train": "annotations.xml"}),
    "Label Studio": (label_studio, {"kind": "label_studio", "train": "project.json"}),
    "Label Studio, JSON-MIN": (label_studio_min, {"kind": "label_studio", "train": "project.json"}),
    "VIA": (via, {"kind": "via", "train": "via.json", "images": "photos"}),
    "VIA 1": (via_of_version_1, {"kind": "via", "train": "via.json"}),
    "table": (table, {"kind": "box_csv", "train": "boxes.csv", "images": "photos"}),
    "Open Images": (open_images, {"kind": "box_csv", **OPEN_IMAGES}),
}


def write(root: Path, files: Mapping[str, str], photos: Mapping[str, bytes] | None = None) -> Path:
    (root / "photos").mkdir(parents=True)
    for name, content in (photos or {"a.jpg": JPEG, "b.jpg": JPEG}).items():
        (root / "photos" / name).write_bytes(content)
    for name, text in files.items():
        # LabelMe's files lie beside the images.
        beside = name.endswith(".json") and name[0] in "ab" and len(name) == 6
        (root / ("photos" if beside else "") / name).write_text(text)
    return root


def opened(path: Path, keys: Mapping[str, Any]) -> dict[str, Source]:
    section = TypeAdapter(BoxSource).validate_json(
        json.dumps({**keys, "path": str(path)}), strict=True
    )
    return open_source(section, None)  # type: ignore[arg-type]


def content(source: Source) -> dict[str, list[tuple[str, list[float]]]]:
    """Return the objects of each image by name: class, and left, top, right, bottom in pixels."""
    found = {}
    for index in range(len(source)):
        example = source.read(tf.constant(index, tf.int64))
        scaled = example["boxes"].numpy()[:, [1, 0, 3, 2]] * [WIDTH, HEIGHT, WIDTH, HEIGHT]
        labels = [source.classes[label] for label in example["labels"].numpy()]
        name = source.name_record(int(source.records[index])).rpartition("/")[2]
        found[name] = list(zip(labels, np.round(scaled, 3).tolist(), strict=True))
    return found


@pytest.mark.parametrize("place", [lambda root: root, zipped], ids=["folder", "zip"])
@pytest.mark.parametrize("tool", TOOLS)
def test_each_tool_gives_the_same_boxes_to_the_pixel(
    tmp_path: Path, tool: str, place: Callable[[Path], Path]
) -> None:
    writer, keys = TOOLS[tool]
    [source] = opened(place(write(tmp_path / "data", writer(SET))), keys).values()
    assert source.classes == ("cat", "dog")
    wanted = {
        name: [(label, list(map(float, box))) for label, box in each] for name, each in SET.items()
    }
    assert content(source) == wanted
    assert not source.annotation(Boxes).faults
    assert source.read(tf.constant(0, tf.int64))["bytes"].numpy() == JPEG


@pytest.mark.parametrize("tool", TOOLS)
def test_invalid_boxes_and_objects_of_missing_images_are_counted(tmp_path: Path, tool: str) -> None:
    writer, keys = TOOLS[tool]
    objects = {
        "a.jpg": [
            ("cat", (8, 5, 24, 20)),
            ("cat", (-10, 5, 20, 20)),
            ("dog", (90, 5, 95, 20)),
            ("dog", (30, 30, 30, 40)),
            ("cat", (8, 5, 24, 20)),
        ],
        "b.jpg": [("dog", (0, 0, 8, 5)), ("cat", (1, 1, 2, 2))],
    }
    path = write(tmp_path / "data", writer(objects), {"a.jpg": JPEG})
    [source] = opened(path, keys).values()
    assert len(source) == 2
    counts: dict[str, int] = {}
    for each in source.annotation(Boxes).faults.values():
        for fault, number in each.items():
            counts[fault] = counts.get(fault, 0) + number
    assert counts == {
        "clipped to the image": 1,
        "outside the image, left out": 1,
        "without area, left out": 1,
        "repeated, left out": 1,
        "of a missing image, left out": 2,
    }
    assert len(content_of(source, 0)) == 2 and len(content_of(source, 1)) == 0
    with pytest.raises((tf.errors.OpError, DataError)):
        source.read_record(tf.constant(1, tf.int64))


def content_of(source: Source, record: int) -> np.ndarray:
    boxes = source.annotation(Boxes)
    return boxes.boxes[boxes.rows(record)]


@pytest.mark.parametrize("tool", TOOLS)
def test_the_error_of_an_unknown_class_names_it_and_the_known_classes(
    tmp_path: Path, tool: str
) -> None:
    writer, keys = TOOLS[tool]
    path = write(tmp_path / "data", writer(SET))
    with pytest.raises(DataError, match=r"data\.source\.classes has no class 'cat'; .*dog"):
        opened(path, {**keys, "classes": ["dog", "kat"]})
    assert opened(path, {**keys, "classes": ["dog", "cat"]}).popitem()[1].classes == ("dog", "cat")


@pytest.mark.parametrize("tool", TOOLS)
def test_the_error_of_missing_images_names_the_first_path(tmp_path: Path, tool: str) -> None:
    writer, keys = TOOLS[tool]
    path = write(tmp_path / "data", writer(SET), {"z.jpg": JPEG})
    with pytest.raises(DataError, match="none of the images of .* exists, such as .*[ab]"):
        opened(path, keys)


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool != "Open Images"])
def test_a_file_that_is_cut_off_is_named(tmp_path: Path, tool: str) -> None:
    writer, keys = TOOLS[tool]
    cut = {name: text[: len(text) - 9] for name, text in writer(SET).items()}
    with pytest.raises(DataError, match=r"not valid JSON|not valid XML|cut short|has no value"):
        opened(write(tmp_path / "data", cut), keys)


@pytest.mark.parametrize("tool", TOOLS)
def test_an_invalid_coordinate_is_named(tmp_path: Path, tool: str) -> None:
    writer, keys = TOOLS[tool]
    marked = writer({"a.jpg": [("cat", (8, 5, 24, float("nan")))], "b.jpg": SET["b.jpg"]})
    with pytest.raises(DataError, match="not a number"):
        opened(write(tmp_path / "data", marked), keys)


def test_polygons_and_circles_give_the_box_around_them(tmp_path: Path) -> None:
    shapes = [
        ("polygon", [[10, 5], [30, 15], [20, 40]], (10, 5, 30, 40)),
        ("circle", [[30, 20], [33, 24]], (25, 15, 35, 25)),
    ]
    files = labelme({"a.jpg": [("cat", (1, 1, 2, 2))] * 2})
    parsed = json.loads(files["a.json"])
    for shape, (kind, points, _) in zip(parsed["shapes"], shapes, strict=True):
        shape.update(shape_type=kind, points=points)
    [source] = opened(
        write(tmp_path / "data", {"a.json": json.dumps(parsed)}), {"kind": "labelme"}
    ).values()
    assert [box for _, box in content(source)["a.jpg"]] == [list(box) for *_, box in shapes]


def test_label_studios_rotation_is_around_the_upper_left_corner_in_pixels(tmp_path: Path) -> None:
    # A box of 16 × 10 pixels at (40, 20), rotated by 90°: it extends to the left and down.
    tasks = json.loads(label_studio({"a.jpg": [("cat", (40, 20, 56, 30))]})["project.json"])
    tasks[0]["annotations"][1]["result"][0]["value"]["rotation"] = 90
    path = write(tmp_path / "data", {"project.json": json.dumps(tasks)})
    [source] = opened(path, {"kind": "label_studio", "train": "project.json"}).values()
    assert content(source)["a.jpg"] == [("cat", [30.0, 20.0, 40.0, 36.0])]


def test_cvats_rotation_is_around_the_middle_and_subsets_make_splits(tmp_path: Path) -> None:
    text = cvat(SET)["annotations.xml"]
    turned = text.replace('xtl="8"', 'rotation="90" xtl="8"', 1)
    split = turned.replace('name="photos/a', 'subset="Train" name="photos/a', 1)
    split = split.replace('name="photos/b', 'subset="Validation" name="photos/b', 1)
    path = write(tmp_path / "data", {"annotations.xml": split})
    splits = opened(path, {"kind": "cvat", "train": "annotations.xml"})
    assert {name: len(each) for name, each in splits.items()} == {"train": 1, "validation": 1}
    assert content(splits["train"])["a.jpg"][0] == ("cat", [8.5, 4.5, 23.5, 20.5])


def test_rotated_ellipses_have_the_box_around_them(tmp_path: Path) -> None:
    # An ellipse of 32 × 10 pixels around (40, 25), rotated by 90°.
    upright = ("cat", [24.0, 20.0, 56.0, 30.0])
    turned = ("cat", [35.0, 9.0, 45.0, 41.0])
    head = f'<annotations><image id="0" name="a.jpg" width="{WIDTH}" height="{HEIGHT}">'
    shape = '<ellipse label="cat" cx="40" cy="25" rx="16" ry="5"'
    text = f'{head}{shape} /> {shape} rotation="90.00" /></image></annotations>'
    path = write(tmp_path / "cvat", {"annotations.xml": text})
    [source] = opened(path, {"kind": "cvat", "train": "annotations.xml"}).values()
    assert content(source)["a.jpg"] == [upright, turned]
    value = {"x": 50, "y": 50, "radiusX": 20, "radiusY": 10, "ellipselabels": ["cat"]}
    regions = [{"value": value}, {"value": {**value, "rotation": 90}}]
    task = {
        "id": 1,
        "data": {"image": "a.jpg"},
        "annotations": [{"result": [{"type": "ellipselabels", **row, **SIZE} for row in regions]}],
    }
    path = write(tmp_path / "studio", {"project.json": json.dumps([task])})
    [source] = opened(path, {"kind": "label_studio", "train": "project.json"}).values()
    assert content(source)["a.jpg"] == [upright, turned]
    shape_of_via = {"name": "ellipse", "cx": 40, "cy": 25, "rx": 16, "ry": 5}
    shapes = [shape_of_via, {**shape_of_via, "theta": math.pi / 2}]
    entry = {
        "filename": "a.jpg",
        "regions": [
            {"shape_attributes": each, "region_attributes": {"animal": "cat"}} for each in shapes
        ],
    }
    path = write(tmp_path / "via", {"via.json": json.dumps({"a.jpg": entry})})
    [source] = opened(path, {"kind": "via", "train": "via.json"}).values()
    assert content(source)["a.jpg"] == [upright, turned]


def test_a_row_that_ends_before_the_images_size_is_an_error(tmp_path: Path) -> None:
    rows = "filename,class,xmin,ymin,xmax,ymax,width,height\na.jpg,cat,10,10,50,40,80,50\n"
    table = {"t.csv": rows + "b.jpg,cat,10,10,50,40\n"}
    path = write(tmp_path / "data", table)
    with pytest.raises(
        DataError, match=r"t\.csv:3: the row is cut short: it lacks the column 'height'"
    ):
        opened(path, {"kind": "box_csv", "train": "t.csv"})


def test_the_attribute_with_the_class_must_be_set_if_regions_have_several(tmp_path: Path) -> None:
    files = via(SET)
    files["via.json"] = files["via.json"].replace(
        '{"animal": "dog"}', '{"animal": {"dog": true}, "age": "9"}'
    )
    path = write(tmp_path / "data", files)
    with pytest.raises(DataError, match=r"2 attributes, age, animal; set data\.source\.attribute"):
        opened(path, {"kind": "via", "train": "via.json"})
    [source] = opened(path, {"kind": "via", "train": "via.json", "attribute": "animal"}).values()
    assert source.classes == ("cat", "dog")


def test_groups_of_open_images_are_crowds(tmp_path: Path) -> None:
    files = open_images(SET)
    name = "train-annotations-bbox.csv"
    files[name] = files[name].replace(",0,0,0,0,0", ",0,0,1,0,0", 1)
    [source] = opened(write(tmp_path / "data", files), TOOLS["Open Images"][1]).values()
    assert source.annotation(Boxes).crowd.tolist() == [True, False, False]


def test_kittis_lines_are_objects_and_dont_care_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "data"
    for folder in ("training/image_2", "training/label_2", "testing/image_2"):
        (root / folder).mkdir(parents=True)
    for name in ("training/image_2/000000", "training/image_2/000001", "testing/image_2/000000"):
        (root / f"{name}.png").write_bytes(encode(noise(HEIGHT, WIDTH), "PNG"))
    line = "{} 0.00 0 -0.20 {} 1.89 0.48 1.20 1.84 1.47 8.41 0.01"
    (root / "training/label_2/000000.txt").write_text(
        line.format("Car", "8.0 5.0 24.0 20.0") + "\n" + line.format("DontCare", "0 0 9 9") + "\n"
    )
    (root / "training/label_2/000001.txt").write_text("")
    [(split, source)] = opened(root, {"kind": "kitti"}).items()
    assert split == "all" and source.classes == ("Car",) and len(source) == 2
    assert content(source) == {"000000.png": [("Car", [8.0, 5.0, 24.0, 20.0])], "000001.png": []}
    assert "1 region of DontCare" in caplog.text and "1 image without a text file" in caplog.text
    (root / "training/label_2/000001.txt").write_text("Car 1 2 3\n")
    with pytest.raises(DataError, match=r"000001\.txt:1: the line has 4 columns"):
        opened(root, {"kind": "kitti"})


def test_an_image_that_two_files_annotate_is_an_error(tmp_path: Path) -> None:
    files = labelme(SET)
    files["b.json"] = files["b.json"].replace("b.jpg", "a.jpg")
    with pytest.raises(DataError, match=r"photos/a\.jpg is annotated here and in photos/a\.json"):
        opened(write(tmp_path / "data", files), {"kind": "labelme"})


@pytest.mark.parametrize("tool", ["CVAT", "Label Studio", "VIA", "table"])
def test_boxes_of_a_missing_image_are_not_given_to_its_namesake_in_another_folder(
    tmp_path: Path, tool: str
) -> None:
    writer, keys = TOOLS[tool]
    files = writer({"photos/a.jpg": SET["a.jpg"], "cam2/b.jpg": SET["b.jpg"]})
    for name, text in files.items():
        # The paths have no prefix of an upload and no other folder.
        files[name] = text.replace("/data/upload/3/1a2b3c4d-", "").replace(
            'name="photos/', 'name="'
        )
    path = write(tmp_path / "data", files)
    [source] = opened(path, {**keys, "images": ""}).values()
    assert [len(content_of(source, record)) for record in range(2)] == [2, 0]
    [faults] = source.annotation(Boxes).faults.values()
    assert faults == {"of a missing image, left out": 1}


def test_labelmes_file_that_was_moved_with_its_image_keeps_it(tmp_path: Path) -> None:
    files = labelme(SET)
    files["a.json"] = files["a.json"].replace("photos", "old")
    [source] = opened(write(tmp_path / "data", files), {"kind": "labelme"}).values()
    assert not source.annotation(Boxes).faults and len(content(source)["a.jpg"]) == 2


@pytest.mark.parametrize("shared", [True, False], ids=["beside other images", "without images"])
def test_labelmes_file_finds_an_image_in_another_folder_only_from_a_folder_of_json_files(
    tmp_path: Path, shared: bool
) -> None:
    path = write(tmp_path / "data", {})
    (path / "json").mkdir()
    if shared:
        (path / "json" / "c.jpg").write_bytes(JPEG)
    for name, text in labelme(SET).items():
        home = "photos" if shared and name == "b.json" else "json"
        (path / home / name).write_text(text.replace("..\\\\photos\\\\", ""))
    [source] = opened(path, {"kind": "labelme"}).values()
    assert [len(content_of(source, record)) for record in range(2)] == [0 if shared else 2, 1]


@pytest.mark.parametrize("name", ["/data/upload/1/a.jpg", "http://host/a.jpg?v=1.2", "?d=a.jpg"])
@pytest.mark.parametrize("nested", [True, False], ids=["JSON", "JSON-MIN"])
def test_label_studios_image_is_the_text_with_the_extension_of_an_image(
    name: str, nested: bool
) -> None:
    task = {"note": "Taken at 3 p.m.", "source": "http://host/page.html?d=a.html", "photo": name}
    assert image_of({"data": task} if nested else task) == name
    # An address without an extension may be an image too.
    assert image_of({"data": {"note": "rain", "photo": "s3://bucket/v1.0/17"}}) is not None
