"""Guards the anomaly task: only normal images are learned; heat maps cover the original image."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvpipe import config_file
from cvpipe.answers.anomaly import UNCALIBRATED, heat_map_of, shades, to_answer
from cvpipe.config import Anomaly
from cvpipe.data.facts import Facts
from cvpipe.errors import ConfigError
from cvpipe.geometry.smoothing import smooth
from cvpipe.tasks import anomaly, load_task

FACTS = Facts(("good", "scratch"))
EXTENT = [[40, 70], [64, 20]]
PATCHCORE = {"kind": "patchcore", "strides": [8], "bank": 60}
PADIM = {"kind": "padim", "strides": [8], "channels": 6}


def values(
    head: dict[str, Any] = PATCHCORE, resize: str = "stretch", **more: Any
) -> dict[str, Any]:
    return {
        "task": "anomaly",
        "name": "tiny",
        "data": {"source": {"kind": "scratched_digits"}},
        "prepare": {"size": [32, 48], "resize": resize},
        "model": {"backbone": "resnet18", "width": 0.125, "head": head},
        "train": {"epochs": 1, "batch_size": 4},
        **more,
    }


def config(head: dict[str, Any] = PATCHCORE, resize: str = "stretch") -> Anomaly:
    return Anomaly.model_validate_json(json.dumps(values(head, resize)))


def batch(labels: list[int], seed: int = 0) -> dict[str, Any]:
    image = np.random.default_rng(seed).normal(size=(len(labels), 32, 48, 3)).astype(np.float32)
    return {
        "image": tf.constant(image),
        "targets": {"label": tf.constant(labels)},
        "weight": tf.ones(len(labels)),
    }


def state(network: Any) -> list[np.ndarray]:
    return [variable.numpy() for variable in anomaly.memory_of(network).variables]


@pytest.mark.parametrize("head", [PATCHCORE, PADIM], ids=["patchcore", "padim"])
def test_only_normal_images_that_could_be_read_are_taken_in(head: dict[str, Any]) -> None:
    tf.keras.utils.set_random_seed(0)
    network = anomaly.build_network(config(head))
    empty = [variable.numpy() for variable in network.variables]
    seed = tf.constant([0, 0], tf.int64)
    taken: list[Any] = []
    for weight in ([1.0, 1.0, 1.0], [1.0, 1.0, 0.0]):
        network.set_weights(empty)
        part = {**batch([0, 1, 0]), "weight": tf.constant(weight)}
        losses = anomaly.take_in({"network": network}, part, seed)["novelty"]
        assert losses.shape == (3,) and not losses.numpy().any()
        taken.append(state(network))
        again = anomaly.take_in({"network": network}, part, seed)["novelty"].numpy()
        assert again[1] == 0
        # An image that was learned has a low score; the other normal image has one only if it was
        # learned, too.
        assert (again[2] > 2 * again[0] + 1e-2) == (weight[2] == 0)
    assert any((one != other).any() for one, other in zip(*taken, strict=True))


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_a_heat_map_lies_over_the_original_image(resize: str) -> None:
    made = config(resize=resize)
    distances = np.zeros((2, 8, 12), np.float32)
    distances[:, 4, 3] = 8.0
    outputs = {
        "distances": tf.constant(distances),
        "image_distance": tf.constant([8.0, 2.0]),
        "threshold": tf.constant([3.0, 3.0]),
    }
    found = anomaly.answer(outputs, made, tf.constant(EXTENT))
    heat = found["heat_map"].numpy()
    assert heat.shape == (2, 64, 70)
    for n, (height, width) in enumerate(EXTENT):
        own = heat[n, :height, :width]
        assert (own >= 0).all()
        assert (heat[n, height:] == -1).all() and (heat[n, :, width:] == -1).all()
        y, x = np.unravel_index(own.argmax(), own.shape)
        if resize == "stretch":
            assert abs((y + 0.5) / height - 4.5 / 8) < 0.07
            assert abs((x + 0.5) / width - 3.5 / 12) < 0.07
    assert found["is_anomalous"].numpy().tolist() == [True, False]
    plain = anomaly.answer(outputs, made)
    assert plain["heat_map"].shape == (2, 32, 48)
    assert plain["image_size"].numpy().tolist() == [[32, 48]] * 2
    alone = anomaly.answer(
        {name: value[1:] for name, value in outputs.items()}, made, tf.constant(EXTENT[1:])
    )
    np.testing.assert_allclose(alone["heat_map"][0], heat[1, :, :20], rtol=1e-6)


def test_padims_score_is_the_largest_of_the_smoothed_map() -> None:
    distances = tf.random.stateless_uniform([2, 4, 6], [1, 2])
    found = anomaly.answer({"distances": distances, "threshold": tf.zeros(2)}, config(PADIM))
    maps = smooth(tf.image.resize(distances[..., tf.newaxis], [32, 48]), 4.0)
    np.testing.assert_allclose(found["anomaly_score"], tf.reduce_max(maps, [1, 2, 3]), rtol=1e-6)


def test_calibration_sets_the_threshold_of_the_answers() -> None:
    network = anomaly.build_network(config())
    task = load_task(config(), FACTS)
    assert task.calibrate is not None
    image = batch([0])["image"]
    before = task.predict({"network": network}, image)
    assert before["anomaly_threshold"].numpy().tolist() == [UNCALIBRATED]
    task.calibrate({"network": network}, {"image_scores": {"good": [1.0, 2.0], "scratch": [4.0]}})
    found = task.predict({"network": network}, image)
    assert found["anomaly_threshold"].numpy().tolist() == [3.0]


def test_gray_values_show_multiples_of_the_threshold() -> None:
    heat = np.float32([[0, 1, 2, 4]])
    assert shades(heat, 2.0).tolist() == [[0, 64, 128, 255]]
    assert shades(heat, 0.0).tolist() == [[0, 255, 255, 255]]
    assert shades(heat, UNCALIBRATED).tolist() == [[0, 128, 255, 255]]


def test_an_answer_is_json_with_a_heat_map_as_png() -> None:
    predictions = {
        "anomaly_score": np.array([1.0, 5.0]),
        "anomaly_threshold": np.array([4.0, 4.0]),
        "is_anomalous": np.array([False, True]),
        "heat_map": np.array([np.zeros((2, 3)), [[0.0, 2.0, -1.0], [4.0, 100.0, -1.0]]]),
        "image_size": np.array([[2, 3], [2, 2]]),
    }
    answer = json.loads(json.dumps(to_answer(predictions, 1)))
    assert (answer["is_anomalous"], answer["anomaly_score"], answer["image_size"]) == (
        True,
        5.0,
        [2, 2],
    )
    assert heat_map_of(answer).tolist() == [[0, 64], [128, 255]]


@pytest.mark.parametrize(
    "section, said",
    [
        ({"optimizer": {"kind": "sgd", "learning_rate": 1.0}}, "optimizer is for training by"),
        ({"loss": {"kind": "novelty", "l2": 0.1}}, "loss.l2 is for training by gradients"),
        ({"train": {"epochs": 1, "batch_size": 4, "accumulate": 2}}, "train.accumulate is for"),
    ],
)
def test_keys_for_training_by_gradients_are_refused(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config_file.parse(json.dumps(values(**section)), "anomaly.json")


@pytest.mark.parametrize(
    "backbone, said",
    [
        ("linear", "model.head.strides: linear has no feature map of stride 4; choose from"),
        ("resnet18", "prepare.size: .* multiples of the largest of model.head.strides, 32;"),
    ],
)
def test_maps_that_do_not_fit_are_an_error(backbone: str, said: str) -> None:
    made = config({"kind": "patchcore", "strides": [4, 32]})
    model = made.model.model_copy(update={"backbone": backbone})
    with pytest.raises(ConfigError, match=said):
        anomaly.build_network(made.model_copy(update={"model": model}))


def test_padim_keeps_the_same_features_for_the_same_seed() -> None:
    kept = [anomaly.memory_of(anomaly.build_network(config(PADIM))).channels for _ in range(2)]
    assert kept[0] == kept[1] and len(set(kept[0])) == 6
