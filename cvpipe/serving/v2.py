"""Requests and responses of the Open Inference Protocol in JSON, optionally with binary tensors.

Source: Open Inference Protocol (KServe V2), "HTTP/REST", and its binary tensor data extension.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.serving import v2_tensors, values
from cvpipe.serving.batching import Arrays
from cvpipe.serving.errors import RequestError
from cvpipe.serving.models import BYTES_SIGNATURE, Servable


class InferRequest(NamedTuple):
    """A parsed request, not yet checked against a signature."""

    content: Mapping[str, Any]
    binary: bytes
    """Binary data after the JSON."""

    @property
    def signature_name(self) -> str:
        """Signature named by the parameters; empty for the default signature."""
        name = self.parameters.get("signature_name")
        if name is None:
            return ""
        if not isinstance(name, str):
            raise RequestError(400, 'the parameter "signature_name" must be a string')
        return name

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters of the request."""
        return _object(self.content, "parameters")


def json_bytes(header: str | None) -> int | None:
    """Return the length of a request's JSON; None if no binary data follows it.

    Args:
        header: value of Inference-Header-Content-Length, or None.

    Raises:
        RequestError: 400 if the value is invalid.
    """
    if header is None:
        return None
    if not re.fullmatch("[0-9]{1,18}", header):
        raise _no_length()
    return int(header)


def parse_request(body: bytes | bytearray, json_bytes: int | None) -> InferRequest:
    """Parse a request.

    Args:
        body: JSON, followed by binary tensors.
        json_bytes: length of the JSON; None if it is the whole body.

    Raises:
        RequestError: 400 if it is malformed.
    """
    end = len(body) if json_bytes is None else json_bytes
    if end > len(body):
        raise _no_length()
    try:
        content = json.loads(body[:end])
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is not JSON: {error}") from error
    if not isinstance(content, dict) or not _are_named(content.get("inputs")):
        raise RequestError(400, 'the body must be a JSON object with "inputs": [{"name": …}, …]')
    if content.get("outputs") is not None and not _are_named(content["outputs"]):
        raise RequestError(400, '"outputs" must be a list of objects such as {"name": "scores"}')
    return InferRequest(content, bytes(body[end:]))


def to_arrays(request: InferRequest, servable: Servable, signature_name: str) -> Arrays:
    """Convert a request to arrays by input name.

    Raises:
        RequestError: 400 if the inputs don't match the signature.
    """
    specs = servable.input_specs(signature_name)
    images = servable.images_input if signature_name == BYTES_SIGNATURE else None
    arrays: dict[str, np.ndarray] = {}
    rest = request.binary
    for given in request.content["inputs"]:
        name = given["name"]
        if name not in specs or name in arrays:
            known = ", ".join(f'"{own}"' for own in sorted(specs))
            raise RequestError(400, f'unknown or repeated input "{name}"; the inputs are {known}')
        shape, size = given.get("shape"), _object(given, "parameters").get("binary_data_size")
        if not isinstance(shape, list):
            raise RequestError(400, f'input "{name}" has no "shape"')
        v2_tensors.check(name, given.get("datatype"), shape, specs[name])
        if size is None:
            arrays[name] = _from_json(name, given, specs[name], name == images)
            continue
        if type(size) is not int or not 0 <= size <= len(rest):
            raise RequestError(400, f'input "{name}" has fewer bytes than "binary_data_size" says')
        arrays[name] = v2_tensors.from_raw(name, rest[:size], specs[name].dtype, shape)
        rest = rest[size:]
    if rest:
        raise RequestError(400, f"{len(rest)} bytes of binary data belong to no input")
    check_given(arrays, specs, servable.defaults(signature_name))
    return arrays


def check_given(
    given: Mapping[str, Any], specs: Mapping[str, Any], optional: Mapping[str, Any]
) -> None:
    """Refuse a request that lacks required inputs.

    Raises:
        RequestError: 400.
    """
    missing = sorted(set(specs) - set(given) - set(optional))
    if missing:
        raise RequestError(400, f"the request lacks the inputs {', '.join(missing)}")


def wanted_outputs(request: InferRequest, outputs: Arrays) -> dict[str, bool]:
    """Return the names of the requested outputs, each with True if it is requested as binary data.
    If the request names no outputs, return all names.

    Raises:
        RequestError: 400 for an unknown output.
    """
    usual = bool(request.parameters.get("binary_data_output", False))
    asked = request.content.get("outputs") or [{"name": name} for name in sorted(outputs)]
    wanted = {}
    for one in asked:
        if one["name"] not in outputs:
            known = ", ".join(sorted(outputs))
            raise RequestError(400, f'no output "{one["name"]}" in this signature; it has {known}')
        binary = _object(one, "parameters").get("binary_data")
        wanted[one["name"]] = usual if binary is None else bool(binary)
    return wanted


def to_answer(
    head: Mapping[str, Any], outputs: Arrays, wanted: Mapping[str, bool]
) -> tuple[bytes, int | None]:
    """Return the body of a response, and the length of its JSON if binary data follows the JSON.

    Args:
        head: first keys of the JSON.
        outputs: outputs of the signature by name.
        wanted: result of `wanted_outputs`.
    """
    described, parts = [], []
    for name, binary in wanted.items():
        array = outputs[name]
        one = {"name": name, "datatype": v2_tensors.datatype_of(array), "shape": [*array.shape]}
        if binary:
            parts.append(v2_tensors.to_raw(array))
            described.append({**one, "parameters": {"binary_data_size": len(parts[-1])}})
        else:
            data, parameters = v2_tensors.to_data(array)
            described.append(
                {**one, **({"parameters": parameters} if parameters else {}), "data": data}
            )
    text = json.dumps({**head, "outputs": described}).encode("ascii")
    return b"".join([text, *parts]), len(text) if parts else None


def describe(specs: Mapping[str, tf.TensorSpec]) -> list[dict[str, Any]]:
    """Return the metadata of tensors, with -1 for variable dimensions."""
    return [
        {
            "name": name,
            "datatype": v2_tensors.datatype(spec.dtype),
            "shape": [-1] if spec.shape.rank is None else [size or -1 for size in spec.shape],
        }
        for name, spec in sorted(specs.items())
    ]


def _from_json(
    name: str, given: Mapping[str, Any], spec: tf.TensorSpec, is_images: bool
) -> np.ndarray:
    """Convert the "data" of an input to an array.

    Strings for encoded images are base64. Strings of other inputs are base64 only if the parameters
    say so.
    """
    shape = given["shape"]
    try:
        leaves = v2_tensors.flat(given.get("data"), math.prod(shape))
    except ValueError as error:
        raise RequestError(400, f'input "{name}" {error}') from error
    coded = _object(given, "parameters").get("content_type") == "base64"
    if spec.dtype == tf.string and (coded or is_images):
        leaves = [{"b64": leaf} if isinstance(leaf, str) else leaf for leaf in leaves]
    flat = values.to_array(name, leaves, tf.TensorSpec([None], spec.dtype))
    return v2_tensors.shaped(name, flat, shape)


def _no_length() -> RequestError:
    return RequestError(400, "Inference-Header-Content-Length must be the JSON's length in bytes")


def _object(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return an optional object; an empty one if it is absent or null, as some clients write."""
    value = content.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RequestError(400, f'"{key}" must be an object')
    return value


def _are_named(content: Any) -> bool:
    return isinstance(content, list) and all(
        isinstance(item, dict) and isinstance(item.get("name"), str) for item in content
    )
