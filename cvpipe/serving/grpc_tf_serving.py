"""TF Serving's gRPC services: PredictionService and ModelService.

Source: TF Serving 2.20, `prediction_service.proto`, `model_service.proto` and their implementation.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from cvpipe.grpc_messages import tf_serving
from cvpipe.serving import v2
from cvpipe.serving.batching import Arrays
from cvpipe.serving.errors import RequestError
from cvpipe.serving.grpc_calls import Call, method
from cvpipe.serving.offload import offload
from cvpipe.serving.reload import check_loaded, reloaded
from cvpipe.serving.service import METHODS, Service, Target, runner_of, servable_of, wrong_method
from cvpipe.serving.versions import Version

PREDICTION, MODEL = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"
SIGNATURES = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
_CODES = {"OK": 0, "UNKNOWN": 2, "DATA_LOSS": 15}


def handlers(service: Service) -> list[grpc.GenericRpcHandler[Any, Any]]:
    """Return the handlers of both services."""
    own = tf_serving()

    def of(handler: Any, request: str, response: str) -> Any:
        return method(service, handler, getattr(own, request), getattr(own, response))

    prediction = {
        "Predict": of(_predict, "PredictRequest", "PredictResponse"),
        "GetModelMetadata": of(_metadata, "GetModelMetadataRequest", "GetModelMetadataResponse"),
        "Classify": of(_classify, "ClassificationRequest", "ClassificationResponse"),
        "Regress": of(_regress, "ClassificationRequest", "ClassificationResponse"),
        "MultiInference": of(_several, "MultiInferenceRequest", "MultiInferenceResponse"),
    }
    model = {
        "GetModelStatus": of(_status, "GetModelStatusRequest", "GetModelStatusResponse"),
        "HandleReloadConfigRequest": of(_reload, "ReloadConfigRequest", "ReloadConfigResponse"),
    }
    return [
        grpc.method_handlers_generic_handler(PREDICTION, prediction),
        grpc.method_handlers_generic_handler(MODEL, model),
    ]


def _target(spec: Any) -> Target:
    """Return the target of a ModelSpec."""
    if not spec.name:
        raise RequestError(400, "Missing ModelSpec: give the model's name")
    if spec.HasField("version") and spec.version_label:
        raise RequestError(400, "the ModelSpec has a version and a label; give only one of them")
    number = spec.version.value if spec.HasField("version") else None
    return Target(spec.name, number, spec.version_label or None)


def _spec(version: Version, signature_name: str = "") -> Any:
    own = tf_serving()
    number = own.Int64Value(value=version.number)
    return own.ModelSpec(name=version.model, version=number, signature_name=signature_name)


async def _predict(call: Call, request: Any) -> Any:
    service = call.service
    target = _target(request.model_spec)
    with service.admitted(), service.shelf.lease(*target) as version:
        call.of(version)
        servable, name = servable_of(version, request.model_spec.signature_name)
        size = sum(len(value) for value in request.inputs.values())
        given = await offload(size, _arrays, request.inputs, servable.input_specs(name), service)
        v2.check_given(given, servable.input_specs(name), servable.defaults(name))
        outputs, _ = await service.predict(version, name, given, call.deadline())
        wanted = _wanted(list(request.output_filter), outputs)
        size = sum(value.size for value in outputs.values()) * 4
        protos = await offload(size, _protos, {key: outputs[key] for key in wanted})
        return tf_serving().PredictResponse(outputs=protos, model_spec=_spec(version, name))


def _wanted(names: list[str], outputs: Arrays) -> list[str]:
    for name in names:
        if name not in outputs:
            raise RequestError(400, f"output tensor alias not found in signature: {name}")
    return names or sorted(outputs)


def _arrays(
    inputs: Mapping[str, bytes], specs: Mapping[str, tf.TensorSpec], service: Service
) -> Arrays:
    """Parse serialized TensorProtos.

    Raises:
        RequestError: 400 for an unknown input, a wrong dtype or shape, or damaged data.
    """
    arrays = {}
    for name, content in inputs.items():
        if name not in specs:
            known = ", ".join(sorted(specs))
            raise RequestError(400, f'unknown input "{name}"; this signature takes {known}')
        arrays[name] = _array(name, content, specs[name], service.settings.max_body_bytes)
    return arrays


def _array(name: str, content: bytes, spec: tf.TensorSpec, most: int) -> np.ndarray:
    try:
        proto = tensor_pb2.TensorProto.FromString(content)
        dtype = tf.as_dtype(proto.dtype)
    except Exception as error:
        raise RequestError(400, f'input "{name}" is not a TensorProto: {error}') from None
    shape = [dimension.size for dimension in proto.tensor_shape.dim]
    if dtype != spec.dtype:
        raise RequestError(
            400, f'input "{name}" is {dtype.name}; the model takes {spec.dtype.name}'
        )
    # A TensorProto with a single value may have any shape, so a few bytes could request all memory.
    if min(shape, default=0) < 0 or math.prod(shape) * max(dtype.size or 8, 1) > most:
        raise RequestError(400, f'input "{name}" has a shape that is not allowed: {shape}')
    if not spec.shape.is_compatible_with(shape):
        raise RequestError(400, f'input "{name}" has shape {shape}; the model takes {spec.shape}')
    try:
        array: np.ndarray = tf.make_ndarray(proto)
    except Exception as error:
        raise RequestError(400, f'input "{name}" is damaged: {error}') from None
    return array


def _protos(outputs: Arrays) -> dict[str, bytes]:
    return {
        name: tf.make_tensor_proto(value, shape=value.shape).SerializeToString()
        for name, value in outputs.items()
    }


async def _metadata(call: Call, request: Any) -> Any:
    own = tf_serving()
    fields = list(request.metadata_field)
    if not fields:
        raise RequestError(400, "GetModelMetadataRequest must specify at least one metadata_field")
    if unknown := [name for name in fields if name != "signature_def"]:
        raise RequestError(400, f"Metadata field {unknown[0]} is not supported")
    with call.service.shelf.lease(*_target(request.model_spec)) as version:
        call.of(version)
        protos = runner_of(version).servable.signature_protos
        signatures = {name: proto.SerializeToString() for name, proto in protos.items()}
        content = own.SignatureDefMap(signature_def=signatures).SerializeToString()
        return own.GetModelMetadataResponse(
            model_spec=_spec(version),
            metadata={"signature_def": own.Any(type_url=SIGNATURES, value=content)},
        )


async def _classify(call: Call, request: Any) -> Any:
    _refuse_method(call, request.model_spec, "classify")


async def _regress(call: Call, request: Any) -> Any:
    _refuse_method(call, request.model_spec, "regress")


async def _several(call: Call, request: Any) -> Any:
    if not request.tasks:
        raise RequestError(400, "Inference request must contain at least one task")
    task = request.tasks[0]
    verb = task.method_name.rpartition("/")[2]
    if verb not in METHODS:
        raise RequestError(501, f"Unsupported signature method_name: {task.method_name}")
    _refuse_method(call, task.model_spec, verb)


def _refuse_method(call: Call, spec: Any, verb: str) -> None:
    with call.service.shelf.lease(*_target(spec)) as version:
        call.of(version)
        raise wrong_method(version, spec.signature_name, verb, "Predict")


async def _status(call: Call, request: Any) -> Any:
    own, target, shelf = tf_serving(), _target(request.model_spec), call.service.shelf
    number = target.version
    if target.label is not None:
        number = shelf.resolve(target.model, target.label)
    return own.GetModelStatusResponse(
        model_version_status=[
            own.ModelVersionStatus(
                version=version.number,
                state=int(version.state),
                status=own.StatusProto(
                    error_code=_CODES[version.error_code], error_message=version.error
                ),
            )
            for version in shelf.status(target.model, number)
        ]
    )


async def _reload(call: Call, request: Any) -> Any:
    own, service = tf_serving(), call.service
    if not service.settings.allow_reload:
        raise RequestError(
            403, "this server doesn't accept configurations; start it with --allow-reload"
        )
    service.shelf.policy = reloaded(request, service.shelf)
    await asyncio.to_thread(service.shelf.scan)
    check_loaded(service.shelf)
    return own.ReloadConfigResponse(status=own.StatusProto())
