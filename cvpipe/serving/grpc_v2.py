"""The Open Inference Protocol (KServe V2) over gRPC: GRPCInferenceService."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf

from cvpipe.grpc_messages import inference
from cvpipe.serving import v2, v2_tensors
from cvpipe.serving.batching import Arrays
from cvpipe.serving.errors import RequestError
from cvpipe.serving.grpc_calls import Call, method
from cvpipe.serving.offload import offload
from cvpipe.serving.service import Service, Target, is_ready, servable_of
from cvpipe.serving.v2_routes import SERVER, model_metadata

NAME = "inference.GRPCInferenceService"
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def handlers(service: Service) -> list[grpc.GenericRpcHandler[Any, Any]]:
    """Return the handlers of the service."""
    own = inference()

    def of(handler: Any, request: str, response: str, public: bool = False) -> Any:
        return method(service, handler, getattr(own, request), getattr(own, response), public)

    methods = {
        "ServerLive": of(_live, "Empty", "ServerLiveResponse", public=True),
        "ServerReady": of(_ready, "Empty", "ServerReadyResponse", public=True),
        "ModelReady": of(_model_ready, "ModelRequest", "ModelReadyResponse"),
        "ServerMetadata": of(_server, "Empty", "ServerMetadataResponse"),
        "ModelMetadata": of(_model, "ModelRequest", "ModelMetadataResponse"),
        "ModelInfer": of(_infer, "ModelInferRequest", "ModelInferResponse"),
    }
    return [grpc.method_handlers_generic_handler(NAME, methods)]


async def _live(call: Call, request: Any) -> Any:
    return inference().ServerLiveResponse(live=True)


async def _ready(call: Call, request: Any) -> Any:
    return inference().ServerReadyResponse(ready=call.service.ready)


async def _server(call: Call, request: Any) -> Any:
    return inference().ServerMetadataResponse(**SERVER)


async def _model_ready(call: Call, request: Any) -> Any:
    ready = is_ready(call.service, _target(request.name, request.version))
    return inference().ModelReadyResponse(ready=ready)


async def _model(call: Call, request: Any) -> Any:
    own = inference()
    metadata = model_metadata(call.service, _target(request.name, request.version))
    tensors = {
        key: [own.TensorMetadata(**one) for one in metadata[key]] for key in ("inputs", "outputs")
    }
    return own.ModelMetadataResponse(**{**metadata, **tensors})


async def _infer(call: Call, request: Any) -> Any:
    own, service = inference(), call.service
    target = _target(request.model_name, request.model_version)
    with service.admitted(), service.shelf.lease(*target) as version:
        call.of(version)
        asked = request.parameters
        chosen = asked["signature_name"].string_param if "signature_name" in asked else ""
        servable, name = servable_of(version, chosen)
        specs = servable.input_specs(name)
        given = await offload(request.ByteSize(), _arrays, request, specs)
        v2.check_given(given, specs, servable.defaults(name))
        outputs, _ = await service.predict(version, name, given, call.deadline())
        wanted = [one.name for one in request.outputs] or sorted(outputs)
        for output in wanted:
            if output not in outputs:
                raise RequestError(400, f'no output "{output}" in this signature')
        return own.ModelInferResponse(
            model_name=version.model,
            model_version=str(version.number),
            id=request.id,
            outputs=[
                own.InferTensor(
                    name=output,
                    datatype=v2_tensors.datatype_of(outputs[output]),
                    shape=outputs[output].shape,
                )
                for output in wanted
            ],
            raw_output_contents=[v2_tensors.to_raw(outputs[output]) for output in wanted],
        )


def _target(name: str, version: str) -> Target:
    # Python refuses to convert numbers of thousands of digits.
    if version and not (version.isdecimal() and len(version) <= 20):
        raise RequestError(400, f'the version "{version[:40]}" is not a version number')
    return Target(name, int(version) if version else None)


def _arrays(request: Any, specs: Mapping[str, tf.TensorSpec]) -> Arrays:
    """Parse the inputs of a request: raw bytes for all inputs, or typed contents for all."""
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise RequestError(400, f"{len(request.inputs)} inputs have {len(raw)} raw contents")
    arrays: dict[str, np.ndarray] = {}
    for n, given in enumerate(request.inputs):
        if given.name not in specs or given.name in arrays:
            raise RequestError(400, f'unknown or repeated input "{given.name}"')
        spec, shape = specs[given.name], list(given.shape)
        v2_tensors.check(given.name, given.datatype, shape, spec)
        content = raw[n] if raw else _typed(given, spec)
        arrays[given.name] = v2_tensors.from_raw(given.name, content, spec.dtype, shape)
    return arrays


def _typed(given: Any, spec: tf.TensorSpec) -> bytes:
    """Convert typed contents to raw bytes."""
    if given.datatype not in _CONTENTS:
        raise RequestError(
            400, f'input "{given.name}" of {given.datatype} must be sent as raw bytes'
        )
    contents, count = getattr(given.contents, _CONTENTS[given.datatype]), math.prod(given.shape)
    if len(contents) != count:
        raise RequestError(
            400, f'input "{given.name}" has {len(contents)} values; its shape takes {count}'
        )
    leaves = list(contents)
    array = np.empty(len(leaves), dtype=object)
    array[:] = leaves
    try:
        return v2_tensors.to_raw(
            array if spec.dtype == tf.string else np.array(leaves, spec.dtype.as_numpy_dtype)
        )
    except OverflowError as error:
        raise RequestError(400, f'input "{given.name}" has a number out of range') from error
