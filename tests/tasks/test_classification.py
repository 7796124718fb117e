"""The task's contract: answers that agree with themselves, pictures that are drawn."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from conftest import small_config
from cvpipe.tasks import classification, task_module

CLASSES = tuple("abcdefgh")


def predictions(images: int = 6) -> dict[str, np.ndarray]:
    logits = np.random.default_rng(0).normal(size=(images, len(CLASSES))).astype(np.float32) * 4
    answers = classification.predict({"logits": tf.constant(logits)}, small_config("export.top_k=3"), CLASSES)
    return {name: value.numpy() for name, value in answers.items()}


def test_the_task_is_found_by_its_name() -> None:
    assert task_module("classification") is classification


def test_the_answer_is_the_first_of_the_top_and_the_top_is_sorted() -> None:
    given = predictions()
    np.testing.assert_allclose(given["probabilities"].sum(-1), 1, rtol=1e-6)
    order = np.argsort(-given["probabilities"], -1)[:, :3]
    np.testing.assert_array_equal(given["top_class_ids"], order)
    np.testing.assert_array_equal(given["class_id"], order[:, 0])
    np.testing.assert_array_equal(given["probability"], given["probabilities"].max(-1))
    assert [name.decode() for name in given["class_name"]] == [CLASSES[i] for i in given["class_id"]]


def test_more_answers_than_classes_are_not_promised() -> None:
    answers = classification.predict({"logits": tf.zeros([1, 2])}, small_config("export.top_k=5"), ("a", "b"))
    assert answers["top_probabilities"].shape == (1, 2)


def test_names_in_any_alphabet_survive() -> None:
    answers = classification.predict({"logits": tf.constant([[0.0, 1.0]])}, small_config(), ("T-shirt/top", "größe 漢字"))
    given = classification.to_answer({name: value.numpy() for name, value in answers.items()}, 0)
    assert given["class_name"] == "größe 漢字"


def test_an_answer_for_people_holds_what_was_predicted() -> None:
    given = predictions()
    answer = classification.to_answer(given, 2)
    assert [row["class_id"] for row in answer["top"]] == given["top_class_ids"][2].tolist()
    assert answer["top"][0] == {name: answer[name] for name in ("class_id", "class_name", "probability")}


def test_single_answers_equal_batched_ones() -> None:
    logits = tf.random.stateless_normal([4, len(CLASSES)], [1, 2])
    together = classification.predict({"logits": logits}, small_config(), CLASSES)
    for n in range(4):
        alone = classification.predict({"logits": logits[n: n + 1]}, small_config(), CLASSES)
        for name, value in alone.items():
            np.testing.assert_array_equal(value[0], together[name][n])
