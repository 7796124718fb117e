"""Method, path and body → the JSON answer.

Source of the routes: TF Serving, RESTful API, and its `http_rest_api_util.cc`.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from cvpipe.serving import rest
from cvpipe.serving.errors import RequestError
from cvpipe.serving.models import Models, Servable

_MODEL = re.compile(
    r"/v1/models/(?P<model>[^/:]+)"
    r"(?:/versions/(?P<version>[0-9]{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?:(?P<metadata>/metadata)|:(?P<verb>predict|classify|regress))?"
)


def answer(models: Models, method: str, path: str, body: bytes) -> dict[str, Any]:
    """Answers one request, as a JSON object.

    Args:
        models: what is served.
        method: of HTTP, in capitals.
        path: undecoded, with its query if it has one.
        body: empty for GET.

    Raises:
        RequestError: with its HTTP status; 400 for a path under /v1/ that TF Serving calls
            malformed, 404 for any other.
        tf.errors.OpError: the model itself failed on this request.
    """
    path = path.partition("?")[0]
    if path in ("/", "/v1/models"):
        _check_method(method, "GET")
        return {
            "models": [
                {"name": name, "versions": [str(number) for number in models[name]]}
                for name in models
            ]
        }
    match = _MODEL.fullmatch(path)
    if match is None:
        raise RequestError(
            400 if path.startswith("/v1/") else 404,
            f"malformed request: {method} {path}; GET / lists the models",
        )
    _check_method(method, "POST" if match["verb"] else "GET")
    name = unquote(match["model"])
    versions = _versions(models, name, match["version"], match["label"])
    latest = max(versions)
    if match["metadata"]:
        return _metadata(name, latest, versions[latest])
    if match["verb"] is None:
        return _status(sorted(versions, reverse=True))
    if match["verb"] != "predict":
        raise RequestError(501, f"this server doesn't {match['verb']}; ask with :predict")
    return _predict(versions[latest], body)


def _check_method(method: str, allowed: str) -> None:
    if method != allowed:
        raise RequestError(405, f"this address answers {allowed}, not {method}", allow=allowed)


def _versions(
    models: Models, name: str, version: str | None, label: str | None
) -> dict[int, Servable]:
    """The versions a path asks for: all of them when it names none."""
    if name not in models:
        raise RequestError(404, f'no model "{name}"; GET / lists the models')
    if label is not None:
        raise RequestError(
            404,
            f'model "{name}" has no version labelled "{unquote(label)}": here versions have only'
            " numbers",
        )
    if version is None:
        return dict(models[name])
    if int(version) not in models[name]:
        raise RequestError(
            404,
            f'model "{name}" has no version {version}; it has {", ".join(map(str, models[name]))}',
        )
    return {int(version): models[name][int(version)]}


def _status(numbers: list[int]) -> dict[str, Any]:
    """GetModelStatusResponse as JSON; whatever this server lists is loaded, or it would not have
    started.
    """
    loaded = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    return {"model_version_status": [{"version": str(number), **loaded} for number in numbers]}


def _metadata(name: str, number: int, servable: Servable) -> dict[str, Any]:
    """GetModelMetadataResponse as JSON; the key twice is TF Serving's: a SignatureDefMap inside a
    map of metadata.
    """
    model_spec = {"name": name, "signature_name": "", "version": str(number)}
    return {
        "model_spec": model_spec,
        "metadata": {"signature_def": {"signature_def": servable.signature_def}},
    }


def _predict(servable: Servable, body: bytes) -> dict[str, Any]:
    request = rest.parse_request(body)
    signature_name = request.signature_name or "serving_default"
    if signature_name not in servable.signatures:
        names = ", ".join(sorted(servable.signatures))
        raise RequestError(
            400, f'no signature "{signature_name}" in this model; it has {names or "none"}'
        )
    tensors = rest.to_tensors(
        request, servable.input_specs(signature_name), servable.defaults(signature_name)
    )
    outputs = servable.signatures[signature_name](**tensors)
    return rest.to_answer(outputs, request.row_form, servable.valid)
