"""Guards folders of images and masks: pairs, splits, leftovers, quarantine."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import yaml

from conftest import FindData
from cvpipe.config.data import Data, Fold
from cvpipe.config.digits import DigitSceneMasks
from cvpipe.config.mask_sources import Masks
from cvpipe.config.source import Merge
from cvpipe.data.annotations.mask import Mask
from cvpipe.data.guard import or_zeros
from cvpipe.data.quarantine import Quarantine, why_unreadable
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.sources.digit_scenes import compose, digit_scenes
from cvpipe.data.sources.masks import masks
from cvpipe.errors import DataError
from cvpipe.geometry.masks import IGNORED
from image_files import encode, noise

NAMES = ("sky", "tree", "road")
# Orientation 6: the camera was turned by 90°.
TURNED = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"


def labels(number: int, height: int = 9, width: int = 7) -> np.ndarray:
    return np.random.default_rng(number).integers(0, len(NAMES), (height, width, 1), dtype=np.uint8)


def write(root: Path, count: int = 20, split: str = "train") -> Path:
    """Images 0.jpg, 1.jpg, … and masks 0.png, 1.png, …"""
    for kind in ("images", "masks"):
        (root / split / kind).mkdir(parents=True)
    for number in range(count):
        (root / split / "images" / f"{number}.jpg").write_bytes(
            encode(noise(9, 7, seed=number), "JPEG")
        )
        (root / split / "masks" / f"{number}.png").write_bytes(encode(labels(number), "PNG"))
    return root


def section(root: Path, names: tuple[str, ...] = NAMES, **settings: Any) -> Masks:
    given = {
        "train": [{"images": "train/images", "masks": "train/masks"}],
        "classes": [{"name": name} for name in names],
    }
    return Masks.model_validate({"kind": "masks", "path": str(root), **given, **settings})


def read(source: Source) -> list[dict[str, np.ndarray]]:
    return list(
        tf.data.Dataset.range(len(source))
        .map(source.read, num_parallel_calls=4, deterministic=True)
        .as_numpy_iterator()
    )


def zipped(root: Path) -> Path:
    archive = root.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as files:
        for file in root.rglob("*.*"):
            files.write(file, file.relative_to(root))
    return archive


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_images_have_the_masks_of_the_same_name(tmp_path: Path, packed: bool) -> None:
    root = write(tmp_path / "data")
    source = masks(section(zipped(root) if packed else root))["train"]
    assert (source.classes, [type(one) for one in source.annotations]) == (NAMES, [Mask]) and len(
        source
    ) == 20
    for name, example in zip(source.names(), read(source)):
        assert example.keys() == {"bytes", "mask"}
        assert example["bytes"] == (root / name).read_bytes()
        np.testing.assert_array_equal(example["mask"], labels(int(Path(name).stem)))
    spec = tf.data.Dataset.range(1).map(source.read).element_spec["mask"]
    assert spec == tf.TensorSpec([None, None, 1], tf.uint8)


def test_splits_folds_and_limits_treat_all_images_as_one_class(tmp_path: Path) -> None:
    data = section(write(tmp_path))
    splits = open_splits(Data(source=data, limit=10))
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 10,
        "validation": 2,
        "test": 4,
    }
    folded = open_splits(Data(source=data, fold=Fold(of=4)))
    assert {name: len(split) for name, split in folded.items()} == {
        "train": 12,
        "validation": 4,
        "test": 4,
    }
    assert not splits["train"].counts().any()


def test_a_split_may_have_several_pairs_of_folders(tmp_path: Path) -> None:
    for split, count in (("a", 3), ("b", 4), ("c", 5)):
        write(tmp_path, count, split)
    folders = {split: {"images": f"{split}/images", "masks": f"{split}/masks"} for split in "abc"}
    splits = open_splits(
        Data(
            source=section(tmp_path, train=[folders["a"], folders["b"]], test=[folders["c"]]),
            validation=0,
        )
    )
    assert {name: len(split) for name, split in splits.items()} == {"train": 7, "test": 5}
    assert [name.split("/")[0] for name in splits["train"].names()] == list("aaabbbb")


def test_images_of_the_test_split_that_are_trained_on_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 3)
    with caplog.at_level(logging.WARNING):
        masks(section(tmp_path, test=[{"images": "train/images", "masks": "train/masks"}]))
    assert "the training split has 3 images of the test split too" in caplog.text


def test_pixels_of_classes_that_are_not_chosen_are_ignored(tmp_path: Path) -> None:
    source = open_splits(Data(source=section(write(tmp_path)), only=("road", "sky")))["train"]
    assert source.classes == ("road", "sky")
    for name, example in zip(source.names(), read(source)):
        np.testing.assert_array_equal(
            example["mask"], np.array([1, IGNORED, 0])[labels(int(Path(name).stem))]
        )


def test_an_example_is_described_by_the_classes_in_its_mask(tmp_path: Path) -> None:
    write(tmp_path, 2)
    (tmp_path / "train/masks/0.png").write_bytes(
        encode(np.array([[0, 0, 2, 255]], np.uint8)[..., None], "PNG")
    )
    (tmp_path / "train/masks/1.png").write_bytes(encode(np.full([2, 2, 1], 255, np.uint8), "PNG"))
    source = masks(section(tmp_path))["train"]
    assert (source.describe(0), source.describe(1)) == ("sky 50.0%, road 25.0%", "nothing")


def test_images_and_masks_without_a_partner_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 6)
    for number in range(4):
        (tmp_path / "train/masks" / f"{number}.png").unlink()
    (tmp_path / "train/images/5.jpg").unlink()
    (tmp_path / "train/images/._4.jpg").write_bytes(b"left by a Mac")
    with caplog.at_level(logging.WARNING):
        [(_, source)] = masks(section(tmp_path)).items()
    assert source.names() == ["train/images/4.jpg"]
    assert caplog.messages == [
        (
            f"{tmp_path}: left out 1 file or folder, hidden or made by the operating system, such"
            " as train/images/._4.jpg"
        ),
        (
            f"{tmp_path}: left out 4 images without a mask, such as train/images/0.jpg,"
            " train/images/1.jpg, train/images/2.jpg"
        ),
        f"{tmp_path}: left out 1 mask without an image, such as train/masks/5.png",
    ]


def test_images_that_differ_only_in_the_extension_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 3)
    (tmp_path / "train/images/1.png").write_bytes(encode(noise(9, 7), "PNG"))
    with caplog.at_level(logging.WARNING):
        [(_, source)] = masks(section(tmp_path)).items()
    assert source.names() == [f"train/images/{number}.jpg" for number in range(3)]
    assert caplog.messages == [
        "train/images: left out 1 image whose name differs from another image's in the extension"
        " alone, such as train/images/1.png beside train/images/1.jpg; keep one of each name"
    ]


def test_folders_without_any_pair_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, 3)
    with pytest.raises(
        DataError,
        match=(
            r"train/images: no image has a mask of the same name in .*none \(found 3 images and 0"
            r" masks\); set"
        ),
    ):
        masks(section(tmp_path, train=[{"images": "train/images", "masks": "none"}]))


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    write(tmp_path, 3)
    for file in (tmp_path / "train/masks").iterdir():
        file.write_bytes(encode(np.zeros([9, 7, 1], np.uint8), "PNG"))
    with pytest.raises(DataError, match="only the class 'sky'; at least two classes are needed"):
        open_splits(Data(source=section(tmp_path, ("sky",))))


def test_values_without_meaning_are_refused_when_the_source_is_opened(tmp_path: Path) -> None:
    write(tmp_path, 8)
    changed = labels(0).copy()
    changed[0] = 7
    (tmp_path / "train/masks/3.png").write_bytes(encode(changed, "PNG"))
    (tmp_path / "train/masks/4.png").write_bytes(b"damaged")
    with pytest.raises(
        DataError,
        match=(
            r"1 of 8 masks inspected, such as .*masks/3.png, has a value that no class has: 7,"
            r" 1.59% of"
        ),
    ):
        masks(section(tmp_path))
    masks(section(tmp_path, ignore_indices=(255, 7)))


def drawn(root: Path, *values: list[int]) -> Path:
    """Write images whose masks have one row of pixels, with these values."""
    write(root, len(values))
    for number, row in enumerate(values):
        (root / f"train/masks/{number}.png").write_bytes(
            encode(np.array([row], np.uint8)[..., None], "PNG")
        )
    return root


def test_masks_of_0_and_255_are_refused_and_the_advice_reads_them(tmp_path: Path) -> None:
    root = drawn(tmp_path, [0, 0, 0, 255], [0, 255, 0, 0])
    with pytest.raises(
        DataError,
        match=(
            "2 masks inspected, .*masks/0.png: the only class is 'ground', and 25.00% of the pixels"
            " are ignored, by data.source.ignore_indices: 255. If this is the value of a class,"
            " read gray"
        ),
    ) as error:
        masks(section(root, ("ground", "object")))
    advised = str(error.value).partition("data.source.classes: ")[2].partition(", or save")[0]
    assert advised == "[{name: ground, color: '#000000'}, {name: object, color: '#FFFFFF'}]"
    source = masks(section(root, classes=yaml.safe_load(advised)))["train"]
    assert [example["mask"].ravel().tolist() for example in read(source)] == [
        [0, 0, 0, 1],
        [0, 1, 0, 0],
    ]


def test_the_advice_for_255_as_the_first_class_reads_masks(tmp_path: Path) -> None:
    root = drawn(tmp_path, [1, 1, 255])
    with pytest.raises(DataError, match="the only class is 'object'") as error:
        masks(section(root, ("ground", "object")))
    advised = str(error.value).partition("data.source.classes: ")[2].partition(", or save")[0]
    [example] = read(masks(section(root, classes=yaml.safe_load(advised)))["train"])
    assert example["mask"].ravel().tolist() == [1, 1, 0]


def test_an_ignored_color_of_a_class_is_named_if_one_class_is_left(tmp_path: Path) -> None:
    classes = [{"name": "ground", "color": "#000000"}, {"name": "object", "color": "#00FF00"}]
    advice = (
        "If this is the color of a class, remove it there and write it as that class's `color`"
        " in data.source.classes; if not, add"
    )
    with pytest.raises(
        DataError,
        match=f"the only class is 'ground', and 33.33% .*ignore_colors: #FFFFFF. {advice}",
    ):
        masks(section(drawn(tmp_path, [0, 255, 0]), classes=classes, ignore_colors=("#FFFFFF",)))


def test_a_second_class_is_looked_for_in_all_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cvpipe.data.sources.mask_inspection.FIRST_MASKS", 2)
    masks(section(drawn(tmp_path, [0, 255], [0, 255], [0, 1], [0, 255])))


def test_classes_that_no_mask_shows_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        masks(section(drawn(tmp_path / "few", *[[0, 1]] * 19)))
        assert not caplog.messages
        masks(section(drawn(tmp_path / "many", *[[0, 1]] * 20)))
        masks(section(drawn(tmp_path / "one class", [0, 0])))
    output = [
        message.partition("no pixel of ")[2].partition(" in ")[0] for message in caplog.messages
    ]
    assert output == ["road", "tree, road"]
    assert caplog.messages[0].startswith(
        "no pixel of road in 20 masks inspected, such as"
        f" {tmp_path / 'many/train/masks/0.png'}; add images"
    )


def test_masks_of_another_kind_are_refused_when_the_source_is_opened(tmp_path: Path) -> None:
    write(tmp_path, 3)
    (tmp_path / "train/masks/1.png").write_bytes(encode(noise(9, 7), "PNG"))
    with pytest.raises(DataError, match=r"masks/1.png: the mask has colors \(RGB\)"):
        masks(section(tmp_path))


def bad(tmp_path: Path, image: bytes, mask: bytes) -> Source:
    """A source whose first record was changed after it was opened."""
    source = masks(section(write(tmp_path, 3)))["train"]
    (tmp_path / "train/images/0.jpg").write_bytes(image)
    (tmp_path / "train/masks/0.png").write_bytes(mask)
    return source


GOOD = encode(noise(9, 7), "JPEG")


@pytest.mark.parametrize(
    "image, mask, reason",
    [
        (GOOD, encode(labels(0, 9, 8), "PNG"), "the mask is 8 x 9 pixels, and its image 7 x 9"),
        (
            encode(noise(7, 9), "JPEG", exif=TURNED),
            encode(labels(0, 7, 9), "PNG"),
            "the mask is 9 x 7 pixels, and its image 7 x 9 when upright: rotate the mask, too",
        ),
        (GOOD, encode(labels(0) + 7, "PNG"), "the mask has 3 values that no class has: 7, "),
        (
            GOOD,
            encode(labels(0), "PNG")[:40],
            "the mask is damaged, cut off, or not a PNG, BMP, WebP or JPEG",
        ),
        (b"", encode(labels(0), "PNG"), "the file is empty"),
    ],
    ids=["size", "on its side", "values", "damaged", "image"],
)
def test_a_bad_mask_makes_a_bad_record(
    tmp_path: Path, image: bytes, mask: bytes, reason: str
) -> None:
    source = bad(tmp_path, image, mask)
    assert why_unreadable(source, 0).startswith(reason)
    assert why_unreadable(source, 1) == "the file could be read on a second try"
    quarantine = Quarantine(source, "train", 0.3)
    quarantine.note(0)
    with pytest.raises(DataError, match="1 of the train split's 3 records can't be read"):
        quarantine.check()


def test_masks_refer_to_upright_images(tmp_path: Path) -> None:
    source = bad(tmp_path, encode(noise(7, 9), "JPEG", exif=TURNED), encode(labels(0), "PNG"))
    assert why_unreadable(source, 0) == "the file could be read on a second try"


def test_a_mask_that_cannot_be_read_does_not_end_the_stream(tmp_path: Path) -> None:
    source = bad(tmp_path, GOOD, b"")
    rows = tf.data.Dataset.range(3).map(
        lambda n: or_zeros(lambda one: tf.cast(tf.shape(source.read(one)["mask"]), tf.int64), n)
    )
    assert [bool(readable) for _, readable in rows.as_numpy_iterator()] == [False, True, True]


def test_sources_of_the_same_classes_can_be_merged_in_any_order(tmp_path: Path) -> None:
    one, other = (
        section(write(tmp_path / "one", 4)),
        section(write(tmp_path / "two", 5), NAMES[::-1]),
    )
    merged = open_splits(
        Data(source=Merge(kind="merge", sources=(one, other)), validation=0, test=0.2)
    )["train"]
    assert merged.classes == NAMES
    for index, example in enumerate(read(merged)):
        expected = labels(int(Path(merged.name(index)).stem))
        np.testing.assert_array_equal(
            example["mask"], expected if "/one/" in merged.name(index) else 2 - expected
        )


def test_arrays_and_files_keep_their_masks_when_merged(tmp_path: Path) -> None:
    names = ("background", *"0123456789")
    scenes = DigitSceneMasks(kind="digit_scenes", train=4, validation=1, test=1)
    merged = open_splits(
        Data(
            source=Merge(kind="merge", sources=(section(write(tmp_path, 4), names), scenes)),
            test=0.25,
        )
    )["train"]
    rows = read(merged)
    assert rows[0].keys() == {"bytes", "mask"}
    np.testing.assert_array_equal(
        np.stack([row["mask"][..., 0] for row in rows[-4:]]), compose(scenes, "train").masks
    )


def test_masks_of_different_classes_cannot_be_merged(tmp_path: Path) -> None:
    one, other = (
        section(write(tmp_path / "one", 4)),
        section(write(tmp_path / "two", 5), ("sky", "tree", "water")),
    )
    with pytest.raises(
        DataError,
        match="the class 'road' is in some of the merged sources' masks and not in others",
    ):
        open_splits(Data(source=Merge(kind="merge", sources=(one, other))))


def test_digit_scenes_have_masks() -> None:
    config = DigitSceneMasks(kind="digit_scenes", train=5, validation=1, test=1, size=(64, 80))
    source = digit_scenes(config)["train"]
    assert source.classes == ("background", *"0123456789")
    scenes = compose(config, "train")
    for number, example in enumerate(read(source)):
        assert example.keys() == {"image", "mask"}
        np.testing.assert_array_equal(example["image"], scenes.images[number])
        np.testing.assert_array_equal(example["mask"][..., 0], scenes.masks[number])
    assert tf.data.Dataset.range(1).map(source.read).element_spec["mask"] == tf.TensorSpec(
        [64, 80, 1], tf.uint8
    )


COLORS = {
    "Building": "#3C1098",
    "Land": "#8429F6",
    "Road": "#6EC1E4",
    "Vegetation": "#FEDD3A",
    "Water": "#E2A929",
}


def aerial(path: Path, *ignored: str) -> Masks:
    folders = [{"images": f"Tile {n}/images", "masks": f"Tile {n}/masks"} for n in range(1, 7)]
    classes = [{"name": name, "color": color} for name, color in COLORS.items()]
    return section(
        path, train=folders[:5], test=folders[5:], classes=classes, ignore_colors=ignored
    )


def test_aerial_tiles_are_read_by_their_colors(public_data: FindData) -> None:
    splits = masks(aerial(public_data("aerial-tiles1-6"), "#000000", "#9b9b9b"))
    assert {name: len(split) for name, split in splits.items()} == {"train": 45, "test": 9}
    pixels = np.zeros(256, np.int64)
    for split in splits.values():
        for example in (
            tf.data.Dataset.range(len(split))
            .map(split.read, num_parallel_calls=2)
            .as_numpy_iterator()
        ):
            assert example["mask"].shape[:2] == tuple(
                tf.io.extract_jpeg_shape(example["bytes"])[:2]
            )
            pixels += np.bincount(example["mask"].ravel(), minlength=256)
    assert (pixels[:5] > 0).all() and not pixels[5:255].any()


def test_the_error_names_an_undocumented_color_of_the_aerial_tiles_with_its_share(
    public_data: FindData,
) -> None:
    # The message counts six tiles; in all eight, the color is said to cover 0.56 %.
    message = (
        r"5 of 54 masks inspected, .* color that no class has: #000000, under 0.01% of the"
        r" pixels.*\(nearest: Building, #3C1098\)"
    )
    with pytest.raises(DataError, match=message + r".*ignore_colors: \['#9B9B9B', '#000000'\]"):
        masks(aerial(public_data("aerial-tiles1-6"), "#9B9B9B"))


def with_suffix(root: Path, suffix: str, beside: bool = False) -> Path:
    """Write images and masks whose names end in `suffix`, in two folders or in the same one."""
    write(root, 3)
    for file in sorted((root / "train/masks").iterdir()):
        folder = root / "train" / ("images" if beside else "masks")
        file.rename(folder / f"{file.stem}{suffix}{file.suffix}")
    return root


@pytest.mark.parametrize("suffix", ["_mask", ".seg", " L"])
@pytest.mark.parametrize("beside", [False, True], ids=["apart", "side by side"])
def test_masks_may_have_a_suffix(tmp_path: Path, suffix: str, beside: bool) -> None:
    with_suffix(tmp_path, suffix, beside)
    masks_in = "train/images" if beside else "train/masks"
    given = {"images": "train/images", "masks": masks_in, "mask_suffix": suffix}
    [source] = masks(section(tmp_path, train=[given])).values()
    assert source.names() == [f"train/images/{number}.jpg" for number in range(3)]
    np.testing.assert_array_equal(read(source)[1]["mask"], labels(1))


@pytest.mark.parametrize("suffix", ["_mask", "-label"])
def test_the_error_of_masks_with_a_suffix_suggests_the_key(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(
        DataError,
        match=f"name is followed by '{suffix}' in 3 mask names; set mask_suffix: {suffix} beside",
    ):
        masks(section(with_suffix(tmp_path, suffix)))


def test_images_may_be_directly_in_the_folder_of_the_source(tmp_path: Path) -> None:
    write(tmp_path, 3)
    (tmp_path / "train/masks").rename(tmp_path / "train/images/masks")
    for name in (".", "", "./"):
        given = section(tmp_path / "train/images", train=[{"images": name, "masks": ".\\masks"}])
        assert len(masks(given)["train"]) == 3
