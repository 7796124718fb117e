"""Explanations of a network's scores: one map for each image and method."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.decode import decode_image
from cvpipe.data.prepare import input_spec, prepare, restore_pixels
from cvpipe.errors import ConfigError, DataError, unknown_value
from cvpipe.explain.cam import grad_cam, grad_cam_pp, score_cam
from cvpipe.explain.gradients import gradient_input, integrated_gradients, saliency, smooth_grad
from cvpipe.explain.guided import guided_backprop, with_rule
from cvpipe.explain.perturbation import occlusion, rise
from cvpipe.explain.score import Score, Subject, feature_layer, subject_of
from cvpipe.explain.segment import find_slic, superpixel_occlusion
from cvpipe.tasks.task import Networks, Task

SEED = (0, 20)
METHODS = (
    "saliency",
    "gradient_input",
    "smooth_grad",
    "integrated_gradients",
    "guided_backprop",
    "deconvnet",
    "grad_cam",
    "grad_cam_pp",
    "score_cam",
    "occlusion",
    "superpixels",
    "rise",
)
SCORING = frozenset({"occlusion", "superpixels", "rise"})
"""Methods that score many changed images, and use nothing else of the network."""


def explain(
    subject: Subject,
    images: tf.Tensor,
    classes: tf.Tensor,
    methods: Sequence[str],
    layer: str | None = None,
) -> dict[str, np.ndarray]:
    """Return a map for each method, float32 [B, H, W].

    Args:
        subject: the network.
        images: prepared images, float32 [B, H, W, C].
        classes: int32 [B].
        methods: names among METHODS.
        layer: name of the feature map for class activation maps; None: the last one.

    Raises:
        ConfigError: a method is unknown, or doesn't support the network.
    """
    scored = None if SCORING.isdisjoint(methods) else subject.folded()
    found = {}
    for name in methods:
        graph = tf.function(method_of(name, subject, layer, scored), autograph=False)
        found[name] = graph(images, classes).numpy()
    return found


def read_images(files: Sequence[bytes], names: Sequence[str], config: Config) -> tf.Tensor:
    """Decode and prepare encoded images, float32 [B, H, W, C].

    Raises:
        ConfigError: images are predicted in tiles or in several views.
        DataError: an image can't be decoded; the message has its name.
    """
    check_single_map(config)
    prepared = []
    for name, content in zip(names, files, strict=True):
        try:
            image = decode_image(tf.constant(content), config.prepare.channels)
        except tf.errors.InvalidArgumentError:
            raise DataError(
                f"{name}: can't be decoded; give only JPEG, PNG, BMP or WebP images"
            ) from None
        prepared.append(prepare(image, config.prepare))
    return tf.stack(prepared)


def check_single_map(config: Config) -> None:
    """Raise ConfigError if an image is split into several inputs of the network."""
    spec = input_spec(config)
    if len(spec.shape) != 4 or not spec.shape[1:].is_fully_defined():
        raise ConfigError(
            "this pipeline predicts tiles or several views of an image, which have no single map;"
            " use a run with prepare.resize: stretch or letterbox, and one view"
        )


def answered(subject: Subject, images: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the class with the highest score of each image, int32 [B], and that score."""
    scores = subject.all_scores(images).numpy()
    best = scores.argmax(axis=1).astype(np.int32)
    return best, scores[np.arange(len(best)), best]


def pixels_of(images: tf.Tensor, config: Config) -> np.ndarray:
    """Return prepared images as uint8 [B, H, W, C]."""
    return np.asarray(restore_pixels(images, config.prepare))


def supported_methods(subject: Subject, layer: str | None = None) -> list[str]:
    """Return the METHODS that support a network."""
    found = []
    for name in METHODS:
        try:
            method_of(name, subject, layer)
        except ConfigError:
            continue
        found.append(name)
    return found


def exported_methods(
    networks: Networks, task: Task, config: Config
) -> tuple[Subject, dict[str, Score]]:
    """Return a network as a subject, and the methods in `export.explain` by name.

    Raises:
        ConfigError: the task has no classes, an image has several views, or a method doesn't
            support the network. The message begins with the key.
    """
    try:
        check_single_map(config)
        subject = subject_of(task, dict(networks))
        # No folded copy, because an artifact has the weights only once.
        return subject, {str(name): method_of(name, subject) for name in config.export.explain}
    except ConfigError as error:
        raise ConfigError(f"export.explain: {error}") from None


def method_of(
    name: str, subject: Subject, layer: str | None = None, scored: Subject | None = None
) -> Score:
    """Return a method: a function that maps prepared images and their classes to maps, float32 [B,
    H, W]. Call `method_of` outside of graphs, because some methods make layers.

    Args:
        name: among METHODS.
        subject: the network.
        layer: name of the feature map for class activation maps; None: the last one.
        scored: the network for SCORING methods, such as `subject.folded()`; None: `subject`.

    Raises:
        ConfigError: the method is unknown, or doesn't support the network.
    """
    if name not in METHODS:
        raise unknown_value("--method", name, METHODS)
    seed = tf.constant(SEED, tf.int64)
    if name in SCORING and scored is not None:
        subject = scored
    match name:
        case "saliency":
            return partial(saliency, subject.score)
        case "gradient_input":
            return partial(gradient_input, subject.score)
        case "smooth_grad":
            return partial(smooth_grad, subject.score, seed=seed)
        case "integrated_gradients":
            return partial(integrated_gradients, subject.score)
        case "guided_backprop":
            return partial(guided_backprop, with_rule(subject, "guided"))
        case "deconvnet":
            return partial(guided_backprop, with_rule(subject, "deconvnet"))
        case "occlusion":
            patch = max(min(subject.network.input_shape[1:3]) // 7, 1)
            return partial(occlusion, subject.score, patch=patch, stride=max(patch // 2, 1))
        case "superpixels":
            find_slic()
            return partial(superpixel_occlusion, subject.score)
        case "rise":
            return partial(rise, subject.probability, seed=seed)
    cam = {"grad_cam": grad_cam, "grad_cam_pp": grad_cam_pp, "score_cam": score_cam}[name]
    return partial(cam, subject, layer=feature_layer(subject.network, layer))
