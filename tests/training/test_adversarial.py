"""Guards adversarial training: the images that the loss is computed on, their weights, and the
statistics of batch normalization.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from conftest import small_config
from cvpipe.data.facts import Facts
from cvpipe.errors import ConfigError
from cvpipe.tasks import load_task
from cvpipe.training.adversarial import with_attacks
from cvpipe.training.build import build_state

FACTS = Facts(tuple("0123456789"))
SEED = tf.constant([3, 4], tf.int64)


def losses(batch: dict[str, Any], *adversarial: str) -> np.ndarray:
    """Return the loss of each image in a training step with `train.adversarial`; without it, of
    the plain step.
    """
    config = small_config(
        "model={backbone: two_layer, norm: none}", "prepare.size=[8, 8]", *adversarial
    )
    plain = load_task(config, FACTS)
    networks = build_state(config, plain, examples=100)[0].networks
    [update] = with_attacks(plain, config).updates
    [found] = update.losses(networks, batch, SEED).values()
    return np.array(found)


@pytest.fixture(scope="module")
def batch() -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        "image": tf.constant(random.random((6, 8, 8, 1)), tf.float32),
        "targets": {"label": tf.constant(random.integers(0, 10, 6), tf.int32)},
        "weight": tf.ones([6]),
    }


def test_the_loss_is_that_of_attacked_images_and_higher(batch: dict[str, Any]) -> None:
    attacked = losses(batch, "train.adversarial={epsilon: 0.1, steps: 3}")
    assert attacked.shape == (6,) and (attacked > losses(batch)).all()


@pytest.mark.parametrize("clean, attacked", [(0.5, 3), (0.7, 2), (0.9, 1)])
def test_a_share_of_the_batch_is_not_attacked(
    batch: dict[str, Any], clean: float, attacked: int
) -> None:
    plain = losses(batch)
    found = losses(batch, f"train.adversarial={{epsilon: 0.1, steps: 3, clean: {clean}}}")
    assert (found[:attacked] > plain[:attacked]).all()
    np.testing.assert_array_equal(found[attacked:], plain[attacked:])


def test_a_share_that_leaves_no_image_to_attack_is_refused(batch: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="clean: none of the 6 images that a device processes"):
        losses(batch, "train.adversarial={epsilon: 0.1, clean: 0.95}")


def moving_statistics(batch: dict[str, Any], *adversarial: str) -> list[np.ndarray]:
    """Return the moving statistics of batch normalization after a step of training."""
    config = small_config("model={backbone: resnet8}", "prepare.size=[8, 8]", *adversarial)
    plain = load_task(config, FACTS)
    networks = build_state(config, plain, examples=100)[0].networks
    [update] = with_attacks(plain, config).updates
    tf.function(update.losses)(networks, batch, SEED)
    return [
        variable.numpy()
        for network in networks.values()
        for variable in network.non_trainable_variables
        if variable.path.endswith(("moving_mean", "moving_variance"))
    ]


@pytest.mark.parametrize("clean", [0, 0.5])
def test_steps_of_an_attack_leave_moving_statistics(batch: dict[str, Any], clean: float) -> None:
    # An attack of radius 0 trains on the images themselves.
    attack = f"train.adversarial={{epsilon: 1.0e-9, steps: 3, clean: {clean}}}"
    plain = moving_statistics(batch)
    attacked = moving_statistics(batch, attack)
    assert plain and not all(np.all(values == 1) for values in plain)
    for expected, found in zip(plain, attacked, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
