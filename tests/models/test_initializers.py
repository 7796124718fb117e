"""Guards kernel initializers, and units with equal initial weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import small_config
from cvpipe.errors import ConfigError
from cvpipe.models.blocks import Style, conv_norm, depthwise_norm
from cvpipe.models.build import classification_network
from cvpipe.models.initializers import Initializer


@pytest.fixture(autouse=True)
def same_weights_every_time():
    keras.utils.set_random_seed(0)


def kernels(initializer):
    """Return the kernels of a convolution (fan-in 9·64, fan-out 9·128) and of a depthwise one."""
    image, style = keras.Input((8, 8, 64)), Style(initializer=initializer)
    wide = keras.Input((8, 8, 512))
    convolution = keras.Model(
        image, conv_norm(image, 128, 3, 1, style=style, activation=None, name="c")
    )
    depthwise = keras.Model(
        wide, depthwise_norm(wide, 3, 1, style=style, activation=None, name="d")
    )
    return convolution.trainable_variables[0].numpy(), depthwise.trainable_variables[0].numpy()


@pytest.mark.parametrize(
    "initializer, convolution, depthwise",
    [
        (Initializer("he"), (2 / (9 * 64)) ** 0.5, (2 / 9) ** 0.5),
        (Initializer("xavier"), (2 / (9 * 64 + 9 * 128)) ** 0.5, (2 / 18) ** 0.5),
        (Initializer("gaussian", 0.3), 0.3, 0.3),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_kernels_have_the_papers_deviation(initializer, convolution, depthwise):
    for kernel, deviation in zip(kernels(initializer), (convolution, depthwise)):
        assert np.std(kernel) == pytest.approx(deviation, rel=0.05)
        assert abs(np.mean(kernel)) < 0.1 * deviation


def test_xavier_is_uniform():
    limit = (6 / (9 * 64 + 9 * 128)) ** 0.5
    kernel, _ = kernels(Initializer("xavier"))
    assert 0.99 * limit < np.abs(kernel).max() <= limit * (1 + 1e-6)


def test_no_two_layers_start_with_equal_weights():
    model = classification_network(
        "resnet20", (16, 16, 3), 10, width=0.5, style=Style(initializer=Initializer("gaussian"))
    )
    drawn = [
        variable.numpy().tobytes()
        for variable in model.variables
        if variable.path.endswith("kernel")
    ]
    assert len(set(drawn)) == len(drawn)


def deviation(name, path, initializer):
    model = classification_network(
        name, (32, 32, 1), 10, style=Style(initializer=Initializer(initializer))
    )
    return np.std(next(variable for variable in model.variables if variable.path == path))


def test_he_excludes_tanh_and_last_layers_and_other_initializers_apply_to_all_layers():
    assert deviation("lenet5", "c3/kernel", "he") == pytest.approx(
        (2 / (150 + 400)) ** 0.5, rel=0.05
    )
    assert deviation("lenet5", "hidden1/kernel", "he") == pytest.approx(
        (2 / (120 + 84)) ** 0.5, rel=0.05
    )
    assert deviation("two_layer", "hidden/kernel", "he") == pytest.approx(
        (2 / 1024) ** 0.5, rel=0.05
    )
    assert deviation("lenet5", "logits/kernel", "he") == pytest.approx(0.01, rel=0.1)
    assert deviation("lenet5", "logits/kernel", "xavier") == pytest.approx(
        (2 / (84 + 10)) ** 0.5, rel=0.1
    )
    assert deviation("lenet5", "hidden1/kernel", "gaussian") == pytest.approx(0.01, rel=0.05)


def trained_units(initializer):
    """Return the kernel of a hidden layer after some training steps, one column per unit."""
    model = classification_network(
        "two_layer", (6, 6, 1), 3, width=0.1, style=Style(initializer=initializer)
    )
    images, labels = tf.random.stateless_normal((24, 6, 6, 1), (0, 0)), np.arange(24) % 3
    optimizer = keras.optimizers.SGD(0.5)
    for _ in range(10):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)["logits"]
            loss = keras.ops.mean(
                keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            )
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    return model.get_layer("hidden").kernel.numpy()


def test_units_that_start_equal_stay_equal_and_others_do_not():
    alike, different = (
        trained_units(Initializer("constant", 0.1)),
        trained_units(Initializer("gaussian", 0.1)),
    )
    assert np.ptp(alike, axis=0).max() > 0.05  # The weights did change.
    np.testing.assert_allclose(
        alike, np.broadcast_to(alike[:, :1], alike.shape), rtol=1e-5, atol=1e-6
    )
    assert np.ptp(different, axis=1).min() > 0.05


def test_a_deviation_of_zero_is_an_error():
    with pytest.raises(ConfigError, match="initializer_value"):
        small_config("model.initializer=gaussian", "model.initializer_value=0")
