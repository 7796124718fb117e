"""Guards each family of networks: it learns a few digits, starts with the same weights for the same
seed, can be exported, is compiled by XLA with its training step, and computes in bfloat16.
"""

from __future__ import annotations

import functools
import os
from math import exp, log
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from conftest import small_config, soaked
from cvpipe.data.facts import Facts
from cvpipe.models.abstract import without_weights
from cvpipe.models.build import classification_network
from cvpipe.models.catalog import NETWORKS
from cvpipe.tasks import load_task
from cvpipe.tasks.classification import loss

SMALL = {
    "lenet5_sparse": (32, 1.0),
    "alexnet": (67, 0.0625),
    "squeezenet1_0_bypass": (33, 0.25),
    "densenet40_12": (16, 0.25),
    "fractalnet20": (16, 0.125),
    "preresnet110": (8, 0.5),
    "mobilenet_v1": (32, 0.25),
    "zfnet": (64, 0.0625),
    "overfeat_fast": (99, 0.0625),
    "overfeat_accurate": (77, 0.0625),
    "vgg11_fc": (32, 0.0625),
    "nin_cifar": (16, 0.25),
    "nin_imagenet": (67, 0.125),
    "googlenet": (64, 0.25),
    "inception_v2": (32, 0.125),
    "inception_v3": (75, 0.125),
    "inception_v4": (75, 0.0625),
    "inception_resnet_v2": (75, 0.0625),
    "plain20": (16, 0.5),
    "preresnet50": (32, 0.125),
    "wrn28_10": (8, 0.1),
    "wide_resnet50_2": (32, 0.0625),
    "resnext50_32x4d": (32, 0.0625),
    "se_resnet50": (32, 0.125),
    "densenet121": (32, 0.125),
    "nasnet_mobile": (33, 0.25),
    "cells": (8, 0.5),
    "mobilenet_v3_small": (32, 0.5),
    "mobilenet_v3_large": (32, 0.25),
    "shufflenet_g3": (32, 0.25),
    "xception": (71, 0.0625),
    "efficientnet_b0": (32, 0.25),
}
"""Size of a small image and width of a small network of each family."""
MOST_STEPS = 200
"""Networks without normalization learn slowly at first, and with dropout even more slowly."""
QUICK = ("lenet5_sparse",)
SOME = ("squeezenet1_0_bypass", "googlenet", "mobilenet_v3_small")
# CVPIPE_NETWORKS=all makes `make soak` take a quarter of an hour more.
LONG = list(SMALL) if os.environ.get("CVPIPE_NETWORKS") == "all" else SOME
FAMILIES = [*QUICK, *soaked(*(name for name in LONG if name not in QUICK))]


def build(name: str, **settings: bool) -> keras.Model:
    keras.utils.set_random_seed(1)
    size, width = SMALL[name]
    return classification_network(name, (size, size, 1), 10, width=width, **settings)


@functools.cache
def built(name: str) -> keras.Model:
    """Return a network that tests share; they may change its statistics but not its weights."""
    return build(name)


def loss_of(model: keras.Model, images: tf.Tensor, labels: np.ndarray) -> tf.Tensor:
    """Return the cross-entropy of a batch in training mode."""
    logits = model(images, training=True)["logits"]
    return tf.reduce_mean(
        keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    )


def digits(name: str, count: int) -> tuple[tf.Tensor, np.ndarray]:
    """Return the first scanned digits in the input size of a network, [count, size, size, 1], and
    their labels.
    """
    images, labels = load_digits(return_X_y=True)
    pixels = images[:count].reshape(count, 8, 8, 1).astype("float32") / 8 - 1
    return tf.image.resize(pixels, [SMALL[name][0]] * 2), labels[:count]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_has_reproducible_initial_weights_and_learns_digits(name: str) -> None:
    model, again = build(name), build(name)
    images, labels = digits(name, 64)
    for ours, theirs in zip(model.variables, again.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    optimizer = keras.optimizers.Adam(2e-3)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            mean = loss_of(model, images, labels)
        gradients = tape.gradient(mean, [v.value for v in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)
        return mean

    losses = [float(step())]
    assert losses[0] == pytest.approx(log(10), abs=0.4)
    while losses[-1] > 0.7 * losses[0] and len(losses) < MOST_STEPS:
        losses.append(float(step()))
    assert losses[-1] <= 0.7 * losses[0], losses[:: len(losses) // 5]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_familys_saved_model_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    model, (images, _) = built(name), digits(name, 2)
    archive = keras.export.ExportArchive()
    archive.track(model)
    spec = tf.TensorSpec((None, *model.input_shape[1:]))
    archive.add_endpoint("serve", lambda image: model(image, training=False)["logits"], [spec])
    archive.write_out(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")
    served = loaded.serve(images)
    expected = tf.function(lambda image: model(image, training=False)["logits"])(images)
    np.testing.assert_allclose(served, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [*soaked(*LONG)])
def test_xla_computes_the_logits_of_a_family(name: str) -> None:
    model, (images, _) = built(name), digits(name, 2)
    expected = model(images)["logits"]
    compiled = tf.function(lambda image: model(image)["logits"], jit_compile=True)(images)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(compiled, expected, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("name", soaked(*LONG))
def test_xla_compiles_the_training_step_of_a_family(name: str) -> None:
    model, (images, labels) = built(name), digits(name, 8)
    variables = [variable.value for variable in model.trainable_variables]

    def step() -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            mean = loss_of(model, images, labels)
        return mean, tape.gradient(mean, variables)

    compiled, gradients = tf.function(step, jit_compile=True)()
    assert np.isfinite(compiled) and all(np.isfinite(gradient).all() for gradient in gradients)
    # XLA draws other random numbers, so networks with dropout can't be compared.
    if not NETWORKS[name].random:
        expected, same = tf.function(step)()
        assert float(compiled) == pytest.approx(float(expected), rel=1e-3)
        difference = tf.linalg.global_norm([a - b for a, b in zip(gradients, same, strict=True)])
        assert float(difference) < 0.01 * float(tf.linalg.global_norm(same))


@pytest.mark.parametrize("name", [*QUICK, *soaked(*(long for long in LONG if long not in QUICK))])
def test_a_family_computes_in_bfloat16_and_answers_in_float32(
    name: str, mixed_bfloat16: None
) -> None:
    images, labels = digits(name, 8)
    keras.config.set_dtype_policy("float32")
    expected = np.asarray(build(name)(images)["logits"])
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = build(name)
    assert "bfloat16" in {layer.compute_dtype for layer in model.layers}
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    logits = model(images)["logits"]
    assert logits.dtype == tf.float32
    np.testing.assert_allclose(logits, expected, atol=0.1 * np.abs(expected).max())
    with tf.GradientTape() as tape:
        mean = loss_of(model, images, labels)
    gradients = tape.gradient(mean, [variable.value for variable in model.trainable_variables])
    assert np.isfinite(mean) and all(np.isfinite(gradient).all() for gradient in gradients)


def test_losses_of_auxiliary_classifiers_are_weighted_parts() -> None:
    config = small_config(
        "model={backbone: googlenet, width: 0.0625, auxiliary: 0.3}",
        "prepare.size=[64, 64]",
        "loss={kind: softmax}",
    )
    task = load_task(config, Facts(("a", "b")))
    with without_weights():
        [network] = task.build(False).values()
    assert sorted(network.output) == ["auxiliary1", "auxiliary2", "logits"]
    logits = {"logits": [[1.0, 0.0]], "auxiliary1": [[2.0, 0.0]], "auxiliary2": [[0.0, 3.0]]}
    outputs = {name: tf.constant(value) for name, value in logits.items()}
    parts = loss(outputs, {"label": tf.constant([0])}, config)
    expected = {"cross_entropy": log(1 + exp(-1)), "auxiliary1": 0.3 * log(1 + exp(-2))}
    expected["auxiliary2"] = 0.3 * log(1 + exp(3))
    assert {name: float(value[0]) for name, value in parts.items()} == pytest.approx(expected)
    assert task.initial_loss() == pytest.approx(1.6 * log(2))
