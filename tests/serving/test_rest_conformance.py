"""Guards TF Serving's REST API as a whole: each row is a request, its status, the shape of its
answer, and where TF Serving says so.

Sources: [R] RESTful API, by section; [U] `http_rest_api_util.cc`; [H] `http_rest_api_handler.cc`;
[S] `status.proto` and its table of HTTP statuses; [P] `predict_util.cc`; [C] `classifier.cc`;
[G] `regressor.cc`; [M] `get_model_status_impl.cc`; [D] `get_model_metadata_impl.cc`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import tensorflow as tf

from cvpipe.serving.errors import to_request_error
from cvpipe.serving.policy import ALL, Policy
from cvpipe.serving.settings import Settings
from toy_served import POISON, ask, b64, save_toys, served

M = "/v1/models/toy"
V1, V2, STABLE = f"{M}/versions/1", f"{M}/versions/2", f"{M}/labels/stable"
IMAGE = b64(b"an image")
ROWS = {"instances": [IMAGE, IMAGE]}
TENSOR = {"signature_name": "tensor"}
NUMBERS = [[1, 2.5], [3, 4]]

Check = Callable[[Any], bool]


class Row(NamedTuple):
    """A request and the required answer."""

    method: str
    path: str
    body: Any
    status: int
    holds: Check
    source: str


def error(*words: str) -> Check:
    return lambda content: list(content) == ["error"] and all(w in content["error"] for w in words)


def predictions(count: int) -> Check:
    return lambda content: list(content) == ["predictions"] and len(content["predictions"]) == count


def columns(content: Any) -> bool:
    return list(content) == ["outputs"] and "valid" in content["outputs"]


def states(*numbers: str) -> Check:
    ok = {"error_code": "OK", "error_message": ""}
    return lambda content: (
        content
        == {
            "model_version_status": [
                {"version": number, "state": "AVAILABLE", "status": ok} for number in numbers
            ]
        }
    )


def metadata(number: str) -> Check:
    def check(content: Any) -> bool:
        signature = content["metadata"]["signature_def"]["signature_def"]["serving_default"]
        return (
            content["model_spec"] == {"name": "toy", "signature_name": "", "version": number}
            and signature["method_name"] == "tensorflow/serving/predict"
            and signature["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
        )

    return check


def equals(expected: Any) -> Check:
    return lambda content: content == expected


def version(number: int) -> Check:
    return lambda content: {row["version"] for row in content["predictions"]} == {number}


TABLE = [
    # Status and metadata
    Row("GET", M, None, 200, states("2", "1"), "R: Model status API; without a version, all"),
    Row("GET", V1, None, 200, states("1"), "R: Model status API, /versions/N"),
    Row("GET", STABLE, None, 200, states("1"), "R: Model status API, /labels/L"),
    Row("GET", f"{M}/versions/7", None, 404, error("7"), "M: Could not find version"),
    Row("GET", f"{M}/labels/none", None, 404, error("none"), "M: label not found"),
    Row("GET", "/v1/models/none", None, 404, error("none"), "M: Could not find any versions"),
    Row("GET", f"{M}/metadata", None, 200, metadata("2"), "R: Model metadata API; latest"),
    Row("GET", f"{V1}/metadata", None, 200, metadata("1"), "R: Model metadata API, /versions/N"),
    Row("GET", f"{STABLE}/metadata", None, 200, metadata("1"), "R: Model metadata, /labels/L"),
    Row("GET", "/v1/models/none/metadata", None, 404, error("none"), "D: Servable not found"),
    Row("GET", f"{M}/versions/7/metadata", None, 404, error("7"), "D: Servable not found"),
    # Forms of predict
    Row("POST", f"{M}:predict", ROWS, 200, predictions(2), "R: Predict API, row format"),
    Row("POST", f"{M}:predict", {"inputs": [IMAGE]}, 200, columns, "R: column; one input, bare"),
    Row(
        "POST",
        f"{M}:predict",
        {"inputs": {"image_bytes": [IMAGE]}},
        200,
        columns,
        "R: column format, named",
    ),
    Row(
        "POST",
        f"{M}:predict",
        {"instances": [{"image_bytes": IMAGE}]},
        200,
        predictions(1),
        "R: row format, named",
    ),
    Row(
        "POST",
        f"{M}:predict",
        {**TENSOR, "instances": NUMBERS},
        200,
        equals(
            {"predictions": [{"sum": 3.5, "twice": [2.0, 5.0]}, {"sum": 7.0, "twice": [6.0, 8.0]}]}
        ),
        "R: several outputs are an object for each row",
    ),
    Row(
        "POST",
        f"{M}:predict",
        {**TENSOR, "inputs": NUMBERS},
        200,
        equals({"outputs": {"sum": [3.5, 7.0], "twice": [[2.0, 5.0], [6.0, 8.0]]}}),
        "R: several outputs are an object of columns",
    ),
    Row(
        "POST",
        f"{M}:predict",
        '{"signature_name": "tensor", "instances": [[NaN, -Infinity]]}',
        200,
        lambda content: "NaN" in json.dumps(content),
        "R: JSON conformance, NaN and Infinity",
    ),
    Row(
        "POST",
        f"{M}:predict",
        {"signature_name": "", **ROWS},
        200,
        predictions(2),
        "R: an empty signature_name is serving_default",
    ),
    Row("POST", f"{V1}:predict", ROWS, 200, version(1), "R: /versions/N"),
    Row("POST", f"{V2}:predict", ROWS, 200, version(2), "R: /versions/N"),
    Row("POST", f"{STABLE}:predict", ROWS, 200, version(1), "R: /labels/L"),
    Row("POST", f"{M}:predict", ROWS, 200, version(2), "R: no version is the latest"),
    Row("POST", f"{M}:predict", {"instances": ["text"]}, 200, predictions(1), "R: UTF-8 strings"),
    # Predict, refused
    Row("POST", f"{M}:predict", "", 400, error(), "U: JSON Parse error"),
    Row("POST", f"{M}:predict", "{", 400, error(), "U: JSON Parse error"),
    Row("POST", f"{M}:predict", "[]", 400, error(), "U: not a JSON object"),
    Row("POST", f"{M}:predict", {}, 400, error(), "U: Missing 'inputs' or 'instances'"),
    Row("POST", f"{M}:predict", {**ROWS, "inputs": []}, 400, error(), "U: not both"),
    Row("POST", f"{M}:predict", {"instances": []}, 400, error(), "U: no values"),
    Row("POST", f"{M}:predict", {"instances": {}}, 400, error(), "U: must be a list"),
    Row("POST", f"{M}:predict", {"signature_name": 1, **ROWS}, 400, error(), "U: must be a string"),
    Row(
        "POST",
        f"{M}:predict",
        {"signature_name": "none", **ROWS},
        400,
        error("none"),
        "P: Serving signature key not found (FailedPrecondition)",
    ),
    Row(
        "POST",
        f"{M}:predict",
        {"instances": [{"picture": IMAGE}]},
        400,
        error("image_bytes"),
        "U: Failed to process element; missing named input",
    ),
    Row(
        "POST",
        f"{M}:predict",
        {"instances": [{"image_bytes": IMAGE}, IMAGE]},
        400,
        error(),
        "U: Expecting object",
    ),
    Row("POST", f"{M}:predict", {**TENSOR, "instances": [[1, 2], [3]]}, 400, error(), "U: ragged"),
    Row("POST", f"{M}:predict", {**TENSOR, "instances": [[1]]}, 400, error(), "P: other shape"),
    Row("POST", f"{M}:predict", {**TENSOR, "instances": [["a", "b"]]}, 400, error(), "U: type"),
    Row(
        "POST",
        f"{M}:predict",
        {"instances": [b64(POISON)]},
        400,
        error("poison"),
        "S: the model's InvalidArgument",
    ),
    Row("POST", "/v1/models/none:predict", ROWS, 404, error("none"), "H: Servable not found"),
    Row("POST", "/v1/models/none:predict", "{", 404, error("none"), "H: found before parsing"),
    Row("POST", f"{M}/versions/7:predict", ROWS, 404, error("7"), "H: Servable not found"),
    Row("POST", f"{M}/labels/none:predict", ROWS, 404, error("none"), "H: unrecognized label"),
    # Signatures of other methods
    Row("POST", f"{M}:classify", {"examples": [{}]}, 400, error("classify"), "C: method_name"),
    Row("POST", f"{M}:regress", {"examples": [{}]}, 400, error("regress"), "G: method_name"),
    Row("POST", "/v1/models/none:classify", {}, 404, error("none"), "H: Servable not found"),
    # Addresses
    Row("POST", f"{M}:explain", ROWS, 400, error("malformed request"), "H: Malformed request"),
    Row("GET", f"{M}/versions/one", None, 400, error("malformed request"), "H: Malformed request"),
    Row("GET", "/v1/none", None, 400, error("malformed request"), "H: Malformed request"),
    Row("GET", f"{M}:predict", None, 405, error("POST"), "H: no other method; 405 of RFC 9110"),
    Row("POST", M, {}, 405, error("GET"), "H: no other method; 405 of RFC 9110"),
    Row("GET", "/monitoring/none", None, 404, error(), "H: not under /v1"),
]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = save_toys(tmp_path_factory.mktemp("models"))
    with served(folder, Settings(policy=Policy(ALL, labels={"toy": {"stable": 1}}))) as server:
        yield server.server_port


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.method} {row.path} {row.source}")
def test_every_request_of_the_table(port: int, row: Row) -> None:
    status, content, headers = ask(port, row.method, row.path, row.body)
    assert status == row.status, content
    assert headers["Content-Type"] == "application/json"
    assert row.holds(content), content


# [S] RESTful API, and `ToHTTPStatusCode` in `net_http/server`: the whole table.
STATUSES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INTERNAL": 500,
    "DATA_LOSS": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


@pytest.mark.parametrize("name", STATUSES)
def test_every_status_of_tensorflow_has_its_http_status(name: str) -> None:
    made = tf.errors.OpError(None, None, "why", getattr(tf.errors, name))
    assert to_request_error(made).status == STATUSES[name]
