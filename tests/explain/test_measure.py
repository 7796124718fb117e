"""Guards the comparison of methods: μ-fidelity, sanity checks, superpixels and cut-outs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.errors import ConfigError
from cvpipe.explain.explain import METHODS, explain, supported_methods
from cvpipe.explain.gradients import gradient_input
from cvpipe.explain.measure import Explained, chance, explained_pairs, measure
from cvpipe.explain.quality import map_sums, random_cells, rank_correlation, score_falls
from cvpipe.explain.sanity import randomized, similarities
from cvpipe.explain.segment import cut_out
from test_maps import CLASSES, SEED, SIZE, convolutional, images, linear, planted

Cvpipe = Callable[..., tuple[int, str, str]]


def test_mu_fidelity_of_the_parts_of_a_linear_score_is_one_and_of_their_opposite_minus_one() -> (
    None
):
    subject, x = linear(), images()
    parts = gradient_input(subject.score, x, CLASSES)
    hidden = random_cells((SIZE, SIZE), SEED)
    falls = score_falls(subject.score, x, CLASSES, hidden)
    for sign in (1, -1):
        sums = map_sums(sign * parts, hidden)
        np.testing.assert_allclose(falls, sign * sums, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(rank_correlation(falls.numpy(), sums.numpy()), sign, atol=1e-3)


def test_rank_correlation_ignores_scale_and_is_zero_for_constants() -> None:
    a = np.array([[1.0, 2.0, 3.0, 4.0], [4.0, 1.0, 3.0, 2.0], [5.0, 5.0, 5.0, 5.0]])
    b = np.array([[1.0, 10.0, 100.0, 1000.0], [-4.0, -1.0, -3.0, -2.0], [1.0, 2.0, 3.0, 4.0]])
    np.testing.assert_allclose(rank_correlation(a, b), [1, -1, 0])


def test_weights_are_shuffled_from_the_last_layer_to_the_first_in_a_copy() -> None:
    subject = convolutional()
    before = [value.copy() for value in subject.network.get_weights()]
    names = []
    for name, changed in randomized(subject):
        names.append(name)
        same = {
            layer.name: all(
                np.array_equal(a, b)
                for a, b in zip(
                    layer.get_weights(),
                    changed.network.get_layer(layer.name).get_weights(),
                    strict=True,
                )
            )
            for layer in subject.network.layers
            if layer.weights
        }
        assert [layer for layer, kept in same.items() if not kept] == names[::-1]
        # A shuffled kernel has the same values in another order.
        kernels = (s.network.get_layer(name).get_weights()[0] for s in (subject, changed))
        np.testing.assert_array_equal(*(np.sort(value.ravel()) for value in kernels))
    assert names == ["logits", "second", "first"]
    for value, kept in zip(subject.network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, kept)


def test_the_sanity_check_distinguishes_gradients_from_a_map_of_the_image_alone() -> None:
    subject, x = convolutional(), images()
    found = similarities(subject, x, CLASSES, "saliency", points=3)
    assert list(found) == ["logits", "second", "first"] and found["first"] < 0.5
    # All weights are equal, so shuffling changes nothing: gradient × input stays the image.
    blind = linear()
    layer = blind.network.get_layer("logits")
    layer.set_weights([np.ones_like(value) for value in layer.get_weights()])
    assert similarities(blind, x, CLASSES, "gradient_input")["logits"] == pytest.approx(1)


def two_spots() -> tuple[np.ndarray, np.ndarray]:
    x = np.zeros([2, SIZE, SIZE, 2], np.float32)
    x[0, 2:5, 6:9], x[1, 8:11, 1:4] = 1, 1
    places = np.zeros([2, 3, 4], np.float32)
    places[0, 1], places[1, 0] = np.array([2, 6, 5, 9]) / SIZE, np.array([8, 1, 11, 4]) / SIZE
    return x, places


def test_methods_are_ranked_by_the_pattern_that_was_planted() -> None:
    x, places = two_spots()
    explained = Explained(x, np.array([1, 1], np.int32), places)
    rows = measure(planted(), explained, ["rise", "grad_cam", "occlusion"])
    by_name = {row.method: row for row in rows}
    assert by_name["grad_cam"].pointing == by_name["occlusion"].pointing == 1
    assert [row.insertion - row.deletion for row in rows] == sorted(
        (row.insertion - row.deletion for row in rows), reverse=True
    )
    # The tolerance is less than half a pixel here.
    np.testing.assert_allclose(chance(explained), 9 / SIZE**2)
    assert chance(explained._replace(boxes=None)) is None


@pytest.mark.parametrize(
    "chosen", [("pointing",), ("randomized",), ("mu_fidelity", "pointing"), ("deletion",)]
)
def test_chosen_scores_are_those_of_all_and_the_best_method_is_first(
    chosen: tuple[str, ...],
) -> None:
    x, places = two_spots()
    explained = Explained(x, np.array([1, 1], np.int32), places)
    methods = ["saliency", "occlusion"]
    whole = {row.method: row for row in measure(planted(), explained, methods)}
    rows = measure(planted(), explained, methods, scores=chosen)
    computed = {*chosen, *(("insertion",) if "deletion" in chosen else ())}
    for row in rows:
        found = {name: value for name, value in row._asdict().items() if value is not None}
        assert set(found) == {"method", *computed}
        for name in computed:
            assert found[name] == pytest.approx(getattr(whole[row.method], name), abs=1e-5)
    if chosen == ("randomized",):
        assert rows[0].randomized <= rows[1].randomized
    elif "deletion" not in chosen:
        assert getattr(rows[0], chosen[0]) >= getattr(rows[1], chosen[0])


def test_an_image_is_explained_with_each_class_of_its_objects_and_padding_with_none() -> None:
    x = images(3).numpy()
    labels = np.array([[2, 0, 2, -1], [1, -1, -1, -1], [0, 0, 0, 0]])
    boxes = np.arange(48, dtype=np.float32).reshape(3, 4, 4)
    batch = {"image": x, "targets": {}, "weight": np.float32([1, 1, 0])}
    task: Any = SimpleNamespace(objects=lambda targets: (labels, boxes))
    found = explained_pairs(convolutional(), task, [batch])
    assert found.classes.tolist() == [0, 2, 1] and found.boxes is not None
    np.testing.assert_array_equal(found.images, x[[0, 0, 1]])
    np.testing.assert_array_equal(found.boxes[1], [boxes[0, 0], [0] * 4, boxes[0, 2], [0] * 4])
    task.objects = None
    plain = explained_pairs(convolutional(), task, [batch])
    best = np.argmax(convolutional().all_scores(x[:2]), 1)
    assert plain.classes.tolist() == best.tolist() and plain.boxes is None


def test_superpixels_point_at_a_planted_pattern() -> None:
    pytest.importorskip("skimage", reason="needs scikit-image")
    x, _ = two_spots()
    maps = explain(planted(), tf.constant(x), tf.constant([1, 1]), ["superpixels"])["superpixels"]
    for n in range(2):
        assert x[n, ..., 0].ravel()[maps[n].argmax()] == 1
        assert maps[n].ravel()[x[n, ..., 0].ravel().argmin()] <= maps[n].max() / 2


def test_a_cut_out_has_the_colors_that_the_map_points_at() -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 60, (40, 40, 3), np.uint8)
    pixels[10:30, 12:28] = random.integers(180, 255, (20, 16, 3), np.uint8)
    importance = np.zeros([40, 40])
    importance[16:24, 17:23] = 1
    kept = cut_out(pixels, importance)
    expected = np.zeros([40, 40], bool)
    expected[10:30, 12:28] = True
    assert (kept & expected).sum() / (kept | expected).sum() > 0.9
    np.testing.assert_array_equal(kept, cut_out(pixels, importance))
    assert not cut_out(pixels, np.zeros([40, 40])).all()


def test_a_network_without_convolutions_has_methods_without_feature_maps() -> None:
    found = supported_methods(linear())
    assert {"saliency", "occlusion", "rise"} <= set(found) < set(METHODS)
    assert not {"grad_cam", "score_cam", "guided_backprop"} & set(found)


def test_a_method_is_measured_on_a_run(cvpipe: Cvpipe, trained_run: Path) -> None:
    words = ("--measure", "test", "--limit", 6, "--method", "saliency")
    code, out, err = cvpipe("explain", trained_run, *words, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["maps"] == 6 and result["chance"] is None
    [row] = result["methods"]
    assert row["method"] == "saliency" and row["pointing"] is None
    assert 0 <= row["deletion"] <= 1 and 0 <= row["insertion"] <= 1


@pytest.mark.parametrize(
    "words, message",
    [
        ((), "give image files to explain, or --measure SPLIT"),
        (("x.png", "--measure", "test"), "leave IMAGE and --class out"),
        (("--measure", "test", "--limit", 0), "--limit: must be at least 1"),
        (("--measure", "test", "--method", "gradcam"), "did you mean 'grad_cam'?"),
        (("x.png", "--set", "data.limit=3"), "--set goes with --measure"),
        (("x.png", "--score", "deletion"), "--score goes with --measure"),
        (("--measure", "test", "--score", "delete"), "did you mean 'deletion'?"),
        (("--measure", "test", "--score", "pointing"), "needs positions of objects"),
    ],
)
def test_wrong_options_are_errors(
    cvpipe: Cvpipe, trained_run: Path, words: tuple[Any, ...], message: str
) -> None:
    code, out, err = cvpipe("explain", trained_run, *words)
    assert (code, out) == (2, "") and message in err


def test_a_method_without_its_library_names_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(ConfigError, match=r"pip install\s+'cvpipe\[explain\]'"):
        explain(planted(), images(1), CLASSES[:1], ["superpixels"])
