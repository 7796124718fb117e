"""Guards decoding of only a crop: the result equals a crop of the whole decoded image."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from conftest import small_config, soaked
from cvpipe.config.augment.crops import RandomResizedCrop
from cvpipe.config.label_sources import Folder
from cvpipe.data.augment.geometry import random_resized_crop, random_window
from cvpipe.data.crop import decode_random_crop
from cvpipe.data.decode import decode_image
from cvpipe.data.order import example_seed
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources.folder import folder
from cvpipe.data.stream import training_batches
from cvpipe.tasks.classification import encode as encode_labels
from image_files import BAD, claiming, encode, noise, smooth, write_classes

SEEDS = 12
ANY = RandomResizedCrop(op="random_resized_crop")
# Larger than half of the images below, so these aren't decoded at a reduced size.
SIZE = (40, 36)
NOISE, PHOTO = noise(61, 75), smooth(61, 75)


def turned(orientation: int, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(NOISE, "JPEG", exif=exif, **options)


WITHOUT_SHARED_CHROMA = {
    "color at every pixel": encode(NOISE, "JPEG", subsampling=0),
    "progressive": encode(NOISE, "JPEG", subsampling=0, progressive=True),
    "restarts": encode(NOISE, "JPEG", subsampling=0, restart_marker_blocks=3),
    "gray": encode(noise(61, 75, 1), "JPEG"),
    "CMYK": encode(NOISE, "JPEG", "CMYK"),
    **{f"orientation {n}": turned(n, subsampling=0) for n in range(1, 9)},
    "one pixel": encode(noise(1, 1), "JPEG", subsampling=0),
    "one row": encode(noise(1, 40), "JPEG", subsampling=0),
    "one column": encode(noise(40, 1), "JPEG", subsampling=0),
}
DECODED_WHOLE = {
    "PNG": encode(NOISE, "PNG"),
    "PNG gray": encode(noise(61, 75, 1), "PNG"),
    "BMP": encode(NOISE, "BMP"),
    "WebP": encode(NOISE, "WEBP", lossless=True),
    "something behind the end": encode(NOISE, "JPEG") + b"a film that belongs to the photo",
}


def seed(number: Any) -> tf.Tensor:
    return tf.stack([tf.constant(3, tf.int64), tf.cast(number, tf.int64)])


@functools.lru_cache
def graph_of(op: RandomResizedCrop, size: tuple[int, int], channels: int) -> Any:
    """Return a graph from a file's bytes and a seed number to the crop, decoded alone and from the
    whole image.
    """

    @tf.function(
        autograph=False, input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)]
    )
    def crop(encoded: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        alone = decode_random_crop(encoded, seed(number), op, size, channels)
        return (
            alone,
            random_resized_crop({"image": decode_image(encoded, channels)}, seed(number), op, size)[
                "image"
            ],
        )

    return crop


def both_ways(
    file: bytes, op: RandomResizedCrop = ANY, size: tuple[int, int] = SIZE, channels: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Return crops of a file for several seeds, decoded alone and from the whole image: float32
    [SEEDS, *size, channels] each.
    """
    alone, whole = zip(
        *(
            graph_of(op, size, channels)(file, tf.constant(number, tf.int64))
            for number in range(SEEDS)
        )
    )
    return np.stack(alone), np.stack(whole)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", WITHOUT_SHARED_CHROMA)
def test_the_pixels_equal_a_crop_of_the_whole_image_exactly(name: str, channels: int) -> None:
    alone, whole = both_ways(WITHOUT_SHARED_CHROMA[name], channels=channels)
    assert alone.dtype == np.float32
    np.testing.assert_array_equal(alone, whole)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", DECODED_WHOLE)
def test_a_file_whose_window_cannot_be_decoded_alone_is_decoded_whole(
    name: str, channels: int
) -> None:
    np.testing.assert_array_equal(*both_ways(DECODED_WHOLE[name], channels=channels))


@pytest.mark.parametrize("subsampling", [1, 2])
def test_if_pixels_share_chroma_only_the_first_and_last_columns_differ(subsampling: int) -> None:
    file = encode(PHOTO, "JPEG", subsampling=subsampling, quality=90)
    # Crops that need no resizing, so that their columns are columns of the image.
    op = RandomResizedCrop(
        op="random_resized_crop", area=(40 * 36 / (61 * 75),) * 2, aspect=(36 / 40,) * 2
    )
    alone, whole = both_ways(file, op)
    assert (random_window(tf.constant([61, 75]), seed(0), op)[2:].numpy() == SIZE).all()
    np.testing.assert_array_equal(alone[:, :, 1:-1], whole[:, :, 1:-1])
    assert (alone[:, :, [0, -1]] != whole[:, :, [0, -1]]).any() and abs(alone - whole).max() < 16


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("reduction", [8, *soaked(2, 4)])
def test_a_crop_decoded_at_a_reduced_size_looks_like_the_full_crop(
    reduction: int, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    size = (301 // 2 // reduction, 257 // 2 // reduction)
    op = RandomResizedCrop(op="random_resized_crop", area=(0.5, 1.0), aspect=(0.9, 1.1))
    alone, whole = both_ways(encode(smooth(301, 257), "JPEG", quality=95, exif=exif), op, size)
    # The smooth image's colors span all values. The edges of the reduced crop are rounded to
    # its pixels, which shifts it by less than one of them.
    assert abs(alone - whole).mean() < 2.5 and abs(alone - whole).max() < 16


def test_a_crop_is_reduced_only_if_it_keeps_enough_pixels() -> None:
    # One pixel less than twice the size in one direction, so the crop isn't reduced.
    op = RandomResizedCrop(op="random_resized_crop", area=(1.0, 1.0), aspect=(80 / 79,) * 2)
    file = encode(noise(79, 80), "JPEG", subsampling=0)
    np.testing.assert_array_equal(*both_ways(file, op, (40, 40)))
    alone, whole = both_ways(file, op, (39, 40))
    assert (alone != whole).any() and abs(alone.mean() - whole.mean()) < 1


def test_the_same_seed_gives_the_same_bits_eagerly_and_in_a_dataset() -> None:
    file = encode(PHOTO, "JPEG")
    numbers = tf.data.Dataset.range(SEEDS)
    in_map = np.stack(
        [
            *numbers.map(
                lambda n: decode_random_crop(tf.constant(file), seed(n), ANY, SIZE, 3)
            ).as_numpy_iterator()
        ]
    )
    for number in range(3):
        np.testing.assert_array_equal(
            in_map[number], decode_random_crop(tf.constant(file), seed(number), ANY, SIZE, 3)
        )
    assert len({crop.tobytes() for crop in in_map}) == SEEDS


def claiming_too_much() -> bytes:
    """A JPEG whose header says that it has 20,000 × 20,000 pixels."""
    return claiming(encode(NOISE, "JPEG"), 20_000, 20_000)


def fails(function: Callable[..., tf.Tensor], *arguments: Any) -> bool:
    try:
        function(*arguments)
    except tf.errors.OpError:
        return True
    return False


@pytest.mark.parametrize("channels", [1, 3])
def test_a_bad_file_fails_wherever_its_crop_is(channels: int) -> None:
    alone = tf.function(
        lambda encoded, number: decode_random_crop(encoded, seed(number), ANY, SIZE, channels),
        autograph=False,
        input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)],
    )
    for name, file in {**BAD, "a JPEG that claims too much": claiming_too_much()}.items():
        for number in range(SEEDS):
            assert fails(alone, file, tf.constant(number, tf.int64)), name


# -- in the stream


def write_photos(path: Path) -> list[Path]:
    files = [
        encode(
            noise(50 + n, 60, seed=n),
            "PNG" if n == 3 else "JPEG",
            **({} if n == 3 else {"subsampling": 0}),
        )
        for n in range(8)
    ]
    return write_classes(path, {"cat": files[:4], "dog": files[4:]})


def batch_of(path: Path, *augment: str, quarantine: bool = False) -> tuple[dict[str, Any], int]:
    """Return the first eight examples, in the source's order, and their number of bad records."""
    config = small_config(
        "prepare.size=[32, 32]",
        "prepare.channels=3",
        "prepare.mean=[0]",
        "prepare.std=[1]",
        "train.batch_size=8",
        f"augment=[{', '.join(augment)}]",
    )
    source = folder(Folder(kind="folder", path=str(path)))["all"]
    bad = Quarantine(source, "train", 1.0)
    [batch] = training_batches(
        source, config, encode_labels, bad if quarantine else None, first_step=0, last_step=1
    ).as_numpy_iterator()
    order = np.argsort(batch["index"])
    return tf.nest.map_structure(lambda values: values[order], batch), len(bad)


def test_operations_after_the_crop_draw_the_usual_random_numbers(tmp_path: Path) -> None:
    write_photos(tmp_path)
    crop, jitter = "{op: random_resized_crop}", "{op: color_jitter, brightness: 0.5}"
    cropped, flipped = (
        batch_of(tmp_path, crop, *others)[0]["image"]
        for others in ([jitter], [jitter, "{op: flip}"])
    )
    mirrored = [(a == b[:, ::-1]).all() for a, b in zip(cropped, flipped)]
    same = [(a == b).all() for a, b in zip(cropped, flipped)]
    assert np.logical_xor(mirrored, same).all() and any(mirrored) and any(same)


def test_the_stream_yields_the_crops_of_the_decoded_images(tmp_path: Path) -> None:
    files = write_photos(tmp_path)
    shown, _ = batch_of(tmp_path, "{op: random_resized_crop}")
    for index, file in enumerate(files):
        image = decode_image(tf.constant(file.read_bytes()), 3)
        own_seed = example_seed(
            small_config().seed, tf.constant(0, tf.int64), tf.constant(index, tf.int64)
        )
        expected = random_resized_crop({"image": image}, own_seed, ANY, (32, 32))["image"] / 255
        np.testing.assert_allclose(shown["image"][index], expected, atol=1e-6)


@pytest.mark.parametrize("how", ["truncated JPEG", *soaked("empty", "garbage")])
def test_a_bad_file_is_one_bad_record(tmp_path: Path, how: str) -> None:
    files = write_photos(tmp_path)
    good, none = batch_of(tmp_path, "{op: random_resized_crop}", quarantine=True)
    files[5].write_bytes(BAD[how])
    spoiled, count = batch_of(tmp_path, "{op: random_resized_crop}", quarantine=True)
    assert (none, count) == (0, 1)
    np.testing.assert_array_equal(spoiled["weight"], np.arange(8) != 5)
    np.testing.assert_array_equal(
        spoiled["image"][np.arange(8) != 5], good["image"][np.arange(8) != 5]
    )
    assert not spoiled["image"][5].any()
