"""Descriptions of networks: parameters, multiply-adds, memory, receptive field."""

from __future__ import annotations

from math import prod
from typing import Any

import keras

from cvpipe.models.abstract import without_weights
from cvpipe.models.build import classification_network, published
from cvpipe.models.cost import multiply_adds
from cvpipe.models.layer_table import BYTES, HEAD, Row, layer_table, receptive_field
from cvpipe.models.published import PUBLISHED


def describe(name: str) -> dict[str, Any]:
    """Describe the published form of the network `name`, in plain JSON values.

    Returns:
        "name", "task", "paper", the values of `describe_model`, and "published": the figures of
        `published.Published` by name, or None.

    Raises:
        ConfigError: the catalog has no such network.
    """
    figures = PUBLISHED.get(name)
    head = (*HEAD, "fc") if published(name).fully_connected else HEAD
    return {
        "name": name,
        "task": "classification",
        **describe_model(published_model(name), head=head),
        "paper": published(name).paper,
        "published": figures._asdict() if figures else None,
    }


def published_model(name: str) -> keras.Model:
    """Build the classifier `name` at its published input size, without weights.

    Raises:
        ConfigError: the catalog has no such network.
    """
    network = published(name)
    with without_weights():
        return classification_network(name, network.input_shape, network.classes)


def describe_model(
    model: keras.Model, rows: list[Row] | None = None, head: tuple[str, ...] = HEAD
) -> dict[str, Any]:
    """Describe the sizes of a functional model with one input of fixed shape, in plain JSON values.

    Args:
        model: the network.
        rows: its `layer_table`, if it is known already.
        head: name prefixes of the head's layers.

    Returns:
        parameters (BatchNorm's moving statistics included), trainable_parameters, macs,
        activations and activation_bytes (of all rows of the layer table, for one image in float32),
        receptive_field (rows and columns, of the backbone's coarsest map; None for the whole image)
        and input_shape (height, width, channels).
    """
    rows = layer_table(model) if rows is None else rows
    activations = sum(row.activations for row in rows)
    return {
        # States of random generators aren't parameters.
        "parameters": sum(prod(variable.shape) for variable in model.weights),
        "trainable_parameters": sum(prod(variable.shape) for variable in model.trainable_variables),
        "macs": multiply_adds(model),
        "activations": activations,
        "activation_bytes": BYTES * activations,
        "receptive_field": receptive_field(rows, head),
        "input_shape": list(model.input_shape[1:]),
    }
