"""The signature `tensor` in a form that other runtimes can convert: one input and no strings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from cvpipe.export.replay import default_inputs

SIGNATURE, IMAGES = "tensor", "image"


class Plain(NamedTuple):
    """A function from prepared images to answers, without strings and with default options."""

    function: Any
    """A `tf.function` from "image" to answers by name."""
    image: tf.TensorSpec
    loaded: Any
    """The SavedModel, which owns the weights."""

    @property
    def concrete(self) -> Any:
        """The concrete function."""
        return self.function.get_concrete_function(self.image)

    @property
    def names(self) -> list[str]:
        """Names of the answers, in the order of the graph's outputs."""
        return sorted(self.concrete.structured_outputs)

    def graph(self) -> tf.compat.v1.GraphDef:
        """Return a frozen graph with the placeholder "image" and one operation named after each
        answer.
        """
        frozen = convert_variables_to_constants_v2(self.concrete, lower_control_flow=False)
        named = {
            output.op.name: name for output, name in zip(frozen.outputs, self.names, strict=True)
        }
        graph = frozen.graph.as_graph_def()
        for node in graph.node:
            node.name = named.get(node.name, node.name)
        return graph


def plain(folder: Path, batch: int | None) -> Plain:
    """Load an artifact's signature `tensor`.

    Args:
        folder: an artifact whose prepared images have a fixed size.
        batch: fixed batch size; None for any.
    """
    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures[SIGNATURE]
    spec = signature.structured_input_signature[1][IMAGES]
    options = {
        name: value.numpy() for name, value in default_inputs(str(folder))[SIGNATURE].items()
    }

    def answer(image: tf.Tensor) -> dict[str, tf.Tensor]:
        defaults = {name: tf.constant(value) for name, value in options.items()}
        answers = signature(**{IMAGES: image}, **defaults)
        # Other runtimes have no strings. Class numbers replace class names.
        return {name: value for name, value in answers.items() if value.dtype != tf.string}

    image = tf.TensorSpec([batch, *spec.shape[1:]], spec.dtype, IMAGES)
    return Plain(tf.function(answer, autograph=False), image, loaded)
