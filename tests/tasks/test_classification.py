"""Guards classification: consistent answers, losses, and means of several answers to one image."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from conftest import small_config
from cvpipe.answers import to_answer
from cvpipe.data.facts import Facts
from cvpipe.evaluation import ask, make_predict
from cvpipe.losses.classification import expected_initial_loss
from cvpipe.tasks import classification, load_task

CLASSES = tuple("abcdefgh")


def predictions(images: int = 6) -> dict[str, np.ndarray]:
    logits = np.random.default_rng(0).normal(size=(images, len(CLASSES))).astype(np.float32) * 4
    answers = classification.answer(
        {"logits": tf.constant(logits)}, small_config("export.top_k=3"), CLASSES
    )
    return {name: value.numpy() for name, value in answers.items()}


def test_the_answer_is_the_first_of_the_top_and_the_top_is_sorted() -> None:
    given = predictions()
    np.testing.assert_allclose(given["probabilities"].sum(-1), 1, rtol=1e-6)
    order = np.argsort(-given["probabilities"], -1)[:, :3]
    np.testing.assert_array_equal(given["top_class_ids"], order)
    np.testing.assert_array_equal(given["class_id"], order[:, 0])
    np.testing.assert_array_equal(given["probability"], given["probabilities"].max(-1))
    assert [name.decode() for name in given["class_name"]] == [
        CLASSES[i] for i in given["class_id"]
    ]


def test_evaluation_and_export_name_classes_in_order() -> None:
    config = small_config("model={backbone: linear, norm: none}")
    task = load_task(config, Facts(CLASSES))
    networks = task.build(False)
    predict = make_predict([networks], task, config)
    shape = networks["network"].input_shape[1:]
    given = ask(predict, tf.random.stateless_normal([16, *shape], [0, 0]))
    for ids, names in (("class_id", "class_name"), ("top_class_ids", "top_class_names")):
        assert given[names].astype(str).tolist() == np.array(CLASSES)[given[ids]].tolist()


def test_more_answers_than_classes_are_not_promised() -> None:
    answers = classification.answer(
        {"logits": tf.zeros([1, 2])}, small_config("export.top_k=5"), ("a", "b")
    )
    assert answers["top_probabilities"].shape == (1, 2)


def test_names_in_any_alphabet_survive() -> None:
    answers = classification.answer(
        {"logits": tf.constant([[0.0, 1.0]])}, small_config(), ("T-shirt/top", "größe 漢字")
    )
    arrays = {name: value.numpy() for name, value in answers.items()}
    given = to_answer("classification", arrays, 0)
    assert given["class_name"] == "größe 漢字"


def test_an_answer_as_json_holds_the_predictions() -> None:
    given = predictions()
    answer = to_answer("classification", given, 2)
    assert [row["class_id"] for row in answer["top"]] == given["top_class_ids"][2].tolist()
    assert answer["top"][0] == {
        name: answer[name] for name in ("class_id", "class_name", "probability")
    }


def test_single_answers_equal_batched_ones() -> None:
    logits = tf.random.stateless_normal([4, len(CLASSES)], [1, 2])
    together = classification.answer({"logits": logits}, small_config(), CLASSES)
    for n in range(4):
        alone = classification.answer({"logits": logits[n : n + 1]}, small_config(), CLASSES)
        for name, value in alone.items():
            np.testing.assert_array_equal(value[0], together[name][n])


# -- losses


PARTS = {
    "softmax": "cross_entropy",
    "hinge": "hinge",
    "squared_hinge": "squared_hinge",
    "binary": "binary_cross_entropy",
    "focal": "focal",
}


@pytest.mark.parametrize("kind", PARTS)
def test_a_loss_has_one_part_named_for_its_kind(kind: str) -> None:
    config = small_config(f"loss={{kind: {kind}}}")
    parts = classification.loss(
        {"logits": tf.zeros([3, 4])}, {"label": tf.constant([0, 1, 3])}, config
    )
    assert tuple(parts) == (PARTS[kind],)
    assert [part.shape for part in parts.values()] == [(3,)]


@pytest.mark.parametrize("kind", PARTS)
def test_an_untrained_network_has_about_the_expected_loss(kind: str) -> None:
    config = small_config(f"loss={{kind: {kind}}}")
    model = classification.build_network(config, len(CLASSES))
    images = tf.random.stateless_normal([16, *model.input_shape[1:]], [0, 0])
    [loss] = classification.loss(
        model(images, training=True), {"label": tf.range(16) % 8}, config
    ).values()
    assert float(tf.reduce_mean(loss)) == pytest.approx(
        expected_initial_loss(config.loss, len(CLASSES)), rel=0.1
    )


@pytest.mark.parametrize("kind", PARTS)
def test_probabilities_rank_as_scores_do_and_exclude_each_other_only_where_classes_do(
    kind: str,
) -> None:
    config, logits = (
        small_config(f"loss={{kind: {kind}}}"),
        np.random.default_rng(0).normal(size=(6, len(CLASSES))).astype(np.float32),
    )
    probabilities = classification.answer({"logits": tf.constant(logits)}, config, CLASSES)[
        "probabilities"
    ].numpy()
    np.testing.assert_array_equal(np.argsort(probabilities), np.argsort(logits))
    if kind in ("binary", "focal"):
        np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), rtol=1e-5)
    else:
        np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)


# -- several answers to one image


@pytest.mark.parametrize("scale", [1, 30, 1000])
@pytest.mark.parametrize("kind", ["softmax", "binary"])
def test_the_probabilities_of_an_average_are_the_averages_of_probabilities(
    kind: str, scale: float
) -> None:
    config = small_config(f"loss={{kind: {kind}}}")
    logits = tf.random.stateless_normal([3, 5, len(CLASSES)], [1, 2]) * scale
    each = [
        classification.answer({"logits": one}, config, CLASSES)["probabilities"].numpy()
        for one in logits
    ]
    average = classification.combine({"logits": logits}, config)
    given = classification.answer(average, config, CLASSES)["probabilities"]
    np.testing.assert_allclose(given, np.mean(each, 0), rtol=1e-4, atol=1e-7)
    assert np.isfinite(average["logits"]).all()


@pytest.mark.parametrize("kind", ["softmax", "binary"])
def test_an_average_of_one_answer_is_that_answer(kind: str) -> None:
    config, logits = (
        small_config(f"loss={{kind: {kind}}}"),
        tf.random.stateless_normal([1, 5, len(CLASSES)], [1, 2]),
    )
    alone = classification.answer({"logits": logits[0]}, config, CLASSES)
    given = classification.answer(
        classification.combine({"logits": logits}, config), config, CLASSES
    )
    np.testing.assert_allclose(given["probabilities"], alone["probabilities"], rtol=1e-5)
    np.testing.assert_array_equal(given["top_class_ids"], alone["top_class_ids"])


def test_the_average_keeps_tiny_probabilities() -> None:
    # 1 − sigmoid(40) is 0 in float32, its logarithm must not be infinite.
    average = classification.combine(
        {"logits": tf.constant([[[40.0, -200.0]], [[41.0, -201.0]]])},
        small_config("loss={kind: binary}"),
    )
    np.testing.assert_allclose(average["logits"], [[40.38, -200.38]], atol=0.1)


# -- the network gets the whole section `model`


def test_the_model_section_reaches_the_network() -> None:
    config = small_config(
        "model.norm=group",
        "model.norm_groups=2",
        "model.stochastic_depth=0.3",
        "model.drop_connect=0.2",
        "model.initializer=constant",
        "model.initializer_value=0.5",
        "loss={kind: focal}",
    )
    model = classification.build_network(config, len(CLASSES))
    assert {layer.groups for layer in model.layers if "norm" in layer.name} == {2}
    assert model.get_layer("stage3_block1_drop").rate == pytest.approx(0.3)
    assert model.get_layer("logits").rate == pytest.approx(0.2)
    np.testing.assert_array_equal(
        model.get_layer("stem").kernel, np.full(model.get_layer("stem").kernel.shape, 0.5)
    )
    np.testing.assert_allclose(model.get_layer("logits").bias, np.log(0.01 / 0.99), rtol=1e-5)
