"""Guards streams of batches, which depend on (seed, step): shards, resuming, bad records."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from conftest import ROOT, small_config, soaked
from cvpipe import config_file
from cvpipe.config import Config
from cvpipe.config.digits import Digits
from cvpipe.config.label_sources import Folder
from cvpipe.data.decode import decode_image
from cvpipe.data.prepare import prepare
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.samples import plain_images
from cvpipe.data.sources import Source
from cvpipe.data.sources.constructors import classification_source, segmentation_source
from cvpipe.data.sources.digits import digits
from cvpipe.data.sources.folder import folder
from cvpipe.data.statistics import normalization
from cvpipe.data.stream import encoded_batches, evaluation_batches, training_batches
from cvpipe.tasks import segmentation
from cvpipe.tasks.classification import encode as encode_labels
from cvpipe.tasks.segmentation.answer import MASK
from image_files import BAD, encode, noise, smooth, write_classes
from labels import labels_of

EXAMPLES = 11


def pipeline(*overrides: str) -> Config:
    """Return a configuration with every kind of augmentation, for photos of any size."""
    every_operation = (
        "augment=[{op: flip}, {op: pad_crop}, {op: random_resized_crop}, {op: color_jitter,"
        " brightness: 0.5, hue: 0.1}]"
    )
    return small_config(
        "prepare.size=[12, 10]",
        "prepare.channels=3",
        "train.batch_size=8",
        every_operation,
        *overrides,
    )


def photos() -> list[bytes]:
    return [
        encode(smooth(15 + 3 * n, 30 - 2 * n, seed=n), "JPEG" if n % 2 else "PNG")
        for n in range(EXAMPLES)
    ]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Write files of two classes; return them in the source's order."""
    return write_classes(tmp_path / "photos", {"cat": photos()[:4], "dog": photos()[4:]})


@pytest.fixture
def source(files: list[Path]) -> Source:
    return folder(Folder(kind="folder", path=str(files[0].parent.parent)))["all"]


@pytest.fixture
def arrays() -> Source:
    """Return a source that needs no decoding, so that its streams are built faster."""
    return digits(Digits(kind="digits"))["all"].subset(np.arange(EXAMPLES))


def train(
    source: Source,
    config: Config,
    quarantine: Any = None,
    first: int = 0,
    last: int = 4,
    **shards: int,
) -> list[dict[str, Any]]:
    batches = training_batches(
        source, config, encode_labels, quarantine, first_step=first, last_step=last, **shards
    )
    return list(batches.as_numpy_iterator())


def evaluate(
    source: Source, config: Config, quarantine: Any = None, batch_size: int = 4
) -> dict[str, Any]:
    return joined(
        in_numpy(evaluation_batches(source, config, encode_labels, quarantine, batch_size))
    )


def in_numpy(batches: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [tf.nest.map_structure(lambda tensor: tensor.numpy(), batch) for batch in batches]


def joined(batches: list[dict[str, Any]]) -> dict[str, Any]:
    return tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *batches)


def assert_same(first: Any, second: Any) -> None:
    """Check that nested arrays are equal, bit for bit."""
    tf.nest.assert_same_structure(first, second)
    for one, other in zip(tf.nest.flatten(first), tf.nest.flatten(second)):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


# -- training


def test_batches_have_fixed_shapes(source: Source) -> None:
    for quarantine in (None, Quarantine(source, "train", 1.0)):
        batches = training_batches(
            source, pipeline(), encode_labels, quarantine, first_step=0, last_step=1
        )
        assert batches.element_spec == {
            "image": tf.TensorSpec([8, 12, 10, 3], tf.float32),
            "targets": {"label": tf.TensorSpec([8], tf.int32)},
            "weight": tf.TensorSpec([8], tf.float32),
            "index": tf.TensorSpec([8], tf.int64),
        }


def test_every_epoch_shows_every_example_once_with_its_label(source: Source) -> None:
    whole = joined(train(source, pipeline(f"train.batch_size={EXAMPLES}"), last=3))
    for epoch in np.split(whole["index"], 3):
        assert sorted(epoch) == list(range(EXAMPLES))
    np.testing.assert_array_equal(whole["targets"]["label"], labels_of(source)[whole["index"]])
    np.testing.assert_array_equal(whole["weight"], np.ones(3 * EXAMPLES))


def test_the_same_seed_gives_the_same_bits_and_another_seed_different_bits(source: Source) -> None:
    first, again, other = (
        joined(train(source, pipeline(f"train.batch_size={EXAMPLES}", f"seed={seed}"), last=1))
        for seed in (5, 5, 6)
    )
    assert_same(first, again)
    assert (first["index"] != other["index"]).any()
    one, two = (epoch["image"][np.argsort(epoch["index"])] for epoch in (first, other))
    assert (one != two).any((1, 2, 3)).sum() > EXAMPLES / 2


def test_an_example_looks_different_in_every_epoch(source: Source) -> None:
    whole = joined(train(source, pipeline(f"train.batch_size={EXAMPLES}"), last=4))
    assert len({image.tobytes() for image in whole["image"]}) == 4 * EXAMPLES


def test_starting_at_a_step_equals_skipping_earlier_steps(arrays: Source) -> None:
    assert_same(train(arrays, pipeline(), first=2), train(arrays, pipeline())[2:])


@pytest.mark.parametrize("shards", [2, 4])
def test_the_shards_of_a_batch_together_equal_the_batch(arrays: Source, shards: int) -> None:
    whole = train(arrays, pipeline())
    parts = [train(arrays, pipeline(), shards=shards, first_shard=shard) for shard in range(shards)]
    assert parts[0][0]["image"].shape[0] == 8 // shards
    for step, batch in enumerate(whole):
        assert_same(joined([part[step] for part in parts]), batch)


def test_a_worker_with_two_of_four_replicas_gets_the_shards_of_both_in_turn(arrays: Source) -> None:
    both = train(arrays, pipeline(), last=2, shards=4, first_shard=2, own_shards=2)
    third, fourth = (
        train(arrays, pipeline(), last=2, shards=4, first_shard=shard) for shard in (2, 3)
    )
    assert_same(both, [batch for pair in zip(third, fourth) for batch in pair])


def test_guarding_good_records_changes_no_bit(source: Source) -> None:
    quarantine = Quarantine(source, "train", 0.0)
    assert_same(train(source, pipeline(), quarantine), train(source, pipeline()))
    assert len(quarantine) == 0


def test_without_augmentation_training_yields_the_images_of_evaluation(source: Source) -> None:
    config = pipeline("augment=[]")
    shown, evaluated = joined(train(source, config)), evaluate(source, config)
    np.testing.assert_array_equal(shown["image"], evaluated["image"][shown["index"]])


# -- evaluation


@pytest.mark.parametrize("examples, batch_size", [(11, 4), (3, 8), (8, 4), (1, 1), (5, 1)])
def test_evaluation_covers_every_example_once_and_pads_with_weight_0(
    arrays: Source, examples: int, batch_size: int
) -> None:
    part = arrays.subset(np.arange(examples))
    whole = evaluate(part, pipeline(), batch_size=batch_size)
    assert len(whole["index"]) % batch_size == 0
    np.testing.assert_array_equal(whole["index"][whole["weight"] == 1], np.arange(examples))
    np.testing.assert_array_equal(whole["weight"], np.arange(len(whole["weight"])) < examples)
    np.testing.assert_array_equal(whole["targets"]["label"][:examples], labels_of(part))


def test_evaluation_only_decodes_and_prepares_files(source: Source, files: list[Path]) -> None:
    config = pipeline("prepare.resize=crop")
    for file, image in zip(files, evaluate(source, config)["image"]):
        expected = prepare(decode_image(tf.constant(file.read_bytes()), 3), config.prepare)
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("channels, resize", [(1, "stretch"), (3, "crop")])
def test_encoded_batches_decode_to_the_evaluated_images(
    source: Source, arrays: Source, channels: int, resize: str
) -> None:
    config = pipeline(f"prepare.channels={channels}", f"prepare.resize={resize}")
    for examples in (source, arrays):
        encoded = joined(in_numpy(encoded_batches(examples, config, encode_labels, 4)))
        evaluated = evaluate(examples, config)
        decoded = tf.data.Dataset.from_tensor_slices(encoded.pop("bytes")).map(
            lambda b: prepare(decode_image(b, channels), config.prepare)
        )
        assert_same(np.stack(list(decoded.as_numpy_iterator())), evaluated.pop("image"))
        # The extent is known only after decoding.
        evaluated.pop("extent")
        assert_same(encoded, evaluated)


def test_gray_arrays_become_rgb_if_the_pipeline_says_so(arrays: Source) -> None:
    gray, rgb = (
        evaluate(arrays, small_config(f"prepare.channels={channels}"))["image"]
        for channels in (1, 3)
    )
    np.testing.assert_array_equal(np.repeat(gray, 3, -1), rgb)


def test_rgb_arrays_become_gray_if_the_pipeline_says_so() -> None:
    images = np.stack([noise(6, 6, seed=n) for n in range(4)])
    source = classification_source(
        ("a", "b"), np.zeros(4, np.int32), lambda n: {"image": tf.gather(images, n)}, str
    )
    gray = evaluate(
        source, small_config("prepare.size=[6, 6]", "prepare.mean=[0]", "prepare.std=[1]")
    )["image"]
    np.testing.assert_allclose(gray[..., 0] * 255, images @ [0.2989, 0.587, 0.114], atol=1)


# -- bad records


def with_masks(sizes: list[tuple[int, int]], sizes_of_masks: list[tuple[int, int]]) -> Source:
    """Return a source of PNG images and masks of class 0, with these sizes."""
    images = [encode(smooth(*size, seed=n), "PNG") for n, size in enumerate(sizes)]
    masks = [tf.io.encode_png(np.zeros((*size, 1), np.uint8)).numpy() for size in sizes_of_masks]

    def read(record: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "bytes": tf.gather(images, record),
            "mask": tf.io.decode_png(tf.gather(masks, record), 1),
        }

    return segmentation_source(("ground", "square"), len(sizes), read, str)


def segmenter(*overrides: str) -> Config:
    return config_file.load(
        ROOT / "pipelines" / "segmentation" / "digit_scenes_fcn.yaml",
        ["train.batch_size=2", *overrides],
    )


def spoil(file: Path, how: str) -> None:
    if how == "deleted":
        file.unlink()
    else:
        file.write_bytes(BAD[how])


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Return training and evaluation examples of a folder without bad records."""
    files = write_classes(
        tmp_path_factory.mktemp("photos"), {"cat": photos()[:4], "dog": photos()[4:]}
    )
    source = folder(Folder(kind="folder", path=str(files[0].parent.parent)))["all"]
    return joined(train(source, pipeline())), evaluate(source, pipeline())


@pytest.mark.parametrize("how", ["deleted", *soaked("empty", "truncated JPEG")])
def test_a_bad_record_keeps_its_position_and_changes_no_other_example(
    source: Source, files: list[Path], how: str, good: tuple[Any, Any]
) -> None:
    bad, quarantine = 6, Quarantine(source, "train", 1.0)
    spoil(files[bad], how)
    spoiled = (
        joined(train(source, pipeline(), quarantine)),
        evaluate(source, pipeline(), quarantine),
    )
    for before, after in zip(good, spoiled):
        np.testing.assert_array_equal(after["index"], before["index"])
        lost = after["index"] == bad
        assert lost.any()
        np.testing.assert_array_equal(after["weight"], np.where(lost, 0, before["weight"]))
        np.testing.assert_array_equal(
            after["image"], np.where(lost[:, None, None, None], 0, before["image"])
        )
        np.testing.assert_array_equal(
            after["targets"]["label"][~lost], before["targets"]["label"][~lost]
        )
    assert list(quarantine.names) == [str(files[bad])]


def test_a_bad_last_record_is_counted_once_even_if_repeated_as_padding(
    source: Source, files: list[Path]
) -> None:
    spoil(files[-1], "garbage")
    quarantine = Quarantine(source, "test", 1.0)
    whole = evaluate(source, pipeline(), quarantine, batch_size=8)
    np.testing.assert_array_equal(whole["weight"], [1] * 10 + [0] * 6)
    assert len(quarantine) == 1


def test_a_stream_of_only_bad_records_has_weight_0(source: Source, files: list[Path]) -> None:
    for file in files:
        spoil(file, "text")
    quarantine = Quarantine(source, "test", 1.0)
    assert not evaluate(source, pipeline(), quarantine)["weight"].any()
    assert len(quarantine) == EXAMPLES


@pytest.mark.parametrize("how", ["deleted", "truncated PNG"])
def test_an_unguarded_stream_fails_at_a_bad_record(
    source: Source, files: list[Path], how: str
) -> None:
    spoil(files[6], how)
    with pytest.raises(tf.errors.OpError):
        evaluate(source, pipeline())
    with pytest.raises(tf.errors.OpError):
        train(source, pipeline())


def test_a_missing_file_has_empty_bytes_and_keeps_its_weight(
    source: Source, files: list[Path]
) -> None:
    spoil(files[6], "deleted")
    spoil(files[7], "garbage")
    encoded = joined(in_numpy(encoded_batches(source, pipeline(), encode_labels, 4)))
    assert encoded["bytes"][6] == b"" and encoded["bytes"][7] == BAD["garbage"]
    np.testing.assert_array_equal(encoded["weight"], [1] * EXAMPLES + [0])
    assert [encoded["bytes"][n] == files[n].read_bytes() for n in (5, 8)] == [True, True]


def test_a_mask_of_another_size_makes_a_bad_record_in_both_kinds_of_batches() -> None:
    sizes = [(20, 30), (30, 20), (25, 25), (9, 40), (40, 9)]
    source = with_masks(sizes, [(20, 30), (30, 19), (25, 25), (40, 9), (40, 9)])
    config, quarantine = segmenter(), Quarantine(source, "test", 1.0)
    fields = {"mask": MASK}
    [evaluated] = in_numpy(
        evaluation_batches(source, config, segmentation.truth, quarantine, 5, fields)
    )
    [encoded] = in_numpy(encoded_batches(source, config, segmentation.truth, 5, fields))
    np.testing.assert_array_equal(evaluated["weight"], [1, 0, 1, 0, 1])
    assert [file != b"" for file in encoded["bytes"]] == [True, False, True, False, True] and list(
        quarantine.names
    ) == ["1", "3"]
    np.testing.assert_array_equal(encoded["weight"], np.ones(5))
    np.testing.assert_array_equal(encoded["targets"]["mask"], evaluated["targets"]["mask"])


# -- images answered in tiles

TILES = "prepare={size: [16, 12], resize: tile, overlap: 4, normalize: channels}"
WHOLE = [(30, 40), (16, 12), (50, 20)]


def test_statistics_of_images_for_tiles_are_those_of_whole_images() -> None:
    source, config = with_masks(WHOLE, WHOLE), segmenter(TILES)
    shown = np.concatenate(list(plain_images(source, config.prepare, np.arange(3))))
    stretched = config.with_one_view().prepare
    for n, image in enumerate(shown):
        np.testing.assert_array_equal(
            image,
            prepare(decode_image(source.read(tf.constant(n, tf.int64))["bytes"], 3), stretched),
        )
    found = normalization(plain_images(source, config.prepare, np.arange(3)), config.prepare)
    np.testing.assert_allclose(found["mean"], shown.mean((0, 1, 2)), rtol=1e-4)


def test_training_for_tiles_yields_crops_with_any_other_operations() -> None:
    ops = (
        "expand",
        "scale_crop",
        "flip",
        "pad_crop",
        "rotate",
        "translate",
        "shear",
        "lens",
        "elastic",
        "scale_jitter",
        "color_jitter",
        "pca_lighting",
        "grayscale",
        "erase",
        "cutout",
    )
    source, config = (
        with_masks(WHOLE, WHOLE),
        segmenter(TILES, f"augment=[{', '.join(f'{{op: {op}}}' for op in ops)}]"),
    )
    encode_masks = partial(segmentation.encode, config=config)
    batches = training_batches(source, config, encode_masks, None, first_step=0, last_step=2)
    for batch in batches.as_numpy_iterator():
        assert batch["image"].shape == (2, 16, 12, 3) and np.isfinite(batch["image"]).all()
        assert batch["targets"]["mask"].shape == (2, 16, 12)


# -- mixing


def test_mixed_batches_do_not_depend_on_the_number_of_shards(source: Source) -> None:
    config = pipeline("mix=[{op: mixup}, {op: cutmix}]")
    whole = joined(train(source, config))
    assert (whole["share"] < 1).any() and whole["share"].min() >= 0
    parts = [train(source, config, shards=2, first_shard=shard) for shard in range(2)]
    assert_same(joined([batch for step in zip(*parts) for batch in step]), whole)


def test_nothing_is_mixed_with_an_image_that_cant_be_read(
    source: Source, files: list[Path]
) -> None:
    files[2].write_bytes(b"garbage")
    batches = joined(
        train(source, pipeline("mix=[{op: mixup, alpha: 5}]"), Quarantine(source, "train", 1.0))
    )
    bad = np.flatnonzero(batches["index"] == 2)
    assert len(bad) and (batches["weight"][bad] == 0).all()
    np.testing.assert_array_equal(batches["share"][bad ^ 1], 1)
    others = np.setdiff1d(np.arange(len(batches["index"])), np.concatenate([bad, bad ^ 1]))
    assert (batches["share"][others] < 1).all()
