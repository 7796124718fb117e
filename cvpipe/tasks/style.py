"""Style transfer: one network renders photos in one or several styles.

Dimensions: B images, H and W the largest height and width among them, N styles.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from cvpipe.config import Style
from cvpipe.data.example import Batch
from cvpipe.data.facts import Facts
from cvpipe.data.prepare import normalize_colors, restore_colors
from cvpipe.data.sources import Example
from cvpipe.fields import Field, pad_to
from cvpipe.losses.style import StyleTargets, perceptual_loss, style_targets
from cvpipe.metrics.style import StyleMetrics
from cvpipe.models.stylizer import STRIDE, stylizer
from cvpipe.tasks.task import IMAGE_SIZE, BestBy, Networks, Option, Task, Tensors, Update

PICTURE = Field(
    "close",
    padding=-1.0,
    meaning="[B, H, W, 3]: red, green and blue in 0 to 1; −1 beyond the edges of a smaller image",
)
PHOTO = Field("exact", padding=0)
ANSWERS = {
    "picture": PICTURE,
    "image_size": IMAGE_SIZE,
    "picture_bytes": Field("exact", meaning="[B]: the picture as a PNG"),
}
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luminance of a pixel, as in YIQ."""


def make_task(config: Style, facts: Facts) -> Task:
    """Create the style task."""
    names = [style.name for style in config.loss.styles]

    @functools.cache
    def targets() -> StyleTargets:
        # Load VGG16 only when a loss is computed: artifacts and predictions don't need it.
        with tf.init_scope():
            return style_targets(config.loss)

    def predict(
        networks: Networks, image: tf.Tensor, extent: tf.Tensor | None = None, **options: tf.Tensor
    ) -> Tensors:
        return answer(networks["network"], image, config, extent, options)

    def losses(networks: Networks, batch: Batch, seed: tf.Tensor) -> Tensors:
        images = batch["image"]
        # One random style per photo, so training covers all styles.
        drawn = tf.random.stateless_uniform([images.shape[0]], seed, 0, len(names), tf.int32)
        weights = tf.one_hot(drawn, len(names))
        outputs = networks["network"]([images, weights], training=True)
        photo = restore_colors(images, config.prepare)
        return perceptual_loss(outputs["picture"], photo, weights, targets(), config.loss)

    return Task(
        build=lambda synchronized: {"network": stylizer(config.model, len(names))},
        encode=lambda example: {},
        truth=truth,
        targets={"photo": PHOTO},
        updates=(Update(losses),),
        predict=predict,
        answers=ANSWERS,
        metrics=lambda: StyleMetrics(_scores(targets, config)),
        best_by=BestBy("perceptual_loss", "min"),
        options={
            **{
                name: Option(
                    1.0 if number == 0 else 0.0,
                    f"weight of the style {name}; weights of several styles blend them, and if all"
                    f" are 0, the style is {names[0]}",
                    0,
                )
                for number, name in enumerate(names)
            },
            "keep_color": Option(0.0, "1 keeps the photo's colors, 0 takes the style's", 0, 1),
        },
        decorate=decorate,
    )


def truth(example: Example) -> Tensors:
    """Return the photo itself: {"photo": uint8 [height, width, 3]}."""
    return {"photo": example["image"]}


def answer(
    network: Callable[..., Tensors],
    images: tf.Tensor,
    config: Style,
    extent: tf.Tensor | None,
    options: Tensors,
) -> Tensors:
    """Return the answers, the same in evaluation and in the artifact.

    Args:
        network: a `stylizer`.
        images: uint8 [B, H, W, 3], padded at the right and bottom.
        config: the pipeline.
        extent: int32 [B, 2], height and width of each image without padding; None if there is no
            padding.
        options: weights of the styles by name, and "keep_color". Missing options have their
            defaults.

    Returns:
        "picture" float32 [B, H, W, 3] in 0…1, −1 beyond an image; "image_size" int32 [B, 2].
    """
    if extent is None:
        extent = tf.tile(tf.shape(images)[tf.newaxis, 1:3], [tf.shape(images)[0], 1])
    extent = tf.maximum(extent, 1)
    first = config.loss.styles[0].name
    given = [
        options.get(style.name, tf.constant(1.0 if style.name == first else 0.0))
        for style in config.loss.styles
    ]
    weights = tf.nn.relu(tf.stack(given))
    weights = tf.where(tf.reduce_sum(weights) > 0, weights, tf.one_hot(0, len(given)))
    weights /= tf.reduce_sum(weights)
    color = tf.clip_by_value(options.get("keep_color", tf.constant(0.0)), 0.0, 1.0)
    room = tf.maximum(tf.shape(images)[1:3], tf.reduce_max(extent, 0))

    def one(given: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        image, size = given
        # An unreadable image has no pixels, but layers need at least one.
        image = pad_to(image[: size[0], : size[1]], tf.concat([size, [3]], 0), PHOTO)
        photo = tf.cast(image, tf.float32) / 255
        picture = with_colors_of(photo, stylized(network, photo, weights, config), color)
        return tf.ensure_shape(pad_to(picture, tf.concat([room, [3]], 0), PICTURE), [None, None, 3])

    pictures = tf.map_fn(
        one,
        (images, extent),
        fn_output_signature=tf.TensorSpec([None, None, 3]),
        parallel_iterations=1,
    )
    return {"picture": pictures, "image_size": extent}


def stylized(
    network: Callable[..., Tensors], photo: tf.Tensor, weights: tf.Tensor, config: Style
) -> tf.Tensor:
    """Return a photo's picture in a blend of styles, float32 [h, w, 3] in 0…1. Graph code.

    Args:
        network: a `stylizer`.
        photo: float32 [h, w, 3] in 0…1.
        weights: float32 [N], weights of the styles, whose sum is 1.
        config: the pipeline.
    """
    size = tf.shape(photo)[:2]
    scale = tf.minimum(1.0, config.prepare.longest / tf.reduce_max(tf.cast(size, tf.float32)))
    small = tf.cast(tf.round(tf.cast(size, tf.float32) * scale), tf.int32)
    # The network pads by mirroring, for which very small images don't have enough pixels.
    small = tf.maximum(-(-small // STRIDE) * STRIDE, 6 * STRIDE)
    seen = tf.image.resize(photo, small, antialias=True)
    seen = tf.ensure_shape(normalize_colors(seen, config.prepare), [None, None, 3])
    picture = network([seen[tf.newaxis], weights[tf.newaxis]], training=False)["picture"][0]
    return tf.clip_by_value(tf.image.resize(picture, size, antialias=True), 0.0, 1.0)


def with_colors_of(photo: tf.Tensor, picture: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Blend a picture with a version of it in the photo's colors, float32 [h, w, 3] in 0…1.

    The version combines the picture's luminance with the photo's chrominance (Gatys et al. 2016,
    Preserving color, section 3.2). `share` is the weight of the version.
    """
    light, own = (tf.reduce_sum(x * LUMA, -1, keepdims=True) for x in (picture, photo))
    return tf.clip_by_value((1 - share) * picture + share * (light + photo - own), 0.0, 1.0)


def decorate(pixels: tf.Tensor, answers: Tensors) -> Tensors:
    """Encode the picture of one image as a PNG: "picture_bytes", empty if it has no pixels."""
    height, width = tf.unstack(tf.shape(pixels)[:2])
    picture = answers["picture"][:height, :width]

    def encoded() -> tf.Tensor:
        return tf.io.encode_png(tf.cast(tf.round(255 * tf.nn.relu(picture)), tf.uint8))

    return {"picture_bytes": tf.cond(height * width > 0, encoded, lambda: tf.constant(b""))}


def _scores(
    targets: Callable[[], StyleTargets], config: Style
) -> Callable[[tf.Tensor, tf.Tensor], Tensors]:
    """Return a function that maps a picture in the first style and its photo to the parts of the
    loss. It resizes both to the size of training images.
    """

    @tf.function(reduce_retracing=True, autograph=False)
    def scores(picture: tf.Tensor, photo: tf.Tensor) -> Tensors:
        both = [
            tf.image.resize(x[tf.newaxis], config.prepare.size, antialias=True)
            for x in (picture, tf.cast(photo, tf.float32) / 255)
        ]
        weights = tf.one_hot([0], len(config.loss.styles))
        return perceptual_loss(both[0], both[1], weights, targets(), config.loss)

    return scores
