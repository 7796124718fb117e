"""Guards converted data sets: read again in the detected format, they have the same images, boxes,
labels, keypoints and masks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT, soaked
from cvpipe.commands.data_convert import TARGETS as OFFERED
from cvpipe.data import writers
from cvpipe.data.annotated import Annotated, Annotations, Objects, to_pixels
from cvpipe.data.facts import Facts
from cvpipe.data.formats import find_formats
from cvpipe.data.sources import open_source
from cvpipe.data.writers import TARGETS, write_dataset
from cvpipe.data.writers.reading import Unreadable, annotated_images
from cvpipe.data.writers.stored import as_stored
from cvpipe.data.writers.target import Target
from cvpipe.errors import ConfigError, DataError
from cvpipe.geometry.masks import IGNORED
from cvpipe.init import data_of
from image_files import encode, noise

Cvpipe = Callable[..., tuple[int, str, str]]
SIZE = (37, 53)
SPLITS = ("train", "train", "validation", "test")
CLASSES = ("zebra", "ant", "yak")
# Largest error of a box's side in pixels, due to the precision of the format.
TOLERANCE = {"coco": 0.0, "csv": 0.0, "labelme": 0.0, "yolo": 1e-5, "voc": 0.501}
POINTS = Facts(("person",), ("nose", "left eye", "right eye"), ((1, 2),), ((0, 1),))


def image(
    n: int, annotations: Annotations, orientation: int = 1, size: tuple[int, int] = SIZE
) -> Annotated:
    stored = size if orientation < 5 else size[::-1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(noise(*stored, seed=n), "JPEG", exif=exif.tobytes())
    return Annotated(SPLITS[n % 4], f"photos/{n}.jpg", content, size, orientation, annotations)


def boxes(n: int, count: int = 5, size: tuple[int, int] = SIZE) -> Objects:
    """Return objects of all classes: sides in hundredths of a pixel, at least two pixels long."""
    random = np.random.default_rng(n)
    low = random.uniform(0, 0.5, (count, 2)) * size
    corners = np.round(
        np.concatenate([low, low + 2 + random.uniform(0, 0.4, (count, 2)) * size], 1), 2
    )
    fractions = (corners / [*size, *size]).astype(np.float32)
    crowd = np.zeros(count, bool)
    return Objects(
        fractions, np.arange(count, dtype=np.int32) % 3, crowd, np.full(count, -1, np.float32)
    )


def read_again(folder: Path, task: str | None = None) -> tuple[Facts, dict[str, Annotated]]:
    """Read a folder in its detected format; return facts, and images by the stem of their names."""
    data = data_of(find_formats(str(folder), task)[0])
    splits = open_source(data.source, data)
    unreadable: list[Unreadable] = []
    found = {Path(each.name).stem: each for each in annotated_images(splits, unreadable)}
    assert not unreadable
    return next(iter(splits.values())).facts, found


def names_of(facts: Facts, objects: Objects) -> list[str]:
    return [facts.class_names[label] for label in objects.labels]


@pytest.mark.parametrize("target", ["coco", "yolo", *soaked("voc", "csv", "labelme")])
def test_boxes_and_splits_are_the_same_when_read_again(target: str, tmp_path: Path) -> None:
    images = [image(n, Annotations(objects=boxes(n))) for n in range(5)]
    images += [image(5, Annotations(objects=boxes(5)), orientation=6)]
    facts = Facts(CLASSES)
    written = write_dataset(target, tmp_path / "out", facts, images, "--to")
    assert written.images == {"train": 4, "validation": 1, "test": 1}
    known, found = read_again(tmp_path / "out")
    assert len(found) == len(images)
    ordered = target in ("coco", "yolo")
    assert known.class_names == (CLASSES if ordered else tuple(sorted(CLASSES)))
    assert ordered != any("in alphabetical order, ant, yak, zebra" in t for t in written.told)
    for each in images:
        other = found[Path(each.name).stem]
        assert (other.split, other.size, other.content) == (each.split, each.size, each.content)
        one, two = each.annotations.objects, other.annotations.objects
        assert one and two and names_of(facts, one) == names_of(known, two)
        scale = np.array([*each.size, *each.size])
        assert (np.abs(one.boxes - two.boxes) * scale).max() <= TOLERANCE[target]


@pytest.mark.parametrize(
    "case", [("coco", 3), *soaked(("voc", 8), ("coco", 8), ("voc", 2), ("yolo", 8), ("csv", 3))]
)
def test_boxes_stay_in_place_if_the_size_of_a_photo_does_not_show_its_rotation(
    case: tuple[str, int], tmp_path: Path
) -> None:
    target, orientation = case
    size = (40, 40)
    square = image(0, Annotations(objects=boxes(0, size=size)), orientation, size)
    written = write_dataset(target, tmp_path / "out", Facts(CLASSES), [square], "--to")
    listed = any("photos whose size doesn't show their Exif rotation" in t for t in written.told)
    assert listed == (target in ("coco", "voc"))
    two = read_again(tmp_path / "out")[1]["0"].annotations.objects
    one = square.annotations.objects
    assert one and two
    assert np.abs(one.boxes - two.boxes).max() * 40 <= TOLERANCE[target] + 1e-4


def test_crowds_are_written_or_left_out_with_a_remark(tmp_path: Path) -> None:
    crowded = boxes(0)._replace(crowd=np.array([True, False, True, False, False]))
    images = [image(n, Annotations(objects=crowded)) for n in range(2)]
    for target in TOLERANCE:
        written = write_dataset(target, tmp_path / target, Facts(CLASSES), images, "--to")
        assert sum("crowds or difficult" in t and t.endswith(": 4") for t in written.told) == 1
        objects = read_again(tmp_path / target)[1]["1"].annotations.objects
        assert objects
        held = target in ("coco", "voc")
        assert objects.crowd.sum() == (2 if held else 0) and len(objects.labels) == (
            5 if held else 3
        )


def test_voc_reports_how_far_boxes_move_and_keeps_boxes_of_one_pixel(tmp_path: Path) -> None:
    small = np.array([[3.2, 4.0, 3.9, 9.0], [36.5, 52.5, 37, 53]]) / [*SIZE, *SIZE]
    objects = boxes(0, 2)._replace(boxes=small.astype(np.float32))
    images = [image(n, Annotations(objects=objects)) for n in range(2)]
    written = write_dataset("voc", tmp_path / "out", Facts(CLASSES), images, "--to")
    assert "boxes whose sides moved to whole pixels, by at most 1.50 pixels: 4" in written.told
    found = read_again(tmp_path / "out")[1]["0"].annotations.objects
    assert found
    pixels = found.boxes * [*SIZE, *SIZE]
    np.testing.assert_allclose(pixels, [[3, 4, 5, 9], [35, 51, 37, 53]], atol=1e-4)


@pytest.mark.parametrize("target", ["yolo", *soaked("csv")])
def test_labels_are_the_same_when_read_again(target: str, tmp_path: Path) -> None:
    images = [image(n, Annotations(label=n // 4)) for n in range(12)]
    facts = Facts(CLASSES)
    written = write_dataset(target, tmp_path / "out", facts, images, "--to")
    known, found = read_again(tmp_path / "out")
    for each in images:
        other = found[Path(each.name).stem]
        assert other.split == each.split and other.content == each.content
        one, two = each.annotations.label, other.annotations.label
        assert one is not None and two is not None
        assert CLASSES[one] == known.class_names[two]
    assert any("alphabetical order" in text for text in written.told)


def labeled(names: tuple[str, ...], count: int = 3) -> list[Annotated]:
    """Return training images of each class."""
    return [
        image(4 * n, Annotations(label=n % len(names)))._replace(name=f"{n}.jpg")
        for n in range(count * len(names))
    ]


@pytest.mark.parametrize(
    "target, names, told",
    [
        ("csv", ("10", "9"), "numerical order, 9, 10"),
        ("csv", ("9", "10"), ""),
        ("csv", ("b", "10"), "alphabetical order, 10, b"),
        ("csv", (" cat", "cat"), "merges these classes: ' cat', 'cat'"),
        ("yolo", ("9", "10"), "alphabetical order, 10, 9"),
        ("yolo", ("control", "test"), ""),
        ("yolo", ("test", "train"), "called test, train aren't taken for classes"),
        ("yolo", ("images", "labels"), "called images, labels aren't taken for classes"),
    ],
)
def test_remarks_on_classes_say_how_they_are_read_again(
    target: str, names: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    written = write_dataset(target, tmp_path / "out", Facts(names), labeled(names), "--to")
    sentences = [text for text in written.told if "Ultralytics needs" not in text]
    assert len(sentences) == bool(told) and all(told in text for text in sentences)
    if "called" not in told:
        known, _ = read_again(tmp_path / "out")
        expected = names
        if "order" in told:
            expected = tuple(told.partition("order, ")[2].split(", "))
        assert known.class_names == (expected if "merges" not in told else ("cat",))


def test_a_crop_has_at_least_one_pixel(tmp_path: Path) -> None:
    thin = Objects(
        np.array([[0.5, 0.2, 0.5 + 1e-6, 0.6], [0.2, 1 - 1e-6, 0.6, 1]], np.float32),
        np.array([0, 1], np.int32),
        np.zeros(2, bool),
        np.full(2, -1, np.float32),
    )
    images = [image(0, Annotations(objects=thin))]
    write_dataset("crops", tmp_path / "out", Facts(CLASSES), images, "--to")
    sizes = []
    for file in sorted((tmp_path / "out").rglob("*.png")):
        with Image.open(file) as picture:
            sizes.append(picture.size)
    assert sorted(sizes) == [(1, 16), (22, 1)]


def with_objects(n: int) -> Annotations:
    """Return five objects, of which some are crowds, five other objects, or none."""
    crowded = boxes(0)._replace(crowd=np.array([True, False, True, False, False]))
    return Annotations(objects=(crowded, boxes(n), boxes(n, 0))[n % 3])


def with_label(n: int) -> Annotations:
    return Annotations(label=n % 3)


@pytest.mark.parametrize("annotate", [with_objects, *soaked(with_label)])
def test_parquet_contains_images_in_order_with_all_annotations(
    annotate: Callable[[int], Annotations], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cvpipe.data.writers.parquet._GROUP", 2)
    images = [image(n, annotate(n)) for n in range(9)]
    write_dataset("parquet", tmp_path / "out", Facts(CLASSES), images, "--to")
    data = data_of(find_formats(str(tmp_path / "out"))[0])
    splits = open_source(data.source, data)
    assert next(iter(splits.values())).facts == Facts(CLASSES)
    found = list(annotated_images(splits, []))
    ordered = [
        annotations for split in splits for annotations in images if annotations.split == split
    ]
    assert len(found) == 9
    for one, two in zip(ordered, found, strict=True):
        assert (one.split, one.content, one.size) == (two.split, two.content, two.size)
        assert one.annotations.label == two.annotations.label
        if one.annotations.objects and two.annotations.objects:
            for name in ("boxes", "labels", "crowd"):
                expected = getattr(one.annotations.objects, name)
                np.testing.assert_array_equal(getattr(two.annotations.objects, name), expected)


@pytest.mark.parametrize(
    "case", [("coco", False), *soaked(("masks", True), ("coco", True), ("masks", False))]
)
def test_masks_are_the_same_to_the_pixel(case: tuple[str, bool], tmp_path: Path) -> None:
    target, background = case
    names = ("background", "cat", "dog") if background else ("cat", "dog", "cow")
    images = []
    for n in range(2):
        mask = np.random.default_rng(n).integers(0, 3, SIZE, np.uint8)
        mask[5:9, 7:30] = IGNORED
        images.append(image(n, Annotations(mask=mask), orientation=6 if n == 1 else 1))
    written = write_dataset(target, tmp_path / "out", Facts(names), images, "--to")
    assert sum("pixels to ignore" in t and t.endswith(": 2") for t in written.told) == 1
    known, found = read_again(tmp_path / "out", "segmentation")
    shift = int(target == "coco" and not background)
    assert known.class_names == (("background",) if shift else ()) + names
    assert any("first class, 'background'" in text for text in written.told) == bool(shift)
    for each in images:
        one, two = each.annotations.mask, found[Path(each.name).stem].annotations.mask
        assert one is not None and two is not None
        np.testing.assert_array_equal(np.where(one == IGNORED, IGNORED, one + shift), two)


@pytest.mark.parametrize("link", [False, True])
def test_photos_with_names_of_masks_are_read_again_and_stay_unchanged(
    link: bool, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    images = []
    for n, stem in enumerate(["a_mask", "a", "b_MASK", "c"]):
        file = photos / f"{stem}.png"
        file.write_bytes(encode(noise(*SIZE, seed=n), "PNG"))
        mask = np.full(SIZE, n % 3, np.uint8)
        mask[: n + 1] = 2
        annotations = Annotations(mask=mask)
        content = file.read_bytes()
        images.append(Annotated("train", str(file), content, SIZE, 1, annotations, file))
    written = write_dataset("masks", tmp_path / "out", Facts(CLASSES), images, "--to", link)
    assert written.told == ["images whose names are taken or unfit for a file, renamed: 2"]
    assert all(Path(each.name).read_bytes() == each.content for each in images)
    found = read_again(tmp_path / "out", "segmentation")[1]
    assert len(found) == len(images)
    by_content = {each.content: each.annotations.mask for each in found.values()}
    for each in images:
        two = by_content[each.content]
        assert two is not None
        np.testing.assert_array_equal(each.annotations.mask, two)


def test_no_file_is_written_over_another_or_through_a_link(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(encode(noise(*SIZE), "PNG"))
    before = photo.read_bytes()
    target = Target(tmp_path / "out", Facts(CLASSES), link=True)
    each = Annotated("train", "1.png", before, SIZE, 1, Annotations(label=0), photo)
    path = target.save_image(each, "train")
    with pytest.raises(FileExistsError):
        target.write(path, "mask")
    assert photo.read_bytes() == before


def figures(n: int) -> Objects:
    random = np.random.default_rng(n)
    places = np.round(random.uniform(0.3, 0.6, (2, 3, 2)) * SIZE) + 0.5
    visibility = np.array([[2, 1, 0], [2, 2, 1]], np.int32)
    points = (places / SIZE).astype(np.float32) * (visibility > 0)[..., np.newaxis]
    objects = boxes(n, 2)
    return objects._replace(labels=objects.labels * 0, keypoints=points, visibility=visibility)


def test_keypoints_are_written_to_coco_and_yolo(tmp_path: Path) -> None:
    images = [image(0, Annotations(objects=figures(0)))]
    images.append(image(1, Annotations(objects=figures(1)), orientation=3))
    told = write_dataset("coco", tmp_path / "coco", POINTS, images, "--to").told
    assert not any("flip_pairs" in text for text in told)
    known, found = read_again(tmp_path / "coco")
    assert known == POINTS
    for each in images:
        one, two = each.annotations.objects, found[Path(each.name).stem].annotations.objects
        assert one and two and one.keypoints is not None and two.keypoints is not None
        np.testing.assert_array_equal(one.visibility, two.visibility)
        np.testing.assert_allclose(one.keypoints, two.keypoints, atol=1e-6)
    odd = Facts(("person",), ("a", "b", "c"), ((0, 2),))
    *_, remark = write_dataset("coco", tmp_path / "odd", odd, images, "--to").told
    assert remark.endswith("set data.source.flip_pairs: [[a, c]] when you read it again")
    write_dataset("yolo", tmp_path / "yolo", POINTS, images, "--to")
    line = (tmp_path / "yolo/labels/train/0.txt").read_text().splitlines()[0].split()
    assert len(line) == 5 + 3 * 3 and line[-3:] == ["0", "0", "0"] and line[7] == "2"
    data = (tmp_path / "yolo/data.yaml").read_text()
    assert "kpt_shape:\n- 3\n- 3\n" in data and "flip_idx:\n- 0\n- 2\n- 1\n" in data


def test_unsupported_annotations_are_counted_and_refused_if_none_is_supported(
    tmp_path: Path,
) -> None:
    images = [image(n, Annotations(objects=figures(n))) for n in range(4)]
    written = write_dataset("csv", tmp_path / "csv", POINTS, images, "--to")
    assert (
        "images whose keypoints are left out, which the format can't represent: 4" in written.told
    )
    masked = [image(0, Annotations(mask=np.zeros(SIZE, np.uint8)))]
    with pytest.raises(ConfigError, match="--to yolo: can't hold masks; choose coco or masks"):
        write_dataset("yolo", tmp_path / "yolo", Facts(CLASSES), masked, "--to")
    with pytest.raises(DataError, match="no image that can be read"):
        write_dataset("yolo", tmp_path / "yolo", Facts(CLASSES), [], "--to")
    labeled = [image(0, Annotations(label=0))]
    with pytest.raises(DataError, match="the class 'a/b' can't be the name of a folder"):
        write_dataset("yolo", tmp_path / "yolo", Facts(("a/b", "c")), labeled, "--to")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["csv"]


def test_images_of_the_same_name_get_different_names(tmp_path: Path) -> None:
    names = [
        "a/1.jpg",
        "b/1.jpg",
        "b/1.PNG",
        "c.zip:d/1.jpg",
        "A.jpg",
        "a.jpg",
        "record 5",
        ".x.jpg",
    ]
    original = image(0, Annotations(objects=boxes(0)))
    images = [original._replace(name=name) for name in names]
    written = write_dataset("yolo", tmp_path / "out", Facts(CLASSES), images, "--to")
    there = {path.name for path in (tmp_path / "out/images/train").iterdir()}
    assert there == {
        "1.jpg",
        "b-1.jpg",
        "1-2.PNG",
        "d-1.jpg",
        "A.jpg",
        "a-2.jpg",
        "record 5.jpg",
        "x.jpg",
    }
    assert len(list((tmp_path / "out/labels/train").iterdir())) == len(names)
    assert "images whose names are taken or unfit for a file, renamed: 5" in written.told


@pytest.mark.parametrize("target", ["coco", "yolo", "voc", "csv", "labelme", "parquet"])
def test_names_in_another_encoding_than_utf8_are_replaced(target: str, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    named = image(0, Annotations(objects=boxes(0)))._replace(name=name)
    written = write_dataset(target, tmp_path / "out", Facts(CLASSES), [named], "--to")
    there = [str(path.relative_to(tmp_path)) for path in (tmp_path / "out").rglob("*")]
    assert there and all(path.isascii() for path in there)
    assert "images whose names are taken or unfit for a file, renamed: 1" in written.told


@pytest.mark.parametrize("orientation", range(1, 9))
def test_conversion_to_the_stored_photo_undoes_its_upright_rotation(orientation: int) -> None:
    """A marked pixel of the upright photo is turned to its place in the stored file."""
    upright = np.zeros((32, 32), np.uint8)
    upright[4:9, 20:30] = 1
    stored = np.array(_as_camera_stores(Image.fromarray(upright), orientation))
    box = np.array([[4, 20, 9, 30]], np.float32) / 32
    objects = boxes(0, 1)._replace(boxes=box)
    annotations = Annotations(objects=objects, mask=upright)
    turned = as_stored(image(0, annotations, orientation, (32, 32)), Facts(CLASSES)).annotations
    assert turned.objects and turned.mask is not None
    np.testing.assert_array_equal(turned.mask, stored)
    rows, columns = np.nonzero(stored)
    expected = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    np.testing.assert_allclose(turned.objects.boxes[0] * 32, expected, atol=1e-4)


def _as_camera_stores(picture: Image.Image, orientation: int) -> Image.Image:
    """Undo Exif's orientation as PIL's `exif_transpose` does it."""
    transpose = Image.Transpose
    undo = {
        2: transpose.FLIP_LEFT_RIGHT,
        3: transpose.ROTATE_180,
        4: transpose.FLIP_TOP_BOTTOM,
        5: transpose.TRANSPOSE,
        6: transpose.ROTATE_90,
        7: transpose.TRANSVERSE,
        8: transpose.ROTATE_270,
    }
    return picture.transpose(undo[orientation]) if orientation in undo else picture


def test_pixels_have_the_fewest_decimals_that_give_the_same_fractions() -> None:
    random = np.random.default_rng(0)
    for side, decimals in ((37, 2), (640, 1), (9999, 0), (12000, 3)):
        pixels = np.round(random.uniform(0, side, 500), decimals)
        fractions = (pixels / side).astype(np.float32)
        found = to_pixels(fractions, np.array(side))
        np.testing.assert_array_equal((found / side).astype(np.float32), fractions)
        assert (np.abs(found - pixels) <= side * 2.0**-24).all()
        if decimals < 3:
            np.testing.assert_array_equal(found, pixels)


def test_the_command_offers_every_format() -> None:
    assert OFFERED == TARGETS
    modules = {path.stem for path in Path(writers.__file__).parent.glob("*.py")}
    assert set(TARGETS) <= modules


def write_photos(root: Path) -> Path:
    """Write LabelMe files: three images with a cat, one of them damaged."""
    root.mkdir()
    shape = {"label": "cat", "points": [[1, 2], [20, 30.5]], "shape_type": "rectangle"}
    for n in range(3):
        content: Mapping[str, Any] = {
            "shapes": [shape],
            "imagePath": f"{n}.jpg",
            "imageHeight": 37,
            "imageWidth": 53,
        }
        (root / f"{n}.json").write_text(json.dumps(content))
        (root / f"{n}.jpg").write_bytes(encode(noise(*SIZE, seed=n), "JPEG") if n != 1 else b"no")
    return root


def test_the_command_writes_a_folder_lists_left_out_images_and_overwrites_nothing(
    cvpipe: Cvpipe, tmp_path: Path
) -> None:
    photos, out = write_photos(tmp_path / "photos"), tmp_path / "out"
    code, printed, err = cvpipe("data", "convert", photos, "--to", "coco", "--out", out, "--json")
    assert code == 1, err
    result = json.loads(printed)
    assert result["images"] == {"train": 2} and result["format"] == "coco"
    [left] = result["left_out"]
    assert left["name"] == str(photos / "1.jpg") and "not a JPEG, PNG" in left["reason"]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    code, _, err = cvpipe("data", "convert", photos, "--to", "yolo", "--out", out)
    assert code == 2 and "exists already; remove it, or choose another folder with --out" in err
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    pipeline = tmp_path / "cat.yaml"
    base = ROOT / "pipelines/detection/digit_scenes_ssd.yaml"
    pipeline.write_text(f"base: {base}\ndata: {{source: {{kind: labelme, path: {photos}}}}}\n")
    linked = tmp_path / "linked"
    code, printed, err = cvpipe(
        "data", "convert", pipeline, "--to", "yolo", "--out", linked, "--link", "--hold-out"
    )
    assert code == 1 and "left out:" in printed, err
    links = list((linked / "images").rglob("*.jpg"))
    assert links and all(path.is_symlink() for path in links)
    assert all(path.resolve().parent == photos.resolve() for path in links)
    assert (
        cvpipe("data", "convert", pipeline, "--to", "voc", "--out", out, "--task", "pose")[0] == 2
    )
