"""Guards the Open Inference Protocol (KServe V2) over REST.

Each row of the tables names its section in the protocol's specification.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from cvpipe.serving.policy import ALL, Policy
from cvpipe.serving.settings import Settings
from toy_served import ask, b64, save_toys, served

MODEL = "/v2/models/toy"
INFER = f"{MODEL}/infer"
IMAGES = {"name": "image_bytes", "datatype": "BYTES", "shape": [2]}
NUMBERS = {"name": "image", "datatype": "FP32", "shape": [2, 2]}
TENSOR = {"parameters": {"signature_name": "tensor"}}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = save_toys(tmp_path_factory.mktemp("models"))
    with served(folder, Settings(policy=Policy(ALL))) as server:
        yield server.server_port


def infer(port: int, body: Any, path: str = INFER) -> Any:
    status, content, _ = ask(port, "POST", path, body)
    assert status == 200, content
    return content


def outputs(content: Any) -> dict[str, Any]:
    return {one["name"]: one for one in content["outputs"]}


@pytest.mark.parametrize(
    "path, expected",
    [
        ("/v2/health/live", {"live": True}),  # Health
        ("/v2/health/ready", {"ready": True}),
        (f"{MODEL}/ready", {"name": "toy", "ready": True}),
        (f"{MODEL}/versions/1/ready", {"name": "toy", "ready": True}),
    ],
)
def test_health(port: int, path: str, expected: Any) -> None:
    assert ask(port, "GET", path)[:2] == (200, expected)


def test_metadata(port: int) -> None:
    assert ask(port, "GET", "/v2")[1]["extensions"] == ["binary_tensor_data"]
    content = ask(port, "GET", MODEL)[1]
    assert content["versions"] == ["1", "2"] and content["platform"] == "tensorflow_savedmodel"
    assert {"name": "image_bytes", "datatype": "BYTES", "shape": [-1]} in content["inputs"]
    assert {"name": "threshold", "datatype": "FP32", "shape": []} in content["inputs"]
    assert {"name": "valid", "datatype": "BOOL", "shape": [-1]} in content["outputs"]


def test_images_in_base64_are_answered_as_tf_serving_does(port: int) -> None:
    data = [b64(b"one")["b64"], b64(b"two")["b64"]]
    content = infer(port, {"id": "7", "inputs": [{**IMAGES, "data": data}]})
    assert (content["model_name"], content["model_version"], content["id"]) == ("toy", "2", "7")
    rest = ask(port, "POST", "/v1/models/toy:predict", {"instances": [b64(b"one"), b64(b"two")]})[
        1
    ]["predictions"]
    told = outputs(content)
    assert told["top_class_ids"]["data"] == [row["top_class_ids"][0] for row in rest]
    assert told["top_class_ids"]["shape"] == [2, 1]
    assert told["top_class_names"]["data"] == [row["top_class_names"][0] for row in rest]
    assert told["valid"] == {"name": "valid", "datatype": "BOOL", "shape": [2], "data": [True] * 2}


def test_versions_signatures_and_outputs_are_chosen(port: int) -> None:
    asked = {"inputs": [{**NUMBERS, "data": [1, 2, 3, 4]}], **TENSOR, "outputs": [{"name": "sum"}]}
    content = infer(port, asked, f"{MODEL}/versions/1/infer")
    assert content["model_version"] == "1"
    assert content["outputs"] == [
        {"name": "sum", "datatype": "FP32", "shape": [2], "data": [3.0, 7.0]}
    ]
    nested = {"inputs": [{**NUMBERS, "data": [[1, 2], [3, 4]]}], **TENSOR}
    assert outputs(infer(port, nested))["twice"]["data"] == [2.0, 4.0, 6.0, 8.0]


def test_null_stands_for_an_absent_member(port: int) -> None:
    given = {**NUMBERS, "data": [1, 2, 3, 4], "parameters": None}
    nothing = {"id": "7", "parameters": {**TENSOR["parameters"], "binary_data_output": None}}
    plain = infer(port, {**nothing, "inputs": [given], "outputs": None})
    assert set(outputs(plain)) == {"sum", "twice"}
    wanted = {"name": "sum", "parameters": None}
    chosen = infer(port, {**nothing, "inputs": [given], "outputs": [wanted]})
    assert outputs(chosen) == {"sum": outputs(plain)["sum"]}
    images = {**IMAGES, "data": [b64(b"one")["b64"]] * 2}
    unnamed = infer(port, {"inputs": [images], "parameters": None})
    assert infer(port, {"inputs": [images], "parameters": {"signature_name": None}}) == unnamed


def test_a_null_choice_of_binary_output_is_the_requests_choice(port: int) -> None:
    asked = {
        "inputs": [{**NUMBERS, "data": [1, 2, 3, 4]}],
        "outputs": [{"name": "sum", "parameters": {"binary_data": None}}],
        "parameters": {**TENSOR["parameters"], "binary_data_output": True},
    }
    status, content, answered = ask(port, "POST", INFER, asked)
    assert status == 200
    assert content[int(answered["Inference-Header-Content-Length"]) :] == struct.pack("<2f", 3, 7)


def binary(head: dict[str, Any], *parts: bytes) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(head).encode()
    return text + b"".join(parts), {"Inference-Header-Content-Length": str(len(text))}


def test_binary_tensors_go_in_and_out(port: int) -> None:
    images = b"".join(struct.pack("<I", len(one)) + one for one in (b"one", b"\xff\x00"))
    given = {**IMAGES, "parameters": {"binary_data_size": len(images)}}
    wanted = [{"name": "top_class_names", "parameters": {"binary_data": True}}, {"name": "valid"}]
    body, headers = binary({"inputs": [given], "outputs": wanted}, images)
    status, content, answered = ask(port, "POST", INFER, body, headers)
    assert status == 200 and answered["Content-Type"] == "application/octet-stream"
    size = int(answered["Inference-Header-Content-Length"])
    names, valid = json.loads(content[:size])["outputs"]
    assert valid["data"] == [True, True]
    raw = content[size:]
    assert names["parameters"]["binary_data_size"] == len(raw)
    first = int.from_bytes(raw[:4], "little")
    rows = ask(port, "POST", "/v1/models/toy:predict", {"instances": [b64(b"one")]})[1]
    assert raw[4 : 4 + first].decode() == rows["predictions"][0]["top_class_names"][0]


def test_binary_numbers_are_read_to_the_bit(port: int) -> None:
    raw = struct.pack("<4f", 0.1, 2, 3, 4)
    given = {**NUMBERS, "parameters": {"binary_data_size": len(raw)}}
    body, headers = binary(
        {"inputs": [given], "parameters": {"signature_name": "tensor", "binary_data_output": True}},
        raw,
    )
    status, content, answered = ask(port, "POST", INFER, body, headers)
    assert status == 200
    size = int(answered["Inference-Header-Content-Length"])
    told = json.loads(content[:size])["outputs"]
    at = size
    for one in told:
        part = content[at : at + one["parameters"]["binary_data_size"]]
        at += len(part)
        if one["name"] == "twice":
            assert part == struct.pack("<4f", *[2 * v for v in struct.unpack("<4f", raw)])
    assert at == len(content)


@pytest.mark.parametrize(
    "method, path, body, status, sentence",
    [
        ("GET", "/v2/models/none", None, 404, 'no model "none"'),
        ("GET", f"{MODEL}/versions/9", None, 404, "no version 9"),
        ("GET", "/v2/models/none/ready", None, 404, 'no model "none"'),
        ("GET", "/v2/nothing", None, 404, "no address"),
        ("GET", INFER, None, 405, "allows POST"),
        ("POST", MODEL, {}, 405, "allows GET"),
        ("POST", INFER, "{", 400, "not JSON"),
        ("POST", INFER, {}, 400, '"inputs"'),
        ("POST", INFER, {"inputs": {}}, 400, '"inputs"'),
        ("POST", INFER, {"inputs": None}, 400, '"inputs"'),
        ("POST", INFER, {"inputs": [], "outputs": 0}, 400, '"outputs" must be a list'),
        ("POST", INFER, {"inputs": [], "parameters": []}, 400, '"parameters" must be an object'),
        ("POST", INFER, {"inputs": []}, 400, "lacks the inputs image_bytes"),
        ("POST", INFER, {"inputs": [{"name": "x"}]}, 400, 'unknown or repeated input "x"'),
        ("POST", INFER, {"inputs": [{"name": "image_bytes"}]}, 400, 'no "shape"'),
        ("POST", INFER, {"inputs": [{**IMAGES, "data": ["YQ=="]}]}, 400, "1 values"),
        ("POST", INFER, {"inputs": [{**IMAGES, "data": ["YQ==", 1]}]}, 400, "takes strings"),
        ("POST", INFER, {"inputs": [{**IMAGES, "data": ["YQ==", "!"]}]}, 400, "not base64"),
        ("POST", INFER, {"inputs": [{**IMAGES, "datatype": "FP32"}]}, 400, "takes BYTES"),
        ("POST", INFER, {"inputs": [{**IMAGES, "datatype": None}]}, 400, "has no datatype"),
        ("POST", INFER, {"inputs": [{**IMAGES, "shape": [1, 2]}]}, 400, "has shape (1, 2)"),
        ("POST", INFER, {"inputs": [{**IMAGES, "shape": [-2]}]}, 400, "list of lengths"),
        (
            "POST",
            INFER,
            {"inputs": [{**NUMBERS, "data": [1] * 4}], "outputs": [{"name": "x"}], **TENSOR},
            400,
            'no output "x"',
        ),
        (
            "POST",
            INFER,
            {"inputs": [{**IMAGES, "parameters": {"binary_data_size": 9}}]},
            400,
            "fewer bytes",
        ),
        (
            "POST",
            INFER,
            {"inputs": [], "parameters": {"signature_name": "x"}},
            400,
            'no signature "x"',
        ),
    ],
)
def test_wrong_requests_get_clear_errors(
    port: int, method: str, path: str, body: Any, status: int, sentence: str
) -> None:
    answered, content, _ = ask(port, method, path, body)
    assert (answered, list(content)) == (status, ["error"])
    assert sentence in content["error"]


def test_malformed_binary_tensors_are_refused(port: int) -> None:
    for size, raw in ((6, b"\x05\x00\x00\x00ab"), (7, b"\x01\x00\x00\x00a\x00\x00"), (0, b"more")):
        given = {**IMAGES, "shape": [1], "parameters": {"binary_data_size": size}}
        body, headers = binary({"inputs": [given]}, raw)
        assert ask(port, "POST", INFER, body, headers)[0] == 400
    body, headers = binary({"inputs": []})
    assert ask(port, "POST", INFER, body, {next(iter(headers)): "999999"})[0] == 400
