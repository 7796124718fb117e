"""Guards `cvpipe inspect`: receptive fields, strongest patches, neighbors, and the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conftest import soaked
from cvpipe.errors import ConfigError
from cvpipe.explain.embedding import PROJECTIONS, neighbors, project
from cvpipe.explain.patches import Watched
from cvpipe.explain.projector import FEATURES, METADATA, SPRITE
from cvpipe.explain.receptive import receptive_fields
from cvpipe.explain.score import feature_layer, stage_layers
from cvpipe.pictures.inside import activation_images, filter_images, sprite
from test_maps import convolutional, images, linear

Cvpipe = Callable[..., tuple[int, str, str]]


def branched() -> keras.Model:
    """Return a network with strides, all kinds of padding, dilation, pooling and a shortcut."""
    keras.utils.set_random_seed(0)
    image = keras.Input([21, 18, 1])
    x = keras.layers.Conv2D(3, 3, 2, padding="same", name="even")(image)
    x = keras.layers.ZeroPadding2D(((1, 2), (2, 0)), name="pad")(x)
    x = keras.layers.Conv2D(4, 3, padding="valid", name="valid")(x)
    x = y = keras.layers.AveragePooling2D(3, 2, padding="same", name="pool")(x)
    x = keras.layers.Conv2D(4, 3, padding="same", dilation_rate=2, name="dilated")(x)
    x = keras.layers.Add(name="sum")([x, keras.layers.Conv2D(4, 1, name="short")(y)])
    return keras.Model(image, x)


@pytest.mark.parametrize("name", ["even", "valid", "pool", "sum"])
def test_a_value_depends_on_both_ends_of_its_receptive_field_and_nothing_outside(name: str) -> None:
    network = branched()
    layer = keras.Model(network.inputs, network.get_layer(name).output)
    field = receptive_fields(network)[name]
    assert field is not None
    x = tf.constant(np.random.default_rng(0).normal(size=(1, 21, 18, 1)), tf.float32)
    for place in np.ndindex(*layer.output.shape[1:3]):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(tf.abs(layer(x)[0, place[0], place[1]]))
        gradient = tape.gradient(value, x)[0, ..., 0].numpy()
        rows, columns = (np.flatnonzero(gradient.any(axis)) for axis in (1, 0))
        seen = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        ymin, xmin, ymax, xmax = box = field.box(place, (21, 18))
        assert ymin <= seen[0] and xmin <= seen[1] and ymax >= seen[2] and xmax >= seen[3]
        # At the border, a dilated window may skip the ends of its receptive field.
        if name != "sum" or place == (3, 2):
            assert box == seen


def test_the_field_of_averages_over_the_image_is_the_image() -> None:
    fields = receptive_fields(convolutional().network)
    assert fields["logits"] is None and fields["second"] is not None


def test_the_best_patches_are_those_of_all_images_at_once() -> None:
    network, x = convolutional().network, images(7)
    layers = [network.get_layer(name) for name in ("first", "second")]
    watched = Watched(network, layers, layers[-1], most=3)
    for begin in (0, 3, 6):
        watched.add(x[begin : begin + 3].numpy(), np.arange(begin, min(begin + 3, 7)) + 10)
    for layer in layers:
        maps = keras.Model(network.inputs, layer.output)(x).numpy()
        top = watched.tops[layer.name]
        for channel in range(maps.shape[-1]):
            best = maps[..., channel].max((1, 2))
            order = np.argsort(-best)[:3]
            np.testing.assert_array_equal(top.images[channel], order + 10)
            np.testing.assert_allclose(top.values[channel], best[order], rtol=1e-5)
            for image, (row, column) in zip(order, top.places[channel], strict=True):
                assert maps[image, row, column, channel] == maps[image, ..., channel].max()
    features, index = watched.features
    np.testing.assert_allclose(features, maps.mean((1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(index, np.arange(10, 17))


def test_fewer_images_than_patches_are_all_kept() -> None:
    network = convolutional().network
    watched = Watched(network, [network.get_layer("second")], network.get_layer("second"), most=5)
    watched.add(images(2).numpy(), np.arange(2))
    assert watched.tops["second"].values.shape == (6, 2)


def test_the_last_layer_of_each_size_represents_a_stage() -> None:
    assert [layer.name for layer in stage_layers(convolutional().network)] == ["smooth", "second"]
    with pytest.raises(ConfigError, match="no feature map"):
        stage_layers(linear().network)
    assert feature_layer(convolutional().network).name == "second"


def test_neighbors_are_those_of_all_distances_and_never_the_image_itself() -> None:
    features = np.random.default_rng(0).normal(size=(20, 4))
    features[7] = features[3]
    queries = np.array([3, 7, 11])
    distances = np.linalg.norm(features[:, None] - features[None], axis=-1)
    distances[np.arange(20), np.arange(20)] = np.inf
    found = neighbors(features, queries, 4)
    np.testing.assert_array_equal(found, np.argsort(distances[queries], 1)[:, :4])


@pytest.mark.parametrize("method", ["pca", *soaked(*PROJECTIONS[1:])])
def test_clusters_stay_apart_in_two_dimensions_and_projections_are_reproducible(
    method: str,
) -> None:
    if method == "umap":
        pytest.importorskip("umap", reason="needs umap-learn")
    random = np.random.default_rng(0)
    centers = 20 * random.normal(size=(3, 8))
    features = np.repeat(centers, 12, 0) + random.normal(size=(36, 8))
    places = project(features, method)  # type: ignore[arg-type]
    np.testing.assert_array_equal(places, project(features, method))  # type: ignore[arg-type]
    clusters = np.repeat(np.arange(3), 12)
    near = neighbors(places, np.arange(36), 3)
    assert (clusters[near] == clusters[:, None]).mean() > 0.95


def test_each_filter_and_activation_is_scaled_separately() -> None:
    kernel = np.zeros([3, 3, 3, 2], np.float32)
    kernel[0, 0, 0, 0], kernel[1, 1, 1, 0] = -0.5, 0.25
    drawn = filter_images(kernel)
    assert drawn.shape == (2, 3, 3, 3) and drawn[0, 0, 0, 0] == 0 and drawn[0, 1, 1, 1] == 191
    assert (drawn[1] == 128).all()
    features = np.zeros([2, 2, 3], np.float32)
    features[0, 0, 1], features[1, 1, 2] = 4, -8
    shown, channels = activation_images(features, 2)
    assert channels.tolist() == [2, 1]
    assert shown[0, 1, 1, 0] == 0 and shown[0, 0, 0, 0] == 255 and shown[1, 0, 0, 0] == 255


def test_a_sprite_has_the_images_row_by_row() -> None:
    thumbnails = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones([5, 4, 6, 3], np.uint8)
    grid = sprite(thumbnails)
    assert grid.shape == (12, 18, 3)
    assert [int(grid[4 * row, 6 * column, 0]) for row, column in ((0, 2), (1, 0), (2, 2))] == [
        2,
        3,
        0,
    ]


@pytest.mark.soak
def test_a_run_is_inspected_on_a_page_and_for_tensorboard(
    cvpipe: Cvpipe, trained_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "inside"
    words = ("--limit", 20, "--projection", "pca", "--to", folder, "--json")
    code, out, err = cvpipe("inspect", trained_run, *words)
    assert code == 0, err
    result = json.loads(out)
    assert result["images"] == 20 and len(result["layers"]) > 1
    page = Path(result["page"]).read_text(encoding="utf-8")
    for heading in ("Filters", "Activations", f"Patches of {result['layers'][0]}", "Neighbors"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("<img") == 4 + len(result["layers"])
    events = EventAccumulator(str(folder), {"images": 0}).Reload()
    assert {"filters", "activations", "neighbors", "pca"} <= set(events.Tags()["tensors"])
    assert np.loadtxt(folder / FEATURES, delimiter="\t").shape[0] == 20
    assert len((folder / METADATA).read_text(encoding="utf-8").splitlines()) == 21
    with Image.open(folder / SPRITE) as picture:
        assert picture.size == (160, 160)
    assert SPRITE in (folder / "projector_config.pbtxt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "words, message",
    [
        (("--layer", "stemm"), "--layer stemm: not a feature map; "),
        (("--limit", 0), "--limit: must be at least 1"),
        (("--limit", 3), "at least 5 readable images are needed"),
        (("--split", "tset"), "tset"),
    ],
)
def test_wrong_options_of_inspect_are_errors(
    cvpipe: Cvpipe, trained_run: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    code, out, err = cvpipe("inspect", trained_run, *words, "--to", tmp_path / "inside")
    assert code in (1, 2) and out == "" and message in err
    assert not (tmp_path / "inside").exists()
