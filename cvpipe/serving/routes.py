"""Routes of TF Serving's REST API.

Source: TF Serving's page "RESTful API" and its file `http_rest_api_util.cc`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from cvpipe.serving import rest
from cvpipe.serving.batching import Arrays
from cvpipe.serving.errors import RequestError
from cvpipe.serving.exchange import Exchange, Json
from cvpipe.serving.models import Servable
from cvpipe.serving.offload import offload
from cvpipe.serving.service import Service, Target, runner_of, servable_of, wrong_method
from cvpipe.serving.versions import Version

_MODEL = re.compile(
    r"/v1/models/(?P<model>[^/:]+)"
    r"(?:/versions/(?P<version>[0-9]{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?:(?P<metadata>/metadata)|:(?P<verb>predict|classify|regress))?"
)


async def answer(exchange: Exchange) -> Json:
    """Handle a request with a path under /v1, or with a path that has no other route.

    Raises:
        RequestError: the request failed; 400 for a malformed path under /v1/, as in TF Serving, 404
            for other unknown paths.
        tf.errors.OpError: the model failed.
    """
    service, path = exchange.service, exchange.raw_path
    if path in ("/", "/v1/models"):
        check_method(exchange.method, "GET")
        return Json(list_models(service))
    match = _MODEL.fullmatch(path)
    if match is None:
        raise RequestError(
            400 if path.startswith("/v1/") else 404,
            f"malformed request: {exchange.method} {path}; GET / lists the models",
        )
    check_method(exchange.method, "POST" if match["verb"] else "GET")
    target = target_of(match)
    if match["metadata"]:
        return Json(_metadata(service, target))
    if match["verb"] is None:
        return Json(_status(service, target))
    if match["verb"] != "predict":
        await exchange.body()
        with service.shelf.lease(*target) as version:
            raise wrong_method(version, "", match["verb"], ":predict")
    return await _predict(exchange, target)


def target_of(match: re.Match[str]) -> Target:
    """Return the target from the groups "model", "version" and "label" of a path."""
    found = match.groupdict()
    number, label = found["version"], found.get("label")
    return Target(
        unquote(found["model"]), int(number) if number else None, unquote(label) if label else None
    )


def check_method(method: str, allowed: str) -> None:
    """Refuse HTTP methods other than the allowed one.

    Raises:
        RequestError: 405.
    """
    if method != allowed:
        raise RequestError(405, f"this path allows {allowed}, not {method}", allow=allowed)


def list_models(service: Service) -> dict[str, Any]:
    """Return the served models and versions."""
    shelf = service.shelf
    return {
        "models": [
            {"name": name, "versions": [str(number) for number in shelf.numbers(name)]}
            for name in shelf.names()
        ]
    }


def _status(service: Service, target: Target) -> dict[str, Any]:
    """Return GetModelStatusResponse as JSON."""
    number = target.version
    if target.label is not None:
        number = service.shelf.resolve(target.model, target.label)
    versions = service.shelf.status(target.model, number)
    return {"model_version_status": [_version_status(version) for version in versions]}


def _version_status(version: Version) -> dict[str, Any]:
    return {
        "version": str(version.number),
        "state": version.state.name,
        "status": {"error_code": version.error_code, "error_message": version.error},
    }


def _metadata(service: Service, target: Target) -> dict[str, Any]:
    """Return GetModelMetadataResponse as JSON. As in TF Serving, "signature_def" is nested twice:
    it is a key of the metadata, and the field of a SignatureDefMap.
    """
    with service.shelf.lease(*target) as version:
        signature_def = runner_of(version).servable.signature_def
        spec = {"name": version.model, "signature_name": "", "version": str(version.number)}
    return {"model_spec": spec, "metadata": {"signature_def": {"signature_def": signature_def}}}


async def _predict(exchange: Exchange, target: Target) -> Json:
    service = exchange.service
    with service.admitted(), service.shelf.lease(*target) as version:
        exchange.of(version)
        body = await exchange.body(service.settings.max_instances)
        deadline = service.deadline()
        form, servable, name, given = await offload(len(body), _parsed, version, body)
        exchange.mark("parse")
        outputs, errors = await service.predict(version, name, given, deadline)
        exchange.mark("answer")
        size = sum(value.size for value in outputs.values()) * 8
        return await offload(size, _written, outputs, form, servable.valid, errors)


def _parsed(version: Version, body: bytearray) -> tuple[bool, Servable, str, Arrays]:
    request = rest.parse_request(body)
    servable, name = servable_of(version, request.signature_name)
    given = rest.to_arrays(request, servable.input_specs(name), servable.defaults(name))
    return request.row_form, servable, name, given


def _written(outputs: Arrays, row_form: bool, valid: str | None, errors: Mapping[int, str]) -> Json:
    return Json(rest.to_answer(outputs, row_form, valid, errors))
