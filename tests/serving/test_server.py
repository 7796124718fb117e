"""Guards the server, on a free port with a real SavedModel: TF Serving's REST API."""

import base64
import http.client
import json
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import tensorflow as tf

from cvpipe.errors import UserError
from cvpipe.export.manifest import write_manifest
from cvpipe.serving.client import predict
from cvpipe.serving.models import find_models, load_servable
from cvpipe.serving.server import make_server
from cvpipe.serving.settings import Settings
from toy_served import served

MODEL = "/v1/models/probe"
PREDICT = f"{MODEL}:predict"


class Probe(tf.Module):
    """A model with the signatures of cvpipe's artifacts, whose answers depend on the input and on a
    variable.
    """

    def __init__(self, version):
        super().__init__()
        self.version = tf.Variable(version)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serving_default(self, image_bytes):
        length = tf.strings.length(image_bytes)
        share = tf.cast(length, tf.float32) / 16
        name = tf.strings.as_string(length)
        return {
            "class_id": tf.cast(length, tf.int64),
            "class_name": name,
            "probability": share,
            "probabilities": tf.stack([share, 1 - share], axis=1),
            "top_class_names": tf.stack([name, name + "é"], axis=1),
            "valid": length > 0,
            "image_bytes": image_bytes,
            "version": tf.fill(tf.shape(length), self.version),
        }

    @tf.function(input_signature=[tf.TensorSpec([None, 2, 2, 1], tf.float32)])
    def tensor(self, image):
        return {"sum": tf.reduce_sum(image, axis=[1, 2, 3])}

    @tf.function(
        input_signature=[tf.TensorSpec([None, 2], tf.float32), tf.TensorSpec([None], tf.int32)]
    )
    def pair(self, left, right):
        return {
            "total": tf.reduce_sum(left, axis=1) + tf.cast(right, tf.float32),
            "rows": tf.shape(right)[0],
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def root(self, square):
        with tf.control_dependencies(
            [tf.debugging.assert_non_negative(square, message="no root of a negative number")]
        ):
            return {"root": tf.sqrt(square)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def crash(self, x):
        # Raises DataLossError, which TF Serving maps to an error of the server.
        return {"y": tf.io.decode_compressed(tf.strings.as_string(x), "ZLIB")}


def save(folder, version):
    probe = Probe(version)
    signatures = {
        name: getattr(probe, name)
        for name in ("serving_default", "tensor", "pair", "root", "crash")
    }
    tf.saved_model.save(probe, str(folder), signatures=signatures)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Versions 9 and 10 of a model, beside files and folders that a server must ignore."""
    folder = tmp_path_factory.mktemp("saved_models")
    save(folder / "probe" / "9", 9)
    save(folder / "probe" / "10", 10)
    shutil.copytree(folder / "probe" / "10", folder / "probe" / "11.partial")
    (folder / "probe" / "12").mkdir()
    (folder / "README.md").write_text("not a model")
    return folder


@pytest.fixture(scope="module")
def port(folder):
    with served(folder) as server:
        yield server.server_port


def ask(port, method, path, body=None, connection=None):
    """Returns the status and the JSON of the answer to a request, on a new connection unless one is
    given.
    """
    connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    text = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
    connection.request(method, path, text)
    response = connection.getresponse()
    content = response.read()
    assert response.headers["Content-Type"] == "application/json"
    return response.status, json.loads(content) if content else None


def raw(port, request):
    """Sends bytes and returns all that the server sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(2**16), b""))


def b64(value):
    return {"b64": base64.b64encode(value).decode()}


def answer_for(image, version=10):
    share = len(image) / 16
    return {
        "class_id": len(image),
        "class_name": str(len(image)),
        "probability": share,
        "probabilities": [share, 1 - share],
        "top_class_names": [str(len(image)), f"{len(image)}é"],
        "valid": bool(image),
        "image_bytes": b64(image),
        "version": version,
    }


def test_row_form_answers_each_image_in_order(port):
    images = [b"\xff\xd8\xff", b"", b"\x00"]
    assert ask(port, "POST", PREDICT, {"instances": [b64(image) for image in images]}) == (
        200,
        {"predictions": [answer_for(image) for image in images]},
    )


def test_row_and_column_form_give_the_same_answers(port):
    images = [b64(b"a"), b64(b"bcd")]
    rows = ask(port, "POST", PREDICT, {"instances": [{"image_bytes": image} for image in images]})[
        1
    ]["predictions"]
    columns = ask(port, "POST", PREDICT, {"inputs": {"image_bytes": images}})[1]["outputs"]
    assert columns == ask(port, "POST", PREDICT, {"inputs": images})[1]["outputs"]
    assert rows == [
        {name: column[index] for name, column in columns.items()} for index in range(len(images))
    ]


def test_batched_and_single_give_the_same_answers(port):
    images = [b64(b"a"), b64(b""), b64(b"bcd")]
    batched = ask(port, "POST", PREDICT, {"instances": images})[1]["predictions"]
    assert batched == [
        ask(port, "POST", PREDICT, {"instances": [image]})[1]["predictions"][0] for image in images
    ]


def test_another_signature_is_asked_by_name_and_its_only_output_is_bare(port):
    image = [[[1], [2]], [[3], [4.5]]]
    assert ask(
        port, "POST", PREDICT, {"signature_name": "tensor", "instances": [image, image]}
    ) == (200, {"predictions": [10.5, 10.5]})
    assert ask(
        port, "POST", PREDICT, {"signature_name": "tensor", "inputs": {"image": [image]}}
    ) == (200, {"outputs": [10.5]})


def test_outputs_without_a_batch_dimension_need_the_column_form(port):
    columns = {"signature_name": "pair", "inputs": {"left": [[1, 2], [3, 4]], "right": [5, 6]}}
    assert ask(port, "POST", PREDICT, columns) == (
        200,
        {"outputs": {"total": [8.0, 13.0], "rows": 2}},
    )
    status, content = ask(
        port,
        "POST",
        PREDICT,
        {"signature_name": "pair", "instances": [{"left": [1, 2], "right": 3}]},
    )
    assert status == 400 and "column format" in content["error"]


def test_the_latest_version_is_the_greatest_number(port):
    body = {"instances": ["a"]}
    assert ask(port, "POST", PREDICT, body)[1]["predictions"] == [answer_for(b"a", 10)]
    assert ask(port, "POST", f"{MODEL}/versions/10:predict", body)[1]["predictions"] == [
        answer_for(b"a", 10)
    ]
    assert ask(port, "POST", f"{MODEL}/versions/9:predict", body)[1]["predictions"] == [
        answer_for(b"a", 9)
    ]


def test_status_lists_only_finished_versions(port):
    nine, ten = (
        {
            "version": number,
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        for number in ("9", "10")
    )
    assert ask(port, "GET", MODEL) == (200, {"model_version_status": [ten, nine]})
    assert ask(port, "GET", f"{MODEL}/versions/9") == (200, {"model_version_status": [nine]})
    assert ask(port, "GET", "/") == (200, {"models": [{"name": "probe", "versions": ["9", "10"]}]})


def test_metadata_describes_the_signatures_as_tf_serving_does(port):
    status, content = ask(port, "GET", f"{MODEL}/versions/9/metadata")
    assert status == 200
    assert content["model_spec"] == {"name": "probe", "signature_name": "", "version": "9"}
    signature = content["metadata"]["signature_def"]["signature_def"]["tensor"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    image = signature["inputs"]["image"]
    assert image["dtype"] == "DT_FLOAT"
    assert [dimension["size"] for dimension in image["tensor_shape"]["dim"]] == [
        "-1",
        "2",
        "2",
        "1",
    ]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "sentence"),
    [
        ("GET", "/v1/models/other", None, 404, 'no model "other"'),
        ("POST", "/v1/models/other:predict", {"instances": ["a"]}, 404, 'no model "other"'),
        ("GET", f"{MODEL}/versions/7", None, 404, "no version 7; it has 9, 10"),
        ("POST", f"{MODEL}/versions/7:predict", {"instances": ["a"]}, 404, "no version 7"),
        ("GET", f"{MODEL}/versions/11.partial", None, 400, "malformed request"),
        ("POST", f"{MODEL}/labels/stable:predict", {"instances": ["a"]}, 404, 'labeled "stable"'),
        (
            "POST",
            f"{MODEL}:classify",
            {"examples": []},
            400,
            "Expected classification signature method_name to be tensorflow/serving/classify. Was:"
            " tensorflow/serving/predict",
        ),
        ("POST", f"{MODEL}:explain", {}, 400, "malformed request"),
        ("GET", "/favicon.ico", None, 404, "malformed request"),
        ("GET", "//[", None, 404, "malformed request"),
        ("GET", PREDICT, None, 405, "allows POST"),
        ("POST", MODEL, "{}", 405, "allows GET"),
        ("DELETE", MODEL, None, 405, "allows GET"),
        ("PUT", PREDICT, {"instances": ["a"]}, 405, "allows POST"),
        ("POST", PREDICT, "", 400, "not JSON"),
        ("POST", PREDICT, "{", 400, "not JSON"),
        ("POST", PREDICT, {}, 400, "either"),
        ("POST", PREDICT, {"instances": ["a"], "inputs": ["a"]}, 400, "not both"),
        ("POST", PREDICT, {"instances": []}, 400, "at least one"),
        (
            "POST",
            PREDICT,
            {"instances": ["a"], "signature_name": "nope"},
            400,
            'no signature "nope"',
        ),
        ("POST", PREDICT, {"instances": [1]}, 400, "takes strings"),
        ("POST", PREDICT, {"instances": [{"picture": "a"}]}, 400, 'lacks the input "image_bytes"'),
        (
            "POST",
            PREDICT,
            {"signature_name": "tensor", "instances": [[1, 2, 3]]},
            400,
            "(None, 2, 2, 1)",
        ),
        (
            "POST",
            PREDICT,
            {"signature_name": "tensor", "instances": [[[[1], [2]], [[3]]]]},
            400,
            "ragged",
        ),
        (
            "POST",
            PREDICT,
            {"signature_name": "root", "instances": [4, -1]},
            400,
            "no root of a negative number",
        ),
        ("POST", PREDICT, {"signature_name": "crash", "instances": [1]}, 500, "internal error"),
    ],
)
def test_a_wrong_request_gets_its_status_and_a_sentence(port, method, path, body, status, sentence):
    answered, content = ask(port, method, path, body)
    assert (answered, list(content)) == (status, ["error"])
    assert sentence in content["error"]
    assert "Traceback" not in content["error"] and "{{node" not in content["error"]


def test_a_query_and_a_quoted_name_are_understood(port):
    assert ask(port, "GET", "/v1/models/pr%6Fbe?pretty=1")[0] == 200


def test_a_bad_request_between_good_ones_leaves_their_connection_alone(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    good, bad = {"instances": ["a"]}, {"instances": [1]}
    assert [
        ask(port, "POST", PREDICT, body, connection=connection)[0] for body in (good, bad, good)
    ] == [200, 400, 200]
    assert ask(port, "DELETE", MODEL, {"with": "a body"}, connection=connection)[0] == 405
    assert ask(port, "HEAD", MODEL, connection=connection) == (405, None)
    assert ask(port, "POST", PREDICT, good, connection=connection)[0] == 200
    connection.close()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("POST {path} HTTP/1.1", 411),
        ("POST {path} HTTP/1.1\r\nContent-Length: -1", 400),
        ("POST {path} HTTP/1.1\r\nContent-Length: ten", 400),
        ("POST {path} HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3", 400),
        ("POST {path} HTTP/1.1\r\nContent-Length: " + "9" * 18, 413),
        ("POST {path} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: " + "9" * 18, 413),
        ("POST {path}", 400),
        ("POST {path} HTTP/3.x", 400),
        ("BREW {path} HTTP/1.1", 501),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_in_json_and_closes_the_connection(
    port, head, status
):
    reply = raw(port, head.format(path=PREDICT).encode() + b"\r\nHost: x\r\n\r\n{}")
    headers, _, body = reply.partition(b"\r\n\r\n")
    assert headers.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in headers.lower()
    assert list(json.loads(body)) == ["error"]
    assert ask(port, "GET", MODEL)[0] == 200


def test_a_body_over_the_limit_is_refused_while_the_client_still_sends(folder):
    with served(folder, Settings(max_body_bytes=2**16)) as server:
        port = server.server_port
        status, content = ask(port, "POST", PREDICT, b"x" * 2**24)
        assert status == 413 and "65536" in content["error"]
        assert ask(port, "POST", PREDICT, {"instances": ["a"]})[0] == 200


def test_a_client_that_goes_away_harms_no_other(port):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"POST %s HTTP/1.1\r\nContent-Length: 100\r\n\r\n{" % PREDICT.encode())
    assert ask(port, "POST", PREDICT, {"instances": ["a"]})[0] == 200


def test_concurrent_clients_get_their_own_answers(port):
    def ask_ten_times(client):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        images = [bytes(client + turn) for turn in range(10)]
        answers = [
            ask(port, "POST", PREDICT, {"instances": [b64(image)]}, connection=connection)[1][
                "predictions"
            ]
            for image in images
        ]
        connection.close()
        return answers == [[answer_for(image)] for image in images]

    with ThreadPoolExecutor(8) as clients:
        assert all(clients.map(ask_ten_times, range(8)))


def test_the_client_returns_one_answer_or_error_per_image(port):
    url = f"http://127.0.0.1:{port}/v1/models"
    assert predict(f"{url}/probe", [b"\xff", b""]) == [answer_for(b"\xff"), answer_for(b"")]
    with pytest.raises(UserError, match='no model \\\\"other'):
        predict(f"{url}/other", [b"\xff"])


def test_closing_does_not_wait_for_idle_connections(folder):
    server = make_server(folder / "probe" / "9", "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    assert ask(server.server_port, "GET", MODEL, connection=connection)[0] == 200
    server.shutdown()
    closing = threading.Thread(target=server.server_close)
    closing.start()
    closing.join(timeout=Settings().stalled_seconds / 3)
    assert not closing.is_alive()
    thread.join()
    connection.close()
    with pytest.raises(UserError, match="no answer"):
        predict(f"http://127.0.0.1:{server.server_port}{MODEL}", [b"a"])


def test_a_folder_of_models_a_model_and_a_version_are_all_served(folder):
    probe = (folder / "probe").resolve()
    versions = {"probe": {9: probe / "9", 10: probe / "10"}}
    assert find_models(folder) == versions
    assert find_models(probe) == versions
    assert find_models(probe / "9") == {"probe": {9: probe / "9"}}
    assert find_models(probe / "11.partial") == {"11.partial": {1: probe / "11.partial"}}


def test_a_folder_without_models_is_an_error_with_advice(tmp_path):
    with pytest.raises(UserError, match="no exported model under .*cvpipe export"):
        make_server(tmp_path, "127.0.0.1", 0)
    with pytest.raises(UserError, match="no folder"):
        make_server(tmp_path / "missing", "127.0.0.1", 0)


def test_a_broken_export_is_named(folder, tmp_path):
    broken = tmp_path / "probe" / "1"
    shutil.copytree(folder / "probe" / "9", broken)
    (broken / "saved_model.pb").write_bytes((broken / "saved_model.pb").read_bytes()[:-100])
    with pytest.raises(UserError, match="probe/1/saved_model.pb: the graph can't be read"):
        load_servable(broken)


def test_an_image_that_an_artifact_cannot_read_is_answered_by_an_error_and_no_class(
    folder, tmp_path
):
    exported = tmp_path / "probe" / "1"
    shutil.copytree(folder / "probe" / "9", exported)
    (exported / "assets.extra").mkdir()
    about = {"config": {"task": "classification"}, "trained_on": {"images": 1}, "signatures": {}}
    (exported / "assets.extra" / "cvpipe.json").write_text(json.dumps(about))
    write_manifest(exported)
    body = {"instances": [b64(image) for image in (b"\xff\xd8\xff", b"", b"\x00")]}
    with served(tmp_path) as server:
        status, content = ask(server.server_port, "POST", PREDICT, body)
    assert status == 200
    first, second, third = content["predictions"]
    assert first == answer_for(b"\xff\xd8\xff", 9) and third == answer_for(b"\x00", 9)
    assert set(second) == {"valid", "error"} and second["valid"] is False
    assert "not a JPEG, PNG, BMP or WebP image" in second["error"]


def test_a_port_in_use_is_a_clear_error(folder, port):
    with pytest.raises(UserError, match=f"port {port}.*--port"):
        make_server(folder / "probe" / "9", "127.0.0.1", port)
