"""Guards mixed examples: every pixel and every label is accounted for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from cvpipe.config.augment.combined import CutMix, Mix, MixUp
from cvpipe.data.augment.mix import mix

MIXUP, CUTMIX = MixUp(op="mixup", alpha=0.8), CutMix(op="cutmix")


def seeds(examples: int, first: int = 0) -> np.ndarray:
    return np.stack(
        [np.full(examples, 3), 128 * np.arange(first, first + examples) + 127], -1
    ).astype(np.int64)


def batch(examples: int, height: int = 5, width: int = 4, channels: int = 3) -> dict[str, Any]:
    """Images of noise, no two pixels alike."""
    image = (
        np.random.default_rng(0).normal(size=(examples, height, width, channels)).astype(np.float32)
    )
    targets = {"label": np.arange(examples), "box": np.arange(4.0 * examples).reshape(examples, 4)}
    return {
        "image": image,
        "targets": targets,
        "weight": np.ones(examples, np.float32),
        "index": np.arange(examples) + 10,
    }


def mixed(
    given: dict[str, Any], ops: Sequence[Mix], keys: np.ndarray | None = None
) -> dict[str, Any]:
    """The batch mixed inside Dataset.map."""
    keys = seeds(len(given["image"])) if keys is None else keys
    data = tf.data.Dataset.from_tensors((given, keys))
    return next(
        data.map(
            tf.autograph.experimental.do_not_convert(lambda one, key: mix(one, key, ops))
        ).as_numpy_iterator()
    )


def swapped(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, 2, *values.shape[1:])[:, ::-1].reshape(values.shape)


@pytest.mark.parametrize("ops", [[MIXUP], [CUTMIX], [MIXUP, CUTMIX]])
@pytest.mark.parametrize("channels", [1, 3])
def test_mixing_gives_the_same_bits_eagerly_and_in_a_graph(ops: list[Mix], channels: int) -> None:
    given = batch(4, channels=channels)
    in_map, eager = (
        mixed(given, ops),
        mix(tf.nest.map_structure(tf.constant, given), tf.constant(seeds(4)), ops),
    )
    tf.nest.map_structure(
        np.testing.assert_array_equal, in_map, tf.nest.map_structure(np.array, eager)
    )
    assert (in_map["image"] != given["image"]).any()


@pytest.mark.parametrize("ops", [[MIXUP], [CUTMIX]])
def test_partners_are_neighbors_and_nothing_else_changes(ops: list[Mix]) -> None:
    given = batch(6)
    out = mixed(given, ops)
    assert out.keys() == given.keys() | {"partner_targets", "share"}
    np.testing.assert_array_equal(out["partner_targets"]["label"], [1, 0, 3, 2, 5, 4])
    np.testing.assert_array_equal(out["partner_targets"]["box"], swapped(given["targets"]["box"]))
    tf.nest.map_structure(np.testing.assert_array_equal, out["targets"], given["targets"])
    for key in ("weight", "index"):
        np.testing.assert_array_equal(out[key], given[key])
    assert out["image"].dtype == out["share"].dtype == np.float32 and out["share"].shape == (6,)


def test_mixup_blends_by_the_share() -> None:
    given = batch(40)
    out = mixed(given, [MIXUP])
    share = out["share"][:, None, None, None]
    np.testing.assert_allclose(
        out["image"], share * given["image"] + (1 - share) * swapped(given["image"]), atol=1e-6
    )
    assert len(set(out["share"])) == 40


@pytest.mark.parametrize("shape", [(7, 9), (1, 6), (1, 1)])
def test_cutmix_pastes_a_rectangle_and_the_share_is_that_of_the_remaining_pixels(
    shape: tuple[int, int],
) -> None:
    given = batch(200, *shape)
    out = mixed(given, [CUTMIX])
    kept = (out["image"] == given["image"]).all(-1)
    cut = (out["image"] == swapped(given["image"])).all(-1)
    np.testing.assert_array_equal(kept, ~cut)
    np.testing.assert_array_equal(cut, cut.any(2)[:, :, None] & cut.any(1)[:, None, :])
    np.testing.assert_allclose(out["share"], kept.mean((1, 2)), rtol=1e-6)
    assert cut.any(0).all() and kept.any(0).all(), "a pixel is never cut, or always"


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_shares_of_mixup_follow_a_beta_distribution(alpha: float) -> None:
    share = mixed(batch(1000, 1, 1), [MixUp(op="mixup", alpha=alpha)])["share"]
    assert stats.kstest(share, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [1e-3, 1e-12, 1e-300])
def test_a_tiny_alpha_takes_one_of_the_two_images_and_never_nan(alpha: float) -> None:
    share = mixed(batch(400, 1, 1), [MixUp(op="mixup", alpha=alpha)])["share"]
    assert np.isfinite(share).all()
    assert abs((share < 0.5).sum() - 200) < 4 * np.sqrt(100)
    assert ((share < 1e-3) | (share > 1 - 1e-3)).mean() > 0.98


def test_a_huge_alpha_takes_half_of_each() -> None:
    np.testing.assert_allclose(
        mixed(batch(50, 1, 1), [MixUp(op="mixup", alpha=1e9)])["share"], 0.5, atol=1e-3
    )


def test_shares_of_cutmix_equal_those_of_the_papers_rectangles() -> None:
    share = mixed(batch(1000, 32, 24, 1), [CUTMIX])["share"]
    # Yun et al. 2019, equations 1 to 4, on a continuous image.
    rng = np.random.default_rng(0)
    side, center = np.sqrt(1 - rng.beta(1, 1, (100_000, 1))), rng.uniform(size=(100_000, 2))
    expected = 1 - (np.minimum(center + side / 2, 1) - np.maximum(center - side / 2, 0)).prod(1)
    assert abs(share.mean() - expected.mean()) < 4 * expected.std() / np.sqrt(1000)
    assert stats.ks_2samp(share, expected).statistic < 0.08


def test_of_several_operations_each_example_takes_one_at_random() -> None:
    given = batch(400)
    out = mixed(given, [MIXUP, CUTMIX])
    pure = (out["image"] == given["image"]) | (out["image"] == swapped(given["image"]))
    cut = pure.all((1, 2, 3))
    assert abs(cut.sum() - 200) < 4 * np.sqrt(100)
    # The two examples of a pair draw independently.
    assert 0 < (cut[::2] != cut[1::2]).sum() < 200
    share = out["share"][~cut][:, None, None, None]
    expected = share * given["image"][~cut] + (1 - share) * swapped(given["image"])[~cut]
    np.testing.assert_allclose(out["image"][~cut], expected, atol=1e-6)


@pytest.mark.parametrize("ops", [[MIXUP], [CUTMIX]])
def test_nothing_is_mixed_with_an_image_that_couldnt_be_read(ops: list[Mix]) -> None:
    given = batch(8)
    given["weight"][[1, 4, 6, 7]] = 0
    out = mixed(given, ops)
    np.testing.assert_array_equal(out["share"][[0, 1, 4, 5, 6, 7]], 1)
    for position in (0, 1, 4, 5, 6, 7):
        np.testing.assert_array_equal(out["image"][position], given["image"][position])
    assert (out["share"][2:4] < 1).all()


@pytest.mark.parametrize("examples", [1, 5])
def test_the_last_example_of_an_odd_batch_is_not_mixed(examples: int) -> None:
    given = batch(examples)
    out = mixed(given, [MIXUP])
    assert out["share"][-1] == 1 and (out["share"][:-1] < 1).all()
    np.testing.assert_array_equal(out["image"][-1], given["image"][-1])
    assert out["partner_targets"]["label"][-1] == examples - 1


def test_an_even_part_of_a_batch_is_mixed_as_in_the_whole_batch() -> None:
    given, ops = batch(12), [MIXUP, CUTMIX]
    whole = mixed(given, ops)
    for first in (0, 8):
        part = tf.nest.map_structure(lambda values: values[first : first + 4], given)
        out = mixed(part, ops, seeds(4, first))
        tf.nest.map_structure(
            lambda one, all: np.testing.assert_array_equal(one, all[first : first + 4]), out, whole
        )


def test_each_example_depends_only_on_its_seed() -> None:
    given, keys = batch(6), seeds(6)
    keys[2] += 1
    changed = (mixed(given, [MIXUP], keys)["image"] != mixed(given, [MIXUP])["image"]).any(
        (1, 2, 3)
    )
    np.testing.assert_array_equal(changed, [False, False, True, False, False, False])
