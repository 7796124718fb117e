"""Guards that the whole training step lowers to XLA as a TPU needs it: with static shapes and
without host operations.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.compiler.xla import xla_data_pb2

from conftest import ROOT, small_config, soaked
from cvpipe import config_file
from cvpipe.config import Config
from cvpipe.preflight.lowering import Lowered, Uncompilable, lower, without_strings
from cvpipe.preflight.program import dynamic_operations, parse
from cvpipe.preflight.subject import Subject, open_subject
from cvpipe.tasks import classification

BFLOAT16 = "train.precision=mixed_bfloat16"
BATCH = 4
SCENES = (
    "data.source.size=[64, 64]",
    "data.source.train=8",
    "data.source.validation=2",
    "data.source.test=2",
    "augment=[]",
    "prepare.size=[64, 64]",
    "model.width=0.125",
    f"train.batch_size={BATCH}",
    BFLOAT16,
)


def scenes(pipeline: str, *overrides: str) -> Config:
    return config_file.load(ROOT / "pipelines" / pipeline, [*SCENES, *overrides])


# Everything that adds operations to a step is in one of these pipelines.
PIPELINES: dict[str, Callable[[], Config]] = {
    "classification": lambda: small_config(
        BFLOAT16, f"train.batch_size={BATCH}", "mix=[{op: mixup}]", "train.clip_norm=1"
    ),
    "classification in parts": lambda: small_config(
        "train.accumulate=2", f"train.batch_size={BATCH}", "data.limit=40"
    ),
    "ssd": lambda: scenes("detection/digit_scenes_ssd.yaml", "data.source.digit_sizes=[16, 32]"),
    "yolo": lambda: scenes("detection/digit_scenes_yolo.yaml", "data.source.digit_sizes=[16, 32]"),
    "segmentation": lambda: scenes(
        "segmentation/digit_scenes_fcn.yaml", "data.source.digit_sizes=[16, 32]"
    ),
    "localization": lambda: scenes(
        "localization/digit_scenes.yaml", "data.source.digit_sizes=[16, 32]"
    ),
    "pose": lambda: scenes("pose/stick_figures.yaml"),
}
SHORT = ["ssd"]
EVERY = [*SHORT, *soaked(*(name for name in PIPELINES if name not in SHORT))]


@functools.cache
def subject(name: str) -> Subject:
    return open_subject(PIPELINES[name]())


def opcodes(lowered: Lowered) -> set[str]:
    module = parse(lowered.hlo)
    return {own.opcode for computation in module.computations for own in computation.instructions}


@pytest.mark.parametrize("name", EVERY)
def test_a_whole_training_step_lowers_with_static_shapes_and_no_host_operation(name: str) -> None:
    own = subject(name)
    lowered = own.lower_training(BATCH)
    module = parse(lowered.hlo)
    assert not dynamic_operations(module)
    assert not opcodes(lowered) & {"infeed", "outfeed", "send", "recv", "custom-call"}
    images = module.host_program_shape.parameters[0]
    assert list(images.dimensions) == [BATCH, *own.config.prepare.size, own.config.prepare.channels]
    # Trained weights and the optimizers' variables are updated in place.
    moved = [variable for several in own.state.moved.values() for variable in several]
    kept = [v for optimizer in own.state.optimizers.values() for v in optimizer.variables]
    assert moved and kept
    shapes = sorted(tuple(v.shape) for v in [*moved, *kept] if len(v.shape))
    aliased = sorted(
        tuple(module.host_program_shape.result.tuple_shapes[entry.output_shape_index[0]].dimensions)
        for entry in module.input_output_alias.entries
    )
    for shape in set(shapes):
        assert aliased.count(shape) >= shapes.count(shape), shape


@pytest.mark.parametrize("name", EVERY)
def test_answers_lower_except_for_their_strings(name: str) -> None:
    own = subject(name)
    lowered = own.lower_answering(BATCH)
    assert not dynamic_operations(parse(lowered.hlo))
    assert all("name" in output for output in lowered.left_out)
    assert not opcodes(lowered) & {"infeed", "outfeed", "send", "recv"}


def test_convolutions_take_bfloat16_where_the_pipeline_says_so() -> None:
    module = parse(subject("classification").lower_training(BATCH).hlo)
    kinds = {
        xla_data_pb2.PrimitiveType.Name(own.shape.element_type)
        for computation in module.computations
        for own in computation.instructions
        if own.opcode == "convolution"
    }
    assert kinds == {"BF16"}


def test_a_step_lowers_for_any_batch() -> None:
    first, second = (
        parse(subject("classification").lower_training(batch).hlo).host_program_shape.parameters[0]
        for batch in (2, 6)
    )
    assert (first.dimensions[0], second.dimensions[0]) == (2, 6)


def strings(loss: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.strings.length(tf.strings.as_string(loss)), tf.float32)


def python(loss: tf.Tensor) -> tf.Tensor:
    return tf.ensure_shape(tf.numpy_function(lambda value: value, [loss], tf.float32), loss.shape)


def nested(loss: tf.Tensor) -> tf.Tensor:
    return tf.cond(tf.reduce_sum(loss) > 0, lambda: strings(loss), lambda: loss)


@pytest.mark.parametrize(
    "host, op", [(strings, "AsString"), (python, "PyFunc"), (nested, "AsString")]
)
def test_a_step_with_a_host_operation_is_refused_with_its_name_and_line(
    host: Callable[[tf.Tensor], tf.Tensor], op: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = classification.loss

    def loss(*arguments: Any, **options: Any) -> dict[str, tf.Tensor]:
        losses = plain(*arguments, **options)
        return losses | {"host": host(losses["cross_entropy"])}

    monkeypatch.setattr(classification, "loss", loss)
    own = open_subject(PIPELINES["classification in parts"]())
    with pytest.raises(Uncompilable) as refused:
        own.lower_training(BATCH)
    [culprit, *_] = refused.value.culprits
    assert culprit.op == op
    file, _, line = culprit.place.rpartition(":")
    assert file == __file__ and int(line) > 0
    assert f"{op} (" in str(refused.value) and "runs only on a host" in str(refused.value)


def test_an_operation_without_a_form_for_its_types_is_named() -> None:
    def pick(index: tf.Tensor) -> tf.Tensor:
        return tf.strings.length(tf.gather(tf.constant(["a", "b"]), index))

    with pytest.raises(Uncompilable, match="StringLength"):
        lower(pick, (tf.TensorSpec([3], tf.int32),), 3)
    with pytest.raises(Uncompilable, match=r"GatherV2 .* doesn't run on a chip .*: .*string"):
        lower(
            lambda index: tf.gather(tf.constant(["a", "b"]), index),
            (tf.TensorSpec([3], tf.int32),),
            3,
        )


def test_a_result_whose_size_depends_on_values_is_found() -> None:
    def chosen(values: tf.Tensor) -> tf.Tensor:
        return tf.boolean_mask(values, values > 0)

    lowered = lower(chosen, (tf.TensorSpec([8], tf.float32),), 8)
    assert "Where" in {kind for kind, _ in dynamic_operations(parse(lowered.hlo))}


def test_only_strings_are_left_out() -> None:
    def answer(value: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"twice": 2 * value, "name": tf.strings.as_string(value)}

    specs = (tf.TensorSpec([2], tf.float32),)
    kept, left_out = without_strings(answer, specs)
    assert left_out == ("name",)
    assert opcodes(lower(kept, specs, 2)) >= {"multiply"}
    assert {name: list(value) for name, value in kept(tf.constant([1.0, 2.0])).items()} == {
        "twice": [2.0, 4.0]
    }
