"""Routes of the Open Inference Protocol (KServe V2) over REST: health, metadata, inference."""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import Response

from cvpipe import __version__
from cvpipe.serving import v2
from cvpipe.serving.batching import Arrays
from cvpipe.serving.errors import RequestError
from cvpipe.serving.exchange import Exchange, Json
from cvpipe.serving.models import BYTES_SIGNATURE
from cvpipe.serving.offload import offload
from cvpipe.serving.routes import check_method, target_of
from cvpipe.serving.service import Service, Target, is_ready, runner_of, servable_of
from cvpipe.serving.versions import Version

HEADER_LENGTH = "Inference-Header-Content-Length"
SERVER = {"name": "cvpipe", "version": __version__, "extensions": ["binary_tensor_data"]}
_MODEL = re.compile(
    r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[0-9]{1,18}))?(?:/(?P<verb>ready|infer))?"
)


async def live(exchange: Exchange) -> Response:
    """Report that the process is alive."""
    check_method(exchange.method, "GET")
    return Json({"live": True})


async def ready(exchange: Exchange) -> Response:
    """Return 200 if requests are accepted, else 503."""
    check_method(exchange.method, "GET")
    yes = exchange.service.ready
    return Json({"ready": yes}, 200 if yes else 503)


async def answer(exchange: Exchange) -> Response:
    """Handle a request under /v2.

    Raises:
        RequestError: the request failed. tf.errors.OpError: the model failed.
    """
    if exchange.raw_path.rstrip("/") == "/v2":
        check_method(exchange.method, "GET")
        return Json(SERVER)
    match = _MODEL.fullmatch(exchange.raw_path)
    if match is None:
        raise RequestError(404, f"no address {exchange.raw_path}; GET /v1/models lists the models")
    check_method(exchange.method, "POST" if match["verb"] == "infer" else "GET")
    target = target_of(match)
    if match["verb"] == "infer":
        return await _infer(exchange, target)
    if match["verb"] == "ready":
        return _model_ready(exchange.service, target)
    return Json(model_metadata(exchange.service, target))


def model_metadata(service: Service, target: Target) -> dict[str, Any]:
    """Return the metadata of a model: its versions and the tensors of its default signature."""
    with service.shelf.lease(*target) as version:
        servable = runner_of(version).servable
        name = BYTES_SIGNATURE
        if name not in servable.signatures:
            name = next((own for own in sorted(servable.signatures)), "")
        return {
            "name": version.model,
            "versions": [str(number) for number in service.shelf.numbers(version.model)],
            "platform": "tensorflow_savedmodel",
            "inputs": v2.describe(servable.input_specs(name)) if name else [],
            "outputs": v2.describe(servable.output_specs(name)) if name else [],
        }


def _model_ready(service: Service, target: Target) -> Response:
    yes = is_ready(service, target)
    return Json({"name": target.model, "ready": yes}, 200 if yes else 503)


async def _infer(exchange: Exchange, target: Target) -> Response:
    service = exchange.service
    with service.admitted(), service.shelf.lease(*target) as version:
        exchange.of(version)
        length = exchange.request.headers.get(HEADER_LENGTH)
        json_bytes = v2.json_bytes(length)
        body = await exchange.body(service.settings.max_instances, json_bytes)
        deadline = service.deadline()
        request, name, given = await offload(len(body), _parsed, version, body, json_bytes)
        exchange.mark("parse")
        outputs, _ = await service.predict(version, name, given, deadline)
        exchange.mark("answer")
        head = {"model_name": version.model, "model_version": str(version.number)}
        if "id" in request.content:
            head["id"] = request.content["id"]
        wanted = v2.wanted_outputs(request, outputs)
        size = sum(value.size for value in outputs.values()) * 8
        content, json_length = await offload(size, v2.to_answer, head, outputs, wanted)
    if json_length is None:
        return Json(content)
    headers = {HEADER_LENGTH: str(json_length)}
    return Response(content, headers=headers, media_type="application/octet-stream")


def _parsed(
    version: Version, body: bytearray, json_bytes: int | None
) -> tuple[v2.InferRequest, str, Arrays]:
    request = v2.parse_request(body, json_bytes)
    servable, name = servable_of(version, request.signature_name)
    return request, name, v2.to_arrays(request, servable, name)
