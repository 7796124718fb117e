"""Guards gRPC: TF Serving's client as it is published, KServe's protocol, and health."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf

from cvpipe.grpc_messages import health, inference
from cvpipe.serving import grpc_v2
from cvpipe.serving.policy import ALL, Policy
from cvpipe.serving.server import Server
from cvpipe.serving.settings import Settings
from toy_served import BAD, POISON, ask, b64, in_event_loop, save_toys, served

apis = pytest.importorskip("tensorflow_serving.apis", reason="needs tensorflow-serving-api")
from tensorflow_serving.apis import (  # noqa: E402
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toys(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    policy = Policy(ALL, labels={"toy": {"stable": 1}})
    with served(folder, Settings(policy=policy, grpc_port=0, max_pixels=1000)) as server:
        yield server


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


@pytest.fixture(scope="module")
def client(channel: grpc.Channel) -> Any:
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def models(channel: grpc.Channel) -> Any:
    return model_service_pb2_grpc.ModelServiceStub(channel)


def request(*images: bytes, **more: Any) -> predict_pb2.PredictRequest:
    made = predict_pb2.PredictRequest()
    made.model_spec.name = "toy"
    made.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(list(images), shape=[len(images)]))
    for name, value in more.items():
        made.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return made


def refused(call: Any, message: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=20)
    return caught.value.code().name, caught.value.details()


def test_predict_answers_what_rest_does(client: Any, server: Server) -> None:
    images = [b"one", BAD, b"\xff\x00"]
    response = client.Predict(request(*images), timeout=20)
    assert (response.model_spec.name, response.model_spec.version.value) == ("toy", 2)
    assert response.model_spec.signature_name == "serving_default"
    told = {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}
    assert told["valid"].tolist() == [True, False, True]
    body = {"instances": [b64(image) for image in images]}
    rows = ask(server.server_port, "POST", "/v1/models/toy:predict", body)[1]["predictions"]
    for n in (0, 2):
        assert told["top_class_ids"][n].tolist() == rows[n]["top_class_ids"]
        assert told["top_class_names"][n][0].decode() == rows[n]["top_class_names"][0]
        np.testing.assert_array_equal(told["top_probabilities"][n], rows[n]["top_probabilities"])


def test_versions_labels_signatures_options_and_filters(client: Any) -> None:
    asked = request(b"one", threshold=np.float32(1))
    asked.model_spec.version.value = 1
    asked.output_filter.append("version")
    asked.output_filter.append("top_probabilities")
    response = client.Predict(asked)
    assert sorted(response.outputs) == ["top_probabilities", "version"]
    assert response.outputs["version"].int_val[0] == 1
    assert tf.make_ndarray(response.outputs["top_probabilities"]).tolist() == [[0.0]]
    labeled = request(b"one")
    labeled.model_spec.version_label = "stable"
    assert client.Predict(labeled).model_spec.version.value == 1
    tensor = predict_pb2.PredictRequest()
    tensor.model_spec.name, tensor.model_spec.signature_name = "toy", "tensor"
    tensor.inputs["image"].CopyFrom(tf.make_tensor_proto([[1.0, 2.0]]))
    assert tf.make_ndarray(client.Predict(tensor).outputs["sum"]).tolist() == [3.0]


def test_metadata_and_status(client: Any, models: Any) -> None:
    asked = get_model_metadata_pb2.GetModelMetadataRequest()
    asked.model_spec.name = "toy"
    asked.metadata_field.append("signature_def")
    response = client.GetModelMetadata(asked)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert "image_bytes" in signatures.signature_def["serving_default"].inputs
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "toy"
    told = models.GetModelStatus(status).model_version_status
    available = get_model_status_pb2.ModelVersionStatus.State.AVAILABLE
    assert [(one.version, one.state, one.status.error_code) for one in told] == [
        (2, available, 0),
        (1, available, 0),
    ]


def changed(**fields: Any) -> predict_pb2.PredictRequest:
    made = request(b"one")
    for name, value in fields.items():
        setattr(made.model_spec, name, value)
    return made


def test_errors_have_the_statuses_of_tf_serving(client: Any, models: Any) -> None:
    assert refused(client.Predict, changed(name="none"))[0] == "NOT_FOUND"
    assert refused(client.Predict, changed(name=""))[0] == "INVALID_ARGUMENT"
    assert refused(client.Predict, changed(signature_name="none"))[0] == "INVALID_ARGUMENT"
    assert refused(client.Predict, changed(version_label="none"))[0] == "NOT_FOUND"
    assert refused(client.Predict, request(b"one", extra=1.0))[0] == "INVALID_ARGUMENT"
    assert refused(client.Predict, request(b"one", threshold=[1.0]))[0] == "INVALID_ARGUMENT"
    assert refused(client.Predict, request(b"one", threshold="a"))[0] == "INVALID_ARGUMENT"
    code, text = refused(client.Predict, request(POISON))
    assert code == "INVALID_ARGUMENT" and "poison" in text and "Traceback" not in text
    empty = predict_pb2.PredictRequest()
    empty.model_spec.name = "toy"
    assert refused(client.Predict, empty) == (
        "INVALID_ARGUMENT",
        "the request lacks the inputs image_bytes",
    )
    huge = request(b"one")
    huge.inputs["image_bytes"].tensor_shape.dim[0].size = 10**12
    assert refused(client.Predict, huge)[0] == "INVALID_ARGUMENT"
    asked = get_model_metadata_pb2.GetModelMetadataRequest()
    asked.model_spec.name = "toy"
    assert refused(client.GetModelMetadata, asked)[0] == "INVALID_ARGUMENT"
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "none"
    assert refused(models.GetModelStatus, status)[0] == "NOT_FOUND"


def test_classify_and_regress_want_signatures_of_their_own(client: Any) -> None:
    classify = classification_pb2.ClassificationRequest()
    regress = regression_pb2.RegressionRequest()
    several = inference_pb2.MultiInferenceRequest()
    task = several.tasks.add()
    task.method_name = "tensorflow/serving/classify"
    for made in (classify, regress, task):
        made.model_spec.name = "toy"
    for call, made, verb in (
        (client.Classify, classify, "classify"),
        (client.Regress, regress, "regress"),
        (client.MultiInference, several, "classify"),
    ):
        code, text = refused(call, made)
        assert code == "INVALID_ARGUMENT" and f"to be tensorflow/serving/{verb}" in text
    assert refused(client.MultiInference, inference_pb2.MultiInferenceRequest())[0] == (
        "INVALID_ARGUMENT"
    )


def test_configuration_is_taken_only_where_it_is_allowed(models: Any, folder: Path) -> None:
    asked = model_management_pb2.ReloadConfigRequest()
    config = asked.config.model_config_list.config.add()
    config.name, config.base_path = "toy", str(folder)
    config.model_version_policy.specific.versions.append(1)
    config.version_labels["old"] = 1
    assert refused(models.HandleReloadConfigRequest, asked)[0] == "PERMISSION_DENIED"
    with (
        served(folder, Settings(grpc_port=0, allow_reload=True)) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        own = model_service_pb2_grpc.ModelServiceStub(channel)
        assert server.service.shelf.numbers("toy") == [1, 2]
        assert own.HandleReloadConfigRequest(asked).status.error_code == 0
        assert server.service.shelf.numbers("toy") == [1]
        series = server.service.metrics.text()
        assert b'version="1"' in series and b'version="2"' not in series
        config.model_version_policy.latest.num_versions = 2
        assert own.HandleReloadConfigRequest(asked).status.error_code == 0
        assert server.service.shelf.numbers("toy") == [1, 2]
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request(b"one"))
        assert b'version="2"' in server.service.metrics.text()
        (folder / "3").mkdir()
        (folder / "3" / "saved_model.pb").write_bytes(b"damaged")
        code, text = refused(own.HandleReloadConfigRequest, asked)
        assert code == "UNKNOWN" and text.startswith('version 3 of model "toy" can\'t be loaded')
        shutil.rmtree(folder / "3")
        assert own.HandleReloadConfigRequest(asked).status.error_code == 0
        config.model_version_policy.specific.versions.append(99)
        assert refused(own.HandleReloadConfigRequest, asked)[0] == "NOT_FOUND"
        assert server.service.shelf.numbers("toy") == [1, 2]
        assert server.service.shelf.resolve("toy", "old") == 1
        config.base_path = "/etc"
        assert refused(own.HandleReloadConfigRequest, asked)[0] == "PERMISSION_DENIED"
        config.name = "../toy"
        assert refused(own.HandleReloadConfigRequest, asked)[0] == "NOT_FOUND"


def unary(channel: grpc.Channel, path: str, response: Any) -> Any:
    return channel.unary_unary(
        path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=response.FromString,
    )


def test_health(channel: grpc.Channel) -> None:
    own = health()
    check = unary(channel, "/grpc.health.v1.Health/Check", own.HealthCheckResponse)
    assert check(own.HealthCheckRequest()).status == 1
    known = own.HealthCheckRequest(service="tensorflow.serving.PredictionService")
    assert check(known).status == 1
    assert refused(check, own.HealthCheckRequest(service="none"))[0] == "NOT_FOUND"


def test_a_watch_reports_that_the_server_drains_and_then_ends(folder: Path) -> None:
    with (
        served(folder, Settings(grpc_port=0)) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        watch = watched(channel)
        assert next(watch).status == 1
        server.service.draining = True
        assert [answer.status for answer in watch] == [2]
        assert watch.code() is grpc.StatusCode.OK


def test_watches_are_limited_and_leave_room_for_calls(folder: Path) -> None:
    with (
        served(folder, Settings(grpc_port=0, max_queue=4)) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        first = watched(channel)
        assert next(first).status == 1
        for _ in range(3):
            with pytest.raises(grpc.RpcError, match="watches of its health") as caught:
                next(watched(channel))
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert stub.Predict(request(b"one"), timeout=20).outputs
        first.cancel()
        for _ in range(1000):
            try:
                assert next(watched(channel)).status == 1
                break
            except grpc.RpcError:
                time.sleep(0.005)
        else:
            pytest.fail("a watch that was canceled still counts")


def watched(channel: grpc.Channel) -> Any:
    own = health()
    return channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=own.HealthCheckResponse.FromString,
    )(own.HealthCheckRequest(), timeout=20)


def test_the_open_inference_protocol(channel: grpc.Channel, server: Server) -> None:
    own = inference()

    def call(name: str, message: Any, response: Any) -> Any:
        path = f"/inference.GRPCInferenceService/{name}"
        return unary(channel, path, response)(message, timeout=20)

    assert call("ServerLive", own.Empty(), own.ServerLiveResponse).live
    assert call("ServerReady", own.Empty(), own.ServerReadyResponse).ready
    assert call("ServerMetadata", own.Empty(), own.ServerMetadataResponse).name == "cvpipe"
    model = own.ModelRequest(name="toy")
    assert call("ModelReady", model, own.ModelReadyResponse).ready
    told = call("ModelMetadata", model, own.ModelMetadataResponse)
    assert list(told.versions) == ["1", "2"] and {one.name for one in told.inputs} == {
        "image_bytes",
        "threshold",
    }
    tensor = own.InferTensor(name="image_bytes", datatype="BYTES", shape=[2])
    tensor.contents.bytes_contents.extend([b"one", b"\xff"])
    asked = own.ModelInferRequest(model_name="toy", id="7", inputs=[tensor])
    typed = call("ModelInfer", asked, own.ModelInferResponse)
    assert (typed.id, typed.model_version) == ("7", "2")
    del asked.inputs[0].contents.bytes_contents[:]
    asked.raw_input_contents.append(b"\x03\0\0\0one\x01\0\0\0\xff")
    raw = call("ModelInfer", asked, own.ModelInferResponse)
    assert raw == typed
    ids = np.frombuffer(
        raw.raw_output_contents[[one.name for one in raw.outputs].index("top_class_ids")], "<i8"
    )
    body = {"instances": [b64(b"one"), b64(b"\xff")]}
    rows = ask(server.server_port, "POST", "/v1/models/toy:predict", body)[1]["predictions"]
    assert ids.tolist() == [row["top_class_ids"][0] for row in rows]
    asked.raw_input_contents.append(b"")
    infer = unary(channel, "/inference.GRPCInferenceService/ModelInfer", own.ModelInferResponse)
    assert refused(infer, asked)[0] == "INVALID_ARGUMENT"


def test_typed_contents_must_have_as_many_values_as_the_shape(channel: grpc.Channel) -> None:
    own = inference()
    infer = unary(channel, "/inference.GRPCInferenceService/ModelInfer", own.ModelInferResponse)
    tensor = own.InferTensor(name="image_bytes", datatype="BYTES", shape=[2])
    tensor.contents.bytes_contents.extend([b""] * 10**5)
    code, text = refused(infer, own.ModelInferRequest(model_name="toy", inputs=[tensor]))
    assert code == "INVALID_ARGUMENT" and "100000 values; its shape takes 2" in text


def test_a_large_call_is_parsed_outside_of_the_event_loop(
    channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, parse = list[bool](), grpc_v2._arrays

    def recorded(*arguments: Any) -> Any:
        threads.append(in_event_loop())
        return parse(*arguments)

    monkeypatch.setattr(grpc_v2, "_arrays", recorded)
    own = inference()
    infer = unary(channel, "/inference.GRPCInferenceService/ModelInfer", own.ModelInferResponse)
    for size in (1, 2**19):
        tensor = own.InferTensor(name="image_bytes", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(b"x" * size)
        assert infer(own.ModelInferRequest(model_name="toy", inputs=[tensor])).outputs
    assert threads == [True, False]


def test_bodies_of_calls_are_limited_in_total(folder: Path) -> None:
    settings = Settings(grpc_port=0, max_held_bytes=1000)
    with (
        served(folder, settings) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for _ in range(2):
            assert refused(stub.Predict, request(b"x" * 2000))[0] == "RESOURCE_EXHAUSTED"
            for _ in range(5):  # released after each call
                assert stub.Predict(request(b"x" * 500), timeout=20).outputs


def test_a_limit_on_bodies_may_exceed_the_one_of_grpc(folder: Path) -> None:
    settings = Settings(grpc_port=0, max_body_bytes=2**40)
    with (
        served(folder, settings) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert stub.Predict(request(b"one"), timeout=20).outputs


def test_only_calls_with_a_key_are_answered(folder: Path) -> None:
    settings = Settings(grpc_port=0, api_keys=frozenset({b"key"}))
    with (
        served(folder, settings) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert refused(stub.Predict, request(b"one"))[0] == "UNAUTHENTICATED"
        assert stub.Predict(request(b"one"), metadata=[("authorization", "Bearer key")]).outputs
        assert unary(channel, "/grpc.health.v1.Health/Check", health().HealthCheckResponse)(
            health().HealthCheckRequest()
        )


def test_a_version_of_thousands_of_digits_is_refused(channel: grpc.Channel) -> None:
    own = inference()
    ready = unary(channel, "/inference.GRPCInferenceService/ModelReady", own.ModelReadyResponse)
    code, text = refused(ready, own.ModelRequest(name="toy", version="9" * 5000))
    assert code == "INVALID_ARGUMENT" and "is not a version number" in text
