"""Conversion between the JSON of predict requests and tensors. Source: TF Serving, RESTful API,
"Predict API".

The row format (`instances` → `predictions`) is the transpose of the column format (`inputs` →
`outputs`). Both are converted by the same code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.answers import UNREADABLE
from cvpipe.serving import values
from cvpipe.serving.errors import RequestError


class PredictRequest(NamedTuple):
    """A parsed body, not yet checked against a signature."""

    signature_name: str
    row_form: bool
    content: Any
    """The value of `instances` (row format) or of `inputs` (column format)."""


def parse_request(body: bytes | bytearray) -> PredictRequest:
    """Parse the JSON of a predict request. NaN, Infinity and -Infinity are numbers.

    Raises:
        RequestError: 400 unless the body is a JSON object with either `inputs` or a non-empty list
            `instances`.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise RequestError(400, 'the body must be a JSON object such as {"instances": [...]}')
    signature_name = request.get("signature_name", "")
    if not isinstance(signature_name, str):
        raise RequestError(400, '"signature_name" must be a string')
    if ("instances" in request) == ("inputs" in request):
        raise RequestError(
            400,
            'the body must have either "instances" (row format) or "inputs" (column format), not'
            " both",
        )
    if "inputs" in request:
        return PredictRequest(signature_name, False, request["inputs"])
    if not isinstance(request["instances"], list) or not request["instances"]:
        raise RequestError(400, '"instances" must be a list with at least one instance')
    return PredictRequest(signature_name, True, request["instances"])


def to_tensors(
    request: PredictRequest,
    specs: Mapping[str, tf.TensorSpec],
    defaults: Mapping[str, tf.Tensor] | None = None,
) -> dict[str, tf.Tensor]:
    """Convert a request to the inputs of a signature. Missing inputs get their `defaults`."""
    arrays = to_arrays(request, specs, defaults or {})
    given = {name: tf.constant(array, specs[name].dtype) for name, array in arrays.items()}
    return {**(defaults or {}), **given}


def to_arrays(
    request: PredictRequest, specs: Mapping[str, tf.TensorSpec], optional: Iterable[str]
) -> dict[str, np.ndarray]:
    """Convert a request to arrays by input name.

    In the row format, the leading dimension of arrays is the number of instances. Scalar inputs,
    such as options, must be equal in all instances. In the column format, values are used as given.

    Args:
        request: the request.
        specs: inputs of the signature.
        optional: names of optional inputs.

    Raises:
        RequestError: 400 for a missing or unknown name, and the errors of `values.to_array`.
    """
    required = {name: spec for name, spec in specs.items() if name not in optional}
    columns = (
        _columns_of_rows(request.content, specs, required)
        if request.row_form
        else _columns(request.content, specs, required)
    )
    return {name: values.to_array(name, column, specs[name]) for name, column in columns.items()}


def to_answer(
    outputs: Mapping[str, tf.Tensor | np.ndarray],
    row_form: bool,
    valid: str | None = None,
    errors: Mapping[int, str] | None = None,
) -> dict[str, Any]:
    """Build the response in the format of the request. The name of a single output is left out.

    Args:
        outputs: outputs of the signature by name.
        row_form: True for the row format.
        valid: name of the output, bool [B], that is False for unreadable instances. In the row
            format, the response for such an instance has only this output and an "error"; in the
            column format, its other outputs are meaningless.
        errors: specific errors of unreadable instances, by index.

    Raises:
        RequestError: 400 in the row format if the outputs have no common leading dimension, 501 for
            a dtype without a JSON representation.
    """
    if row_form:
        sizes = {value.shape[0] if len(value.shape) else None for value in outputs.values()}
        if len(sizes) != 1 or None in sizes:
            raise RequestError(
                400,
                "this signature doesn't return one output per instance; use the column format,"
                ' with "inputs"',
            )
    columns = {name: values.to_json(name, outputs[name]) for name in sorted(outputs)}
    if len(columns) == 1:
        return {"predictions" if row_form else "outputs": next(iter(columns.values()))}
    if row_form:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        if valid is None:
            return {"predictions": rows}
        known = errors or {}
        return {
            "predictions": [
                row if row.get(valid, True) else {valid: False, "error": known.get(n, UNREADABLE)}
                for n, row in enumerate(rows)
            ]
        }
    return {"outputs": columns}


def _columns(
    inputs: Any, specs: Mapping[str, tf.TensorSpec], required: Mapping[str, tf.TensorSpec]
) -> dict[str, Any]:
    if _is_named(inputs):
        _check_names('"inputs"', inputs, specs, required)
        return inputs
    return {_only_name(required): inputs}


def _columns_of_rows(
    instances: list[Any], specs: Mapping[str, tf.TensorSpec], required: Mapping[str, tf.TensorSpec]
) -> dict[str, Any]:
    if not any(_is_named(instance) for instance in instances):
        return {_only_name(required): instances}
    for index, instance in enumerate(instances):
        if not _is_named(instance):
            raise RequestError(
                400, f"instance {index} is a value without a name, but others name their inputs"
            )
        _check_names(f"instance {index}", instance, specs, required)
    named = [name for name in specs if any(name in instance for instance in instances)]
    return {name: _column(name, instances, specs[name]) for name in named}


def _column(name: str, instances: list[Any], spec: tf.TensorSpec) -> Any:
    """Return the values of all instances, or the common value of a scalar input."""
    without = [index for index, instance in enumerate(instances) if name not in instance]
    if without:
        raise RequestError(
            400,
            f'instance {without[0]} lacks the input "{name}", which other instances have; give the'
            " input in all instances or in none",
        )
    column = [instance[name] for instance in instances]
    if spec.shape.rank != 0:
        return column
    for index, value in enumerate(column):
        if value != column[0]:
            raise RequestError(
                400,
                f'"{name}" differs between instances 0 and {index}, but a request has one value for'
                " all instances; send separate requests",
            )
    return column[0]


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not values.is_base64(value)


def _only_name(required: Mapping[str, tf.TensorSpec]) -> str:
    if len(required) != 1:
        raise RequestError(
            400,
            f"this signature requires {len(required)} inputs ({_quoted(required)}), not one; give"
            " inputs by name",
        )
    return next(iter(required))


def _check_names(
    where: str,
    given: Iterable[str],
    specs: Mapping[str, tf.TensorSpec],
    required: Mapping[str, tf.TensorSpec],
) -> None:
    missing, unknown = set(required) - set(given), set(given) - set(specs)
    if missing or unknown:
        wrong = (
            f"lacks the input {_quoted(missing)}"
            if missing
            else f"has the unknown input {_quoted(unknown)}"
        )
        raise RequestError(400, f"{where} {wrong}; this signature takes {_quoted(specs)}")


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in sorted(names))
