"""Guards variants of an artifact: precision, compilation and batching change answers within their
stated tolerance.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from conftest import Once, small_config
from cvpipe.config.train import Batching, Export
from cvpipe.errors import ConfigError
from cvpipe.export.about import artifact_config, read_about
from cvpipe.export.artifact import open_artifact
from cvpipe.export.card import CARD
from cvpipe.export.compare import STRICT, Refused, Tolerance, difference
from cvpipe.export.export import export
from cvpipe.export.variant import TPU_ALIAS, batched, in_batches, sizes_up_to, tolerance_of
from cvpipe.fields import Field
from cvpipe.training.run import Run


def double(image: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"out": 2 * image}


def in_graph(ask: Callable[[tf.Tensor], dict[str, tf.Tensor]]) -> Callable[[tf.Tensor], tf.Tensor]:
    spec = tf.TensorSpec([None, 3], tf.float32)
    return tf.function(lambda image: ask(image)["out"], input_signature=[spec], autograph=False)


def test_batches_are_filled_up_to_the_next_size() -> None:
    seen: list[int | None] = []

    def ask(image: tf.Tensor) -> dict[str, tf.Tensor]:
        seen.append(image.shape[0])
        return double(image)

    answer = in_graph(in_batches(ask, (1, 4, 8)))
    for count in (1, 2, 4, 5, 8, 9):
        image = np.random.default_rng(count).random((count, 3), np.float32)
        np.testing.assert_array_equal(answer(image), 2 * image)
    # Each size is traced once; a batch larger than all sizes is traced without a fixed size.
    assert seen == [1, 4, 8, None]


def test_concurrent_requests_share_a_batch() -> None:
    sizes: list[int] = []

    def ask(image: tf.Tensor) -> dict[str, tf.Tensor]:
        tf.py_function(lambda count: sizes.append(int(count)), [tf.shape(image)[0]], [])
        return double(image)

    answer = in_graph(batched(ask, Batching(most=8, wait=0.5, threads=1)))
    images = np.random.default_rng(0).random((4, 2, 3), np.float32)
    answers: dict[int, np.ndarray] = {}

    def one(number: int) -> None:
        answers[number] = answer(images[number]).numpy()

    threads = [threading.Thread(target=one, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, image in enumerate(images):
        np.testing.assert_array_equal(answers[number], 2 * image)
    # Requests share batches, and incomplete batches are padded.
    assert sum(sizes) >= 8 and len(sizes) < 4


def test_a_request_larger_than_a_batch_is_split() -> None:
    image = np.random.default_rng(0).random((21, 3), np.float32)
    answer = in_graph(batched(double, Batching(most=6, wait=0.01)))
    np.testing.assert_array_equal(answer(image), 2 * image)
    assert sizes_up_to(6) == [1, 2, 4, 6] and sizes_up_to(1) == [1]
    assert sizes_up_to(8) == [1, 2, 4, 8]


def test_half_precision_may_differ_for_few_images_and_never_by_nan() -> None:
    expected = np.zeros((20, 3), np.float32)
    given = expected.copy()
    given[0] = 1
    few = Tolerance(close=0.01, images=0.05)
    assert difference(expected, given, Field("close"), few) == 0
    assert difference(expected.round(), given.round(), Field("exact"), few) == 0
    for field in (Field("close"), Field("exact")):
        with pytest.raises(Refused):
            difference(expected, given, field)
    given[0] = np.nan
    with pytest.raises(Refused, match="differs from evaluation by nan"):
        difference(expected, given, Field("close"), few)


def test_the_tolerance_grows_with_lower_precision() -> None:
    assert tolerance_of(Export()) == STRICT
    rooms = [
        tolerance_of(Export(precision=precision)).close for precision in ("float16", "bfloat16")
    ]
    assert STRICT.close < tolerance_of(Export(target="gpu")).close < rooms[0] < rooms[1]


def test_batch_sizes_must_be_ascending() -> None:
    with pytest.raises(ConfigError, match=r"batch_sizes \[8, 1\] must be in ascending order"):
        small_config("export.batch_sizes=[8, 1]")


VARIANTS = {
    "bfloat16": ("export.precision=bfloat16",),
    "tpu": ("export.target=tpu", "export.batch_sizes=[1, 16]"),
    "float16": ("export.precision=float16",),
    "gpu, batched": ("export.target=gpu", "export.batching={most: 16, wait: 0.001}"),
}


@pytest.fixture(scope="session")
def variant_of(trained_run: Path, once: Once) -> Callable[[str], Path]:
    """Return a function that exports a variant of `trained_run`, with the gate's own process."""

    def made(name: str) -> Path:
        overrides = VARIANTS[name]
        to = once(f"variants/{name}", lambda to: export(Run(trained_run), to, overrides))
        return to / "1"

    return made


@pytest.mark.soak
@pytest.mark.parametrize("name", ["bfloat16", "tpu", "float16", "gpu, batched"])
def test_a_variant_answers_as_evaluation_and_describes_itself(
    name: str, variant_of: Callable[[str], Path], artifact: Path
) -> None:
    variant = variant_of(name)
    export_section, about = artifact_config(variant).export, read_about(variant)
    assert about["gate"]["max_difference"] <= tolerance_of(export_section).close
    pixels = [np.full((8, 8, 1), 80 * n, np.uint8) for n in range(3)]
    image = tf.constant([tf.io.encode_png(own).numpy() for own in pixels])
    expected, given = open_artifact(artifact)(image), open_artifact(variant)(image)
    assert given.keys() == expected.keys()
    assert all(given[key].dtype == value.dtype for key, value in expected.items())
    np.testing.assert_allclose(given["probabilities"], expected["probabilities"], atol=0.05)
    cost, card = about["precision"], (variant / CARD).read_text(encoding="utf-8")
    if export_section.precision == "trained":
        assert cost is None
        return
    assert cost["score"] == "accuracy" and abs(cost["trained"] - cost["exported"]) < 0.05
    assert f"The network computes in {name}: accuracy on the test split is" in card
    assert about["measured"]["test"]["accuracy"] == cost["exported"]
    assert not np.array_equal(given["probabilities"], expected["probabilities"])


@pytest.mark.soak
def test_the_part_for_a_tpu_has_its_alias_static_batches_and_no_strings(
    variant_of: Callable[[str], Path],
) -> None:
    content = (variant_of("tpu") / "saved_model.pb").read_bytes()
    meta = SavedModel.FromString(content).meta_graphs[0]
    aliases = dict(meta.meta_info_def.function_aliases)
    assert set(aliases.values()) == {TPU_ALIAS}
    compiled = [own for own in meta.graph_def.library.function if own.attr["_XlaMustCompile"].b]
    # There are functions for two batch sizes and for larger batches; some aliases of tracing #
    # belong to no function.
    assert len(compiled) == 3
    for own in compiled:
        assert own.signature.name in aliases
        types = {argument.type for argument in own.signature.output_arg}
        assert tf.string.as_datatype_enum not in types


@pytest.mark.soak
def test_batching_is_in_the_graph(variant_of: Callable[[str], Path]) -> None:
    content = (variant_of("gpu, batched") / "saved_model.pb").read_bytes()
    library = SavedModel.FromString(content).meta_graphs[0].graph_def.library
    batches = [
        node for own in library.function for node in own.node_def if node.op == "BatchFunction"
    ]
    assert batches
    for node in batches:
        assert list(node.attr["allowed_batch_sizes"].list.i) == [1, 2, 4, 8, 16]


def test_a_tolerance_of_the_pipeline_replaces_that_of_the_precision() -> None:
    assert tolerance_of(Export(tolerance=1e-4)) == STRICT._replace(close=1e-4)
    half = Export(precision="float16", target="gpu", tolerance=0.01)
    assert tolerance_of(half) == Tolerance(close=0.01, pixels=5e-3, images=0.05)


@pytest.mark.parametrize(("apart", "advised"), [(9e-4, True), (2e-3, False), (np.nan, False)])
def test_a_difference_that_may_be_rounding_names_the_tolerance(apart: float, advised: bool) -> None:
    expected = np.zeros([2, 3])
    with pytest.raises(Refused, match="allowed is 1e-05") as caught:
        difference(expected, expected + apart, Field("close"))
    assert ("set export.tolerance" in str(caught.value)) == advised
