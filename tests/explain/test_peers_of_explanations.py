"""Guards explanations and attacks: they equal those of Xplique and ART for the same network."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from cvpipe.data.prepare import normalize_colors, restore_colors
from cvpipe.explain.attack import attack_loss, deep_fool, fgsm, make_ball, pgd
from cvpipe.explain.cam import grad_cam, grad_cam_pp
from cvpipe.explain.gradients import gradient_input, integrated_gradients, saliency, smooth_grad
from cvpipe.explain.perturbation import occlusion
from test_attack import TWO
from test_maps import CLASSES, SEED, SIZE, convolutional, images
from xai_peer import Arrays, ask_xai_peer

pytestmark = pytest.mark.soak
# A layer of the image's size: Xplique enlarges maps bicubically, and cvpipe bilinearly.
LAYER, PATCH, STRIDE, STEPS, SAMPLES = "smooth", 4, 2, 1000, 5
EPSILON, ATTACK_STEPS, OVERSHOOT = 0.1, 5, 0.02
NOISE = 0.15
# ART's DeepFool uses gradients without the preprocessing, so pixels aren't scaled here.
UNSCALED = TWO.model_copy(update={"mean": (0.0, 0.0), "std": (1.0, 1.0)})


def scores_alone() -> keras.Model:
    """Return the network from images to scores, as both libraries need it."""
    network = convolutional().network
    return keras.Model(network.inputs, network.output["logits"])


def noisy(x: tf.Tensor) -> np.ndarray:
    """Return the copies that `smooth_grad` makes, [B, SAMPLES, H, W, C]."""
    spread = tf.reduce_max(x, [1, 2, 3], keepdims=True) - tf.reduce_min(x, [1, 2, 3], keepdims=True)
    seeds = [tf.random.fold_in(SEED, tf.constant(n, tf.int64)) for n in range(SAMPLES)]
    drawn = [tf.random.stateless_normal([1, *x.shape[1:]], seed) for seed in seeds]
    return np.stack([x + NOISE * spread * noise for noise in drawn], axis=1)


@pytest.fixture(scope="module")
def xplique(tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    """Return Xplique's maps by method."""
    x = images()
    return ask_xai_peer(
        "xplique",
        scores_alone(),
        tmp_path_factory.mktemp("xplique"),
        {
            "images": x,
            "targets": tf.one_hot(CLASSES, 3),
            "layer": LAYER,
            "patch": PATCH,
            "stride": STRIDE,
            "steps": STEPS,
            "noisy": noisy(x),
        },
    )


def same(
    ours: tf.Tensor, theirs: np.ndarray, relative: float = 1e-5, absolute: float = 1e-5
) -> None:
    """Compare maps, whose largest values are of the order of 0.1 to 1."""
    theirs = theirs[..., 0] if theirs.ndim == 4 and theirs.shape[-1] == 1 else theirs
    assert np.ptp(theirs) > 1e-3
    np.testing.assert_allclose(ours, theirs, rtol=relative, atol=absolute)


def test_maps_of_gradients_are_xpliques(xplique: Arrays) -> None:
    score, x = convolutional().score, images()
    same(saliency(score, x, CLASSES), xplique["saliency"])
    same(gradient_input(score, x, CLASSES), xplique["gradient_input"].sum(-1))
    smooth = smooth_grad(score, x, CLASSES, seed=SEED, samples=SAMPLES, noise=NOISE)
    same(smooth, np.abs(xplique["smooth_grad"]).max(-1))


def test_integrated_gradients_are_xpliques_in_the_limit_of_many_steps(xplique: Arrays) -> None:
    # Xplique integrates by the trapezoidal rule, whose first point, a baseline of zeros, has half
    # the weight of a step; there, all ReLUs are off. cvpipe's rule is the midpoint rule.
    found = integrated_gradients(convolutional().score, images(), CLASSES, steps=STEPS)
    same(found, xplique["integrated_gradients"].sum(-1), 1 / STEPS, 1e-5)


def test_class_activation_maps_are_xpliques(xplique: Arrays) -> None:
    subject, x = convolutional(), images()
    layer = subject.network.get_layer(LAYER)
    same(grad_cam(subject, x, CLASSES, layer), xplique["grad_cam"])
    # Xplique's Grad-CAM++ has means over positions, where equations 10 and 19 have sums.
    found = grad_cam_pp(subject, x, CLASSES, layer)
    same(found, xplique["grad_cam_pp_of_sums"])
    assert np.abs(found - xplique["grad_cam_pp"][..., 0]).max() > 1e-3


def test_occlusion_is_xpliques_divided_by_the_patches_on_each_pixel(xplique: Arrays) -> None:
    score, x = convolutional().score, images()
    same(occlusion(score, x, CLASSES, patch=PATCH, stride=PATCH), xplique["occlusion"])
    # Xplique adds up the decreases of overlapping patches; cvpipe takes their mean.
    covered = np.zeros([SIZE, SIZE])
    for top in range(0, SIZE - PATCH + 1, STRIDE):
        for left in range(0, SIZE - PATCH + 1, STRIDE):
            covered[top : top + PATCH, left : left + PATCH] += 1
    found = occlusion(score, x, CLASSES, patch=PATCH, stride=STRIDE)
    same(found * covered, xplique["occlusion_overlapping"])


def pixels_inside() -> tf.Tensor:
    """Return images in 0.3…0.7, so that no attack reaches the ends of the pixel range."""
    drawn = np.random.default_rng(0).uniform(0.3, 0.7, (3, SIZE, SIZE, 2))
    return tf.constant(drawn, tf.float32)


@pytest.fixture(scope="module")
def art(tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    """Return ART's attacked images by attack."""
    return ask_xai_peer(
        "art",
        scores_alone(),
        tmp_path_factory.mktemp("art"),
        {
            "pixels": pixels_inside(),
            "targets": tf.one_hot(CLASSES, 3),
            "mean": np.float32(TWO.mean),
            "std": np.float32(TWO.std),
            "epsilon": EPSILON,
            "steps": ATTACK_STEPS,
            "overshoot": OVERSHOOT,
        },
    )


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_step_and_projected_gradient_ascent_are_arts(art: Arrays, norm: str) -> None:
    loss, ball = attack_loss(convolutional()), make_ball(EPSILON, norm, TWO)
    x = normalize_colors(pixels_inside(), TWO)
    once = fgsm(loss, x, CLASSES, ball)
    often = pgd(loss, x, CLASSES, ball, steps=ATTACK_STEPS)
    for found, theirs in ((once, art[f"fgsm_{norm}"]), (often, art[f"pgd_{norm}"])):
        np.testing.assert_allclose(restore_colors(found, TWO), theirs, atol=1e-5)
        assert np.abs(theirs - pixels_inside()).max() > 1e-3


def changes(art: Arrays, name: str, steps: int) -> list[np.ndarray]:
    """Return our change and ART's, [B, values] each."""
    subject, ball = convolutional(), make_ball(1.0, "l2", UNSCALED)
    before = pixels_inside().numpy()
    found = deep_fool(
        subject, normalize_colors(before, UNSCALED), ball, steps=steps, overshoot=OVERSHOOT
    )
    both = restore_colors(found, UNSCALED).numpy(), art[name]
    return [(attacked - before).reshape(len(before), -1) for attacked in both]


def test_a_step_of_deep_fool_is_arts_plus_the_authors_margin(art: Arrays) -> None:
    ours, theirs = changes(art, "deep_fool_step", 1)
    lengths = [np.linalg.norm(change, axis=1, keepdims=True) for change in (ours, theirs)]
    np.testing.assert_allclose(ours / lengths[0], theirs / lengths[1], atol=1e-5)
    # The authors' code and cvpipe add 1e-4 to the length of each step; ART doesn't.
    np.testing.assert_allclose(lengths[0] - lengths[1], (1 + OVERSHOOT) * 1e-4, atol=1e-5)


def test_deep_fool_goes_as_far_as_arts_to_the_same_class(art: Arrays) -> None:
    # ART overshoots once, after the last step; the authors' code and cvpipe do in each step.
    ours, theirs = changes(art, "deep_fool", 50)
    lengths = [np.linalg.norm(change, axis=1) for change in (ours, theirs)]
    np.testing.assert_allclose(lengths[0], lengths[1], rtol=0.03)
    subject, before = convolutional(), pixels_inside().numpy()
    classes = [
        np.argmax(
            subject.all_scores(normalize_colors(before + change.reshape(before.shape), UNSCALED)),
            axis=1,
        )
        for change in (before * 0, ours, theirs)
    ]
    assert (classes[1] == classes[2]).all() and (classes[0] != classes[1]).all()
