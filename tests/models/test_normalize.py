"""Guards the layer that normalizes images by statistics of the training set."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from cvpipe.config.prepare import Prepare
from cvpipe.data.statistics import normalization
from cvpipe.models.build import classification_network
from cvpipe.models.normalize import Normalize

IMAGES = np.random.default_rng(0).random((50, 4, 5, 3), np.float32)


@pytest.mark.parametrize("kind", ["channels", "image", "pca", "zca"])
def test_the_layer_applies_the_statistics(kind: str) -> None:
    config = Prepare(size=(4, 5), normalize=kind)
    layer, found = Normalize(kind, (4, 5, 3), name="normalize"), normalization([IMAGES], config)
    layer.set_statistics(found)
    expected = IMAGES - found["mean"]
    if "scale" in found:
        expected = expected * found["scale"]
    if "matrix" in found:
        expected = (expected.reshape(50, -1) @ found["matrix"]).reshape(IMAGES.shape)
    np.testing.assert_allclose(layer(IMAGES), expected, atol=1e-4)


def test_without_statistics_the_layer_changes_nothing() -> None:
    for kind in ("channels", "image", "zca"):
        np.testing.assert_array_equal(Normalize(kind, (4, 5, 3), name="normalize")(IMAGES), IMAGES)


def test_the_layer_is_first_is_not_trained_and_has_the_same_paths_each_time() -> None:
    for _ in range(2):
        model = classification_network(
            "resnet20", (4, 5, 3), 2, width=0.25, normalize=Prepare(size=(4, 5), normalize="zca")
        )
        assert [variable.path for variable in model.variables[:2]] == [
            "normalize/mean",
            "normalize/matrix",
        ]
        assert not any("normalize" in variable.path for variable in model.trainable_variables)


def test_the_layer_stays_in_float32_under_half_precision() -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert Normalize("image", (4, 5, 3), name="normalize")(IMAGES).dtype == "float32"
    finally:
        keras.config.set_dtype_policy(before)
