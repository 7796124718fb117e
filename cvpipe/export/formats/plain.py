"""The signature `tensor` as other runtimes can take it: one input, constants, numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from cvpipe.export.replay import default_inputs

SIGNATURE, IMAGES = "tensor", "image"


class Plain(NamedTuple):
    """Prepared images to answers, without strings and with the options at their defaults."""

    function: Any
    """A `tf.function`: "image" to answers by name."""
    image: tf.TensorSpec
    loaded: Any
    """The SavedModel, which owns the weights."""

    @property
    def concrete(self) -> Any:
        """The function's graph."""
        return self.function.get_concrete_function(self.image)

    @property
    def names(self) -> list[str]:
        """The names of the answers, in the order of the graph's outputs."""
        return sorted(self.concrete.structured_outputs)

    def graph(self) -> tf.compat.v1.GraphDef:
        """Return a graph with weights as constants, a placeholder "image", and an operation with
        the name of each answer.
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
        folder: the artifact, whose prepared images have one size.
        batch: images in a request; None for any number.
    """
    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures[SIGNATURE]
    spec = signature.structured_input_signature[1][IMAGES]
    options = {
        name: value.numpy() for name, value in default_inputs(str(folder))[SIGNATURE].items()
    }

    def answer(image: tf.Tensor) -> dict[str, tf.Tensor]:
        given = {name: tf.constant(value) for name, value in options.items()}
        answers = signature(**{IMAGES: image}, **given)
        # Names of classes: no accelerator has strings, and numbers stand for them.
        return {name: value for name, value in answers.items() if value.dtype != tf.string}

    image = tf.TensorSpec([batch, *spec.shape[1:]], spec.dtype, IMAGES)
    return Plain(tf.function(answer, autograph=False), image, loaded)
