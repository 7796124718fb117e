"""Guards perceptual losses: Gram matrices, distances and features follow their definitions."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cvpipe.config.prepare import Prepare
from cvpipe.config.style import PerceptualLoss, StyleImage, Vgg16Layer
from cvpipe.errors import DataError
from cvpipe.losses.perceptual import LAYERS, content_loss, gram, random_features, style_loss
from cvpipe.losses.style import perceptual_loss, read_style, style_targets
from cvpipe.models.blocks import Style
from cvpipe.models.build import backbone, backbone_features


def images(*shape: int, seed: int = 0) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).uniform(size=shape), tf.float32)


def test_a_gram_matrix_is_the_mean_product_of_channels() -> None:
    features = images(2, 3, 4, 5).numpy()
    expected = np.zeros((2, 5, 5))
    for row in range(3):
        for column in range(4):
            for n in range(2):
                pixel = features[n, row, column]
                expected[n] += np.outer(pixel, pixel) / 12
    np.testing.assert_allclose(gram(tf.constant(features)), expected, rtol=1e-5)
    of_any_size = tf.function(gram, input_signature=[tf.TensorSpec([None, None, None, 5])])
    np.testing.assert_allclose(of_any_size(features), expected, rtol=1e-5)


def test_losses_are_relative_squared_distances() -> None:
    found, wanted = images(2, 3, 4, 5), images(2, 3, 4, 5, seed=1)
    f, w = found.numpy(), wanted.numpy()
    content = ((f - w) ** 2).sum((1, 2, 3)) / (w**2).sum((1, 2, 3))
    np.testing.assert_allclose(content_loss({"a": found}, {"a": wanted}), content, rtol=1e-5)
    g, h = gram(found).numpy(), gram(wanted).numpy()
    style = ((g - h) ** 2).sum((1, 2)) / (h**2).sum((1, 2))
    both = {"a": found, "b": wanted}
    grams = {"a": gram(wanted), "b": gram(wanted)}
    np.testing.assert_allclose(style_loss(both, grams), style / 2, rtol=1e-5)
    np.testing.assert_allclose(style_loss({"a": wanted}, {"a": gram(wanted)}), 0, atol=1e-7)


def test_features_are_those_of_the_network_of_the_catalog() -> None:
    features = random_features(width=0.125)
    prepare = Prepare(size=(32, 40), normalize="weights")
    image, maps = backbone_features(
        backbone("vgg16"), (32, 40, 3), width=0.125, style=Style(), normalize=prepare
    )
    network = keras.Model(image, list(maps.values())[:5])
    for variable in network.variables:
        variable.assign(features.weights[variable.path])
    x = images(2, 32, 40, 3)
    last = ("stage1_conv2", "stage2_conv2", "stage3_conv3", "stage4_conv3", "stage5_conv3")
    found = features.of(x, last)
    for name, expected in zip(last, network(x), strict=True):
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-4)
    assert Vgg16Layer.__args__ == LAYERS


def test_each_photo_has_the_loss_of_its_style(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        pixels = (255 * images(20, 24, 3, seed=seed).numpy()).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    styles = tuple(
        StyleImage(name=name, file=str(tmp_path / f"{name}.png"), size=20) for name in ("a", "b")
    )
    loss = PerceptualLoss(kind="perceptual", styles=styles, features="random", features_width=0.125)
    targets, photos = style_targets(loss), images(2, 16, 16, 3)
    parts = perceptual_loss(photos, photos, tf.eye(2), targets, loss)
    np.testing.assert_allclose(parts["content"], 0, atol=1e-6)
    for n, name in enumerate(("a", "b")):
        of_style = loss.model_copy(update={"styles": (styles[n],)})
        alone = perceptual_loss(
            photos[n : n + 1], photos[n : n + 1], tf.ones([1, 1]), style_targets(of_style), of_style
        )
        for part in parts:
            np.testing.assert_allclose(parts[part][n], alone[part][0], rtol=1e-4, err_msg=name)


def test_an_unreadable_style_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"garbage")
    for file, message in (("bad.png", "can't be decoded"), ("none.png", "can't be read")):
        with pytest.raises(DataError, match=f"loss.styles: a: .*{file}: {message}"):
            read_style(StyleImage(name="a", file=str(tmp_path / file)))
