"""Guards reduced images of packed data: annotations stay where they were on the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from conftest import small_config
from cvpipe.data.annotations import checked, upright
from cvpipe.data.decode import decode_image
from cvpipe.data.example import Example
from cvpipe.data.file_kind import file_kind
from cvpipe.data.packed.reduce import Reduction
from cvpipe.data.sources import Source
from image_files import encode, smooth, write_classes
from packed_data import CASES, assert_same, pack_all, packed_config, splits_of

SIDE = 20


def upright_example(source: Source, index: int) -> Example:
    """Return an example with its upright image and annotations."""
    example = source.read(tf.constant(index, tf.int64))
    image = decode_image(example["bytes"], 3) if "bytes" in example else example["image"]
    image = checked(example, image)
    return {**upright(example, lambda: tf.shape(image)[:2]), "image": image}


@pytest.mark.parametrize("name", ["masks", "keypoints of photos"])
def test_annotations_stay_where_they_were_on_the_image(name: str, tmp_path: Path) -> None:
    config = CASES[name](tmp_path / "plain")
    pack_all(config, tmp_path / "packed", Reduction(SIDE), shard_bytes=10**6)
    plain, packed = (
        next(iter(splits_of(each).values()))
        for each in (config, packed_config(config, tmp_path / "packed"))
    )
    assert plain.names() == packed.names() and plain.facts == packed.facts
    compared = 0
    for index in range(len(plain)):
        try:
            before = upright_example(plain, index)
        except tf.errors.OpError:
            continue
        after, extent = upright_example(packed, index), np.array(before["image"].shape[:2])
        size = np.round(extent * SIDE / extent.max()).astype(int)
        assert after["image"].shape[:2].as_list() == size.tolist()
        for key in before.keys() - {"image", "bytes", "mask", "area"}:
            np.testing.assert_allclose(before[key], after[key], atol=1e-6, err_msg=key)
        if "area" in before:
            scaled = before["area"] * size.prod() / extent.prod()
            np.testing.assert_allclose(
                after["area"], tf.where(before["area"] < 0, before["area"], scaled), rtol=1e-5
            )
        if "mask" in before:
            assert after["mask"].shape[:2].as_list() == size.tolist()
            assert after["mask"].dtype == tf.uint8
            # The label of the nearest pixel.
            rows, columns = (
                ((np.arange(length) + 0.5) / length * of).astype(int)
                for length, of in zip(size, extent, strict=True)
            )
            np.testing.assert_array_equal(after["mask"], before["mask"].numpy()[rows][:, columns])
        small = tf.image.resize(before["image"], size, antialias=True)
        # JPEG and rounding change pixels a little.
        assert float(tf.reduce_mean(tf.abs(tf.cast(after["image"], tf.float32) - small))) < 4
        compared += 1
    assert compared >= 6


def test_small_images_keep_their_files_and_large_ones_keep_their_format(tmp_path: Path) -> None:
    config = CASES["labels of photos"](tmp_path / "plain")
    plain = splits_of(config)["all"]
    pack_all(config, tmp_path / "same", Reduction(longest_side=44), shard_bytes=10**6)
    same = splits_of(packed_config(config, tmp_path / "same"))["all"]
    pack_all(config, tmp_path / "small", Reduction(longest_side=SIDE), shard_bytes=10**6)
    small = splits_of(packed_config(config, tmp_path / "small"))["all"]
    damaged = plain.names().index("dog/003.jpg")
    for index in range(len(plain)):
        before, kept, after = (
            source.read(tf.constant(index, tf.int64)) for source in (plain, same, small)
        )
        assert_same(before, kept)
        kinds = {file_kind(example["bytes"].numpy()).split()[0] for example in (before, after)}
        assert len(kinds) == 1
        # A file that can't be decoded stays unchanged.
        assert (before["bytes"] == after["bytes"]) == (index == damaged)


@pytest.mark.soak
def test_a_quality_reencodes_every_file_and_gray_images_stay_gray(tmp_path: Path) -> None:
    photo = smooth(30, 40)
    gray = np.repeat(photo[..., :1], 3, axis=-1)
    write_classes(tmp_path / "plain", {"a": [encode(photo, "PNG")], "b": [encode(gray, "PNG")]})
    config = small_config(f"data.source={{kind: folder, path: {tmp_path / 'plain'}}}")
    for quality in (30, 90):
        pack_all(config, tmp_path / str(quality), Reduction(quality=quality))
    low, high = (
        splits_of(packed_config(config, tmp_path / str(quality)))["all"] for quality in (30, 90)
    )
    for index, kind in enumerate(["JPEG RGB", "JPEG gray"]):
        coarse, fine = (
            source.read(tf.constant(index, tf.int64))["bytes"].numpy() for source in (low, high)
        )
        assert file_kind(coarse) == file_kind(fine) == kind
        assert len(coarse) < len(fine)
