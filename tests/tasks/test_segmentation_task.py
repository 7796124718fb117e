"""Guards the segmentation task: masks to targets, and scores to masks, whole or tiled."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cvpipe import config_file
from cvpipe.answers import to_answer
from cvpipe.config import Segmentation
from cvpipe.data.facts import Facts
from cvpipe.data.prepare import prepare, prepare_mask
from cvpipe.errors import ConfigError
from cvpipe.geometry.masks import IGNORED
from cvpipe.tasks.segmentation import make_task
from cvpipe.tasks.segmentation.answer import answer, answer_in_tiles
from cvpipe.tasks.segmentation.views import AXES, in_views
from cvpipe.tasks.task import mean_of_softmax

CLASSES = ("ground", "water", "wood")
PIPELINE: dict[str, Any] = {
    "task": "segmentation",
    "name": "tiny",
    "data": {"source": {"kind": "digit_scenes"}},
    "augment": [{"op": "scale_crop"}],
    "prepare": {"size": [32, 48]},
    "model": {"backbone": "resnet18", "head": {"kind": "fcn"}},
    "optimizer": {"kind": "adamw", "learning_rate": 0.001},
    "train": {"epochs": 1, "batch_size": 2},
}


def config(**prepare: Any) -> Segmentation:
    return Segmentation.model_validate({**PIPELINE, "prepare": {"size": [32, 48], **prepare}})


def scores(height: int, width: int, seed: int = 0) -> tf.Tensor:
    """Smooth scores of pixels, float32 [1, height, width, K]."""
    coarse = np.random.default_rng(seed).normal(size=(1, 5, 6, len(CLASSES))).astype(np.float32)
    return 5 * tf.image.resize(coarse, [height, width], "bicubic")


def answered(logits: tf.Tensor, extent: list[list[int]], **settings: Any) -> dict[str, np.ndarray]:
    found = answer({"logits": logits}, config(**settings), CLASSES, tf.constant(extent))
    return {name: value.numpy() for name, value in found.items()}


def test_a_wrong_number_of_class_weights_is_refused_before_training() -> None:
    loss = {"kind": "softmax", "class_weights": [1, 2]}
    wrong = Segmentation.model_validate(
        {**PIPELINE, "prepare": {"size": [32, 48]}, "loss": {**PIPELINE.get("loss", {}), **loss}}
    )
    with pytest.raises(ConfigError, match="2 numbers for 3 classes"):
        make_task(wrong, Facts(CLASSES))


@pytest.mark.parametrize("views", AXES)
def test_probabilities_of_views_are_the_means_of_those_of_flipped_images(views: str) -> None:
    images = np.random.default_rng(0).normal(size=(2, 8, 6, 3)).astype(np.float32)
    kernel = tf.constant(np.random.default_rng(1).normal(size=(3, 3, 3, 4)), tf.float32)

    def network(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": tf.nn.conv2d(pixels, kernel, 2, "VALID")}

    found = tf.nn.softmax(in_views(network, views)(images)["logits"])
    expected = np.mean(
        [
            np.flip(tf.nn.softmax(network(np.flip(images, axes))["logits"]), axes)
            for axes in AXES[views]
        ],
        axis=0,
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_symmetric_predictions_of_flipped_views() -> None:
    # With all four views, a flipped image gets the flipped answer.
    images = np.random.default_rng(0).normal(size=(1, 8, 6, 3)).astype(np.float32)
    kernel = tf.constant(np.random.default_rng(1).normal(size=(3, 3, 3, 4)), tf.float32)
    network = in_views(lambda x: {"logits": tf.nn.conv2d(x, kernel, 1, "SAME")}, "flipped")
    plain = network(images)["logits"]
    for axes in AXES["flipped"]:
        turned = network(np.flip(images, axes))["logits"]
        np.testing.assert_allclose(np.flip(turned, axes), plain, atol=1e-5)


@pytest.mark.parametrize("size", [(32, 48), (64, 96), (300, 70), (600, 1), (7, 9)])
@pytest.mark.parametrize("stride", [1, 4])
def test_masks_have_the_images_own_size_as_bilinear_resizing_gives_them(
    size: tuple[int, int], stride: int
) -> None:
    logits = scores(32 // stride, 48 // stride)
    found = answered(logits, [list(size)])
    expected = tf.nn.softmax(tf.image.resize(logits, size))[0].numpy()
    assert found["mask"].shape == (1, *size)
    chosen = np.take_along_axis(expected, found["mask"][0][..., np.newaxis].astype(int), -1)[..., 0]
    # Softmax before resizing and after it differ in the last bits, which decide between two classes
    # that tie.
    assert (chosen >= expected.max(-1) - 1e-3).all() and (
        found["mask"][0] == expected.argmax(-1)
    ).mean() > 0.999


def test_a_letterbox_is_cut_off_again() -> None:
    mask = np.zeros((60, 30, 1), np.uint8)
    mask[10:40, 5:20] = 1
    mask[45:, 20:] = 2
    letterbox = config(resize="letterbox")
    placed = prepare_mask(tf.constant(mask), letterbox.prepare)[..., 0].numpy()
    assert (
        placed.shape == (32, 48)
        and (placed[:, :15] == IGNORED).all()
        and (placed[:, 33:] == IGNORED).all()
    )
    logits = 20 * tf.one_hot(np.where(placed == IGNORED, 0, placed), 3)[tf.newaxis]
    found = answered(logits, [[60, 30]], resize="letterbox")["mask"][0]
    expected = tf.argmax(tf.image.resize(logits[:, :, 16:32], [60, 30])[0], -1)
    assert (found == expected.numpy()).mean() > 0.99 and (found == mask[..., 0]).mean() > 0.94


def test_masks_lie_where_pixels_do() -> None:
    picture = np.zeros((50, 90, 1), np.uint8)
    picture[12:31, 40:77] = 255
    for resize in ("stretch", "letterbox"):
        seen = config(resize=resize, channels=1, mean=[0], std=[1])
        pixels = prepare(tf.constant(picture), seen.prepare)[..., 0].numpy()
        mask = prepare_mask(tf.constant(picture // 255), seen.prepare)[..., 0].numpy()
        assert ((pixels > 0.5) == (mask == 1)).mean() > 0.99


def test_a_batch_is_answered_as_each_image_alone_and_padded() -> None:
    logits, extent = tf.concat([scores(32, 48, 1), scores(32, 48, 2)], 0), [[20, 90], [70, 40]]
    both = answered(logits, extent)
    assert both["mask"].shape == (2, 70, 90)
    for n, (height, width) in enumerate(extent):
        alone = answered(logits[n : n + 1], [extent[n]])
        np.testing.assert_array_equal(both["mask"][n, :height, :width], alone["mask"][0])
        assert (both["mask"][n, height:] == IGNORED).all() and (
            both["mask"][n, :, width:] == IGNORED
        ).all()
        for name in ("shares", "mean_probabilities", "image_size"):
            np.testing.assert_array_equal(both[name][n], alone[name][0])


def test_shares_count_pixels_and_probabilities_are_their_means() -> None:
    found = answered(scores(32, 48), [[300, 200]])
    np.testing.assert_allclose(
        found["shares"][0], np.bincount(found["mask"].ravel(), minlength=3) / 60_000, rtol=1e-6
    )
    np.testing.assert_allclose(found["mean_probabilities"].sum(), 1, rtol=1e-5)
    expected = tf.reduce_mean(tf.nn.softmax(tf.image.resize(scores(32, 48), [300, 200])), [0, 1, 2])
    np.testing.assert_allclose(found["mean_probabilities"][0], expected, atol=1e-4)
    assert found["class_names"].tolist() == [[name.encode() for name in CLASSES]]


def test_without_extents_answers_are_those_of_the_networks_input() -> None:
    plain = answer({"logits": scores(32, 48)}, config(), CLASSES)
    asked = answered(scores(32, 48), [[32, 48]])
    np.testing.assert_array_equal(plain["mask"], asked["mask"])
    np.testing.assert_allclose(plain["shares"], asked["shares"], rtol=1e-6)


def test_an_image_that_could_not_be_read_harms_no_other() -> None:
    found = answered(tf.concat([scores(32, 48), scores(32, 48)], 0), [[0, 0], [20, 20]])
    np.testing.assert_array_equal(found["mask"][1], answered(scores(32, 48), [[20, 20]])["mask"][0])
    assert all(np.isfinite(found[name]).all() for name in ("shares", "mean_probabilities"))


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """Convolutions that see 3 pixels to each side, and halve the resolution on the way."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
        keras.layers.Conv2D(3, 2, strides=2, padding="valid"),
    ]
    image = keras.Input((None, None, 3))
    x = image
    for layer in layers:
        x = layer(x)
    return keras.Model(image, {"logits": 20 * x})


@pytest.mark.parametrize("size", [(32, 32), (33, 90), (200, 64), (150, 171), (10, 100)])
def test_tiles_answer_as_the_whole_image_does_away_from_its_edges(
    size: tuple[int, int], network: keras.Model
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3)).astype(np.uint8)
    tiled = config(size=[32, 32], resize="tile", overlap=16)
    found = answer_in_tiles(lambda part: network(part), tf.constant(image), tiled, CLASSES)
    even = [length // 2 * 2 for length in size]
    whole = network((image[:, : even[0], : even[1]].astype(np.float32) / 255 - 0.5) / 0.5)["logits"]
    expected = tf.nn.softmax(tf.image.resize(whole, even))[0].numpy()
    inner = np.s_[4 : even[0] - 4, 4 : even[1] - 4]
    mask, best = found["mask"][0].numpy()[inner], expected.argmax(-1)[inner]
    chosen = np.take_along_axis(expected[inner], mask[..., np.newaxis].astype(int), -1)[..., 0]
    assert (chosen >= expected[inner].max(-1) - 1e-5).all() and (mask == best).mean() > 0.9999
    assert found["mask"].shape == (1, *size)


def test_images_in_tiles_dont_depend_on_what_they_are_padded_to(network: keras.Model) -> None:
    tiled = config(size=[32, 32], resize="tile", overlap=8)
    image = np.random.default_rng(0).integers(0, 256, (1, 45, 70, 3)).astype(np.uint8)
    padded = np.pad(image, [(0, 1), (0, 60), (0, 30), (0, 0)])
    alone = answer_in_tiles(lambda part: network(part), tf.constant(image), tiled, CLASSES)
    both = answer_in_tiles(
        lambda part: network(part),
        tf.constant(padded),
        tiled,
        CLASSES,
        tf.constant([[45, 70], [0, 0]]),
    )
    np.testing.assert_array_equal(both["mask"][0, :45, :70], alone["mask"][0])
    np.testing.assert_array_equal(both["mean_probabilities"][0], alone["mean_probabilities"][0])


def test_several_networks_answer_with_their_mean_probabilities() -> None:
    logits = tf.stack([scores(8, 8, 1), scores(8, 8, 2)])
    together = tf.nn.softmax(mean_of_softmax({"logits": logits})["logits"])
    np.testing.assert_allclose(
        together, tf.reduce_mean(tf.nn.softmax(logits), 0), rtol=1e-4, atol=1e-6
    )


def test_an_answer_is_plain_json_from_which_the_mask_comes_back() -> None:
    found = answered(scores(32, 48), [[41, 37]])
    given = json.loads(json.dumps(to_answer("segmentation", found, 0)))
    with Image.open(io.BytesIO(base64.b64decode(given["mask"]["b64"]))) as file:
        assert file.format == "PNG" and file.mode == "L"
        np.testing.assert_array_equal(np.array(file), found["mask"][0])
    assert list(np.shape(found["mask"][0])) == given["image_size"] == [41, 37]
    assert (
        sum(given["shares"].values()) == pytest.approx(1)
        and list(given["shares"].values()) == sorted(given["shares"].values())[::-1]
    )


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"model": {"backbone": "resnet18"}},
            "'model.head' is missing; add it (its kind is one of fcn, unet, segnet, deconvnet)",
        ),
        (
            {"model": {"backbone": "resnet18", "head": {"kind": "ssd"}}},
            "'model.head': kind: ssd is for task: detection, not for task: segmentation; known:",
        ),
        (
            {"data": {"source": {"kind": "voc", "path": "x"}}},
            "'data.source': kind: voc is for task: detection or localization, not for task:"
            " segmentation; known:",
        ),
        (
            {"loss": {"kind": "multibox"}},
            "'loss': kind: multibox is for task: detection, not for task: segmentation; known:"
            " 'softmax', 'focal', 'dice'",
        ),
        (
            {"prepare": {"size": [32, 32], "resize": "crop"}},
            "'prepare.resize' should be 'stretch', 'letterbox' or 'tile', not \"crop\", which is"
            " for task: classification",
        ),
        ({"prepare": {"size": [64, 64], "resize": "tile", "overlap": 40}}, "more than half"),
        ({"prepare": {"size": [128, 128], "resize": "tile"}, "augment": []}, "add op: scale_crop"),
        (
            {
                "prepare": {"size": [128, 128], "resize": "tile"},
                "augment": [{"op": "flip"}, {"op": "scale_crop"}, {"op": "expand"}],
            },
            "augment.2: expand makes images larger than the crops that prepare.resize: tile needs;"
            " put it before op: scale_crop",
        ),
        (
            {"augment": [{"op": "mosaic"}]},
            "'augment.0': op: mosaic is for task: detection or localization, not for task:"
            " segmentation; known:",
        ),
        (
            {"augment": [{"op": "rand_augment"}]},
            "'augment.0': op: rand_augment is for task: classification, not for task: segmentation",
        ),
        (
            {"loss": {"kind": "dice", "dice_weight": 1}},
            "'loss.dice_weight' is for kind: softmax or focal, not for kind: dice; leave it out",
        ),
        (
            {"mix": [{"op": "mixup"}]},
            "'mix' is for task: classification, not for task: segmentation; leave it out",
        ),
        (
            {"test_time": {"views": "ten"}},
            "'test_time.views' should be 'one', 'mirrored' or 'flipped', not \"ten\"",
        ),
        (
            {"model": {**PIPELINE["model"], "drop_connect": 0.5}},
            "'model.drop_connect' is for task: classification, not for task: segmentation; leave",
        ),
    ],
)
def test_incompatible_settings_are_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        config_file.parse(json.dumps({**PIPELINE, **changes}), "config.json")
