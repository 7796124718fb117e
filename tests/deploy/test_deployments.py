"""Guards deploy/: its files are valid and agree with the server's options and metrics."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)

from conftest import ROOT
from cvpipe.cli import _parser
from cvpipe.serving.metrics import BatchMetrics, Metrics
from cvpipe.serving.settings import Settings
from cvpipe.training.cluster import read_member
from cvpipe.training.launchers import launched_as

DEPLOY = ROOT / "deploy"
YAML = sorted(DEPLOY.rglob("*.yaml"))
TF_SERVING = DEPLOY / "tfserving"
KUBERNETES = "1.34"


def documents(file: Path) -> list[Any]:
    return list(yaml.safe_load_all(file.read_text(encoding="utf-8")))


def kinds(file: Path) -> dict[str, Any]:
    return {document["kind"]: document for document in documents(file)}


@pytest.mark.parametrize("file", YAML, ids=lambda file: str(file.relative_to(DEPLOY)))
def test_every_yaml_file_can_be_read(file: Path) -> None:
    assert all(isinstance(document, dict) for document in documents(file))


@pytest.mark.parametrize("file", sorted(DEPLOY.rglob("compose.yaml")), ids=lambda file: file.parent)
def test_compose_files_follow_the_specification_of_compose(file: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", sorted(DEPLOY.rglob("compose.yaml")), ids=lambda file: file.parent)
def test_compose_mounts_existing_files_and_mounts_models_read_only(file: Path) -> None:
    mounts = [
        re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", mount)
        for service in documents(file)[0]["services"].values()
        for mount in service["volumes"]
    ]
    assert mounts and all(mount.endswith(":ro") for mount in mounts)
    assert any(mount.endswith("saved_models:/models:ro") for mount in mounts)
    for mount in mounts:
        assert (file.parent / mount.partition(":")[0]).resolve().exists(), mount


def message(name: str, **fields: Any) -> Any:
    """Return a protobuf message class; each field is given as its number and its type.

    TensorFlow Serving's Python package has no schemas of its batching and monitoring files.
    Source: tensorflow_serving/servables/tensorflow/session_bundle_config.proto and
    tensorflow_serving/config/monitoring_config.proto.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="deploy")
    file.syntax = "proto3"
    own, pool = file.message_type.add(name=name), descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for field, (number, kind) in fields.items():
        added = own.field.add(name=field, number=number, label=1)
        if isinstance(kind, str):
            added.type, added.type_name = 11, f".{kind}"
        else:
            added.type = kind
    inner = file.message_type.add(name="PrometheusConfig")
    inner.field.add(name="enable", number=1, label=1, type=8)
    inner.field.add(name="path", number=2, label=1, type=9)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"deploy.{name}"))


def test_tf_serving_batches_as_our_server_does() -> None:
    whole, repeated_int, boolean = "google.protobuf.Int64Value", 3, 8
    parameters = message(
        "BatchingParameters",
        max_batch_size=(1, whole),
        batch_timeout_micros=(2, whole),
        max_enqueued_batches=(3, whole),
        num_batch_threads=(4, whole),
        allowed_batch_sizes=(6, repeated_int),
        pad_variable_length_inputs=(7, boolean),
    )()
    text_format.Parse((TF_SERVING / "batching.config").read_text(), parameters)
    ours = Settings()
    assert parameters.max_batch_size.value == ours.max_batch
    assert parameters.batch_timeout_micros.value == ours.wait_micros
    assert parameters.num_batch_threads.value == ours.batch_threads
    images = parameters.max_enqueued_batches.value * parameters.max_batch_size.value
    assert images == ours.max_queue


def test_tf_serving_has_the_metrics_path_of_our_server() -> None:
    config = message("MonitoringConfig", prometheus_config=(1, "deploy.PrometheusConfig"))()
    text_format.Parse((TF_SERVING / "monitoring.config").read_text(), config)
    (job,) = documents(DEPLOY / "monitoring" / "prometheus.yaml")[0]["scrape_configs"]
    assert config.prometheus_config.enable
    assert config.prometheus_config.path == job["metrics_path"]


def test_tf_serving_finds_models_in_the_mounted_folder() -> None:
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((TF_SERVING / "models.config").read_text(), config)
    for model in config.model_config_list.config:
        assert model.base_path == f"/models/{model.name}"
        assert model.model_platform == "tensorflow"


def pods() -> dict[str, Any]:
    """The pods of our server, in Kubernetes and by KServe."""
    deployment = kinds(DEPLOY / "kubernetes" / "cvpipe.yaml")["Deployment"]
    runtime = kinds(DEPLOY / "kserve" / "runtime.yaml")["ServingRuntime"]
    service = kinds(DEPLOY / "kserve" / "inference_service.yaml")["InferenceService"]
    grace = service["spec"]["predictor"]["terminationGracePeriodSeconds"]
    return {
        "kubernetes": deployment["spec"]["template"]["spec"],
        "kserve": {**runtime["spec"], "terminationGracePeriodSeconds": grace},
    }


def test_kubernetes_takes_its_manifests() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="not in this environment")
    for file in (DEPLOY / "kubernetes").glob("*.yaml"):
        for document in documents(file):
            validate.validate(document, KUBERNETES, strict=True)


def test_workers_of_a_job_find_each_other() -> None:
    job, service = (
        kinds(DEPLOY / "kubernetes" / "training.yaml")[kind] for kind in ("Job", "Service")
    )
    count, pod = job["spec"]["completions"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    # The host names that Kubernetes gives the pods of an indexed Job in a headless service.
    hosts = [f"{job['metadata']['name']}-{n}.{pod['subdomain']}" for n in range(count)]
    for index in range(count):
        launched = launched_as({**variables, "JOB_COMPLETION_INDEX": str(index)})
        member = read_member(launched)
        assert member and member.jobs == {"worker": [f"{host}:2222" for host in hosts]}
    assert job["spec"]["parallelism"] == count and job["spec"]["completionMode"] == "Indexed"
    assert service["spec"]["clusterIP"] == "None"
    assert service["metadata"]["name"] == pod["subdomain"]


def test_kserve_takes_its_manifests() -> None:
    """No package has KServe's schemas: its own fields are compared with its documentation, and the
    fields that it takes over from Kubernetes with Kubernetes' schema.
    """
    runtime = kinds(DEPLOY / "kserve" / "runtime.yaml")["ServingRuntime"]
    service = kinds(DEPLOY / "kserve" / "inference_service.yaml")["InferenceService"]
    assert runtime["apiVersion"] == "serving.kserve.io/v1alpha1"
    assert runtime["spec"].keys() == {
        "annotations",
        "supportedModelFormats",
        "protocolVersions",
        "containers",
        "volumes",
    }
    (container,) = runtime["spec"]["containers"]
    assert container["name"] == "kserve-container"
    (known,) = runtime["spec"]["supportedModelFormats"]
    assert known.keys() == {"name", "version", "autoSelect"}
    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    # Knative refuses terminationGracePeriodSeconds.
    mode = service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"]
    assert mode == "RawDeployment"
    predictor = service["spec"]["predictor"]
    assert predictor.keys() == {"terminationGracePeriodSeconds", "model"}
    model = predictor["model"]
    assert model.keys() == {"modelFormat", "runtime", "protocolVersion", "storageUri"}
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"] == {key: known[key] for key in ("name", "version")}
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    validate = pytest.importorskip("kubernetes_validate", reason="not in this environment")
    parts = {key: runtime["spec"][key] for key in ("containers", "volumes")}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": parts}
    validate.validate(pod, KUBERNETES, strict=True)


@pytest.mark.parametrize("where", ["kubernetes", "kserve"])
def test_pods_run_our_server_without_rights(where: str) -> None:
    (container,) = pods()[where]["containers"]
    options = _parser(["serve"], []).parse_args(["serve", *container["args"]])
    assert options.host == "0.0.0.0"
    probes = ("startupProbe", "readinessProbe", "livenessProbe")
    ports = {port.get("name", port["containerPort"]) for port in container["ports"]}
    assert {container[probe]["httpGet"]["port"] for probe in probes} <= ports
    assert options.port in {port["containerPort"] for port in container["ports"]}
    rights = {**pods()[where].get("securityContext", {}), **container["securityContext"]}
    assert rights["runAsNonRoot"] and rights["runAsUser"] == 1000
    assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"].keys() == {"requests", "limits"}


@pytest.mark.parametrize("where", ["kubernetes", "kserve"])
def test_pods_get_the_time_that_our_server_takes_to_stop(where: str) -> None:
    pod = pods()[where]
    (container,) = pod["containers"]
    options = _parser(["serve"], []).parse_args(["serve", *container["args"]])
    # Running requests, HTTP connections and gRPC calls are given `drain` seconds each.
    assert pod["terminationGracePeriodSeconds"] >= options.grace + 3 * options.drain


def test_compose_gives_the_time_that_our_server_takes_to_stop() -> None:
    service = documents(DEPLOY / "compose.yaml")[0]["services"]["cvpipe"]
    options = _parser(["serve"], []).parse_args(["serve", "saved_models"])
    seconds = int(service["stop_grace_period"].removesuffix("s"))
    assert seconds >= options.grace + 3 * options.drain


def test_the_container_runs_our_server() -> None:
    text = (DEPLOY / "Dockerfile.serve").read_text()
    entry = json.loads(re.findall(r"^ENTRYPOINT (.*)$", text, re.M)[0])
    words = json.loads(re.findall(r"^CMD (.*)$", text, re.M)[0])
    assert entry == ["tini", "--", "cvpipe", "serve"]
    options = _parser(["serve"], []).parse_args(["serve", *words])
    assert f"EXPOSE {options.grpc_port} {options.port}" in text
    assert re.findall(r"^USER (.*)$", text, re.M) == ["1000:1000"]
    assert f"127.0.0.1:{options.port}/readyz" in text


def metrics() -> dict[str, set[str]]:
    """The server's series and their labels, as Prometheus names them."""
    metrics = Metrics()
    metrics.count("http", "toy", "1", "200")
    metrics.note_stages("toy", "1", {"read": 0.1})
    BatchMetrics(metrics, "toy", 1).batch(1, 2, [0.1], 0.1)
    BatchMetrics(metrics, "toy", 1).failed(ValueError())
    metrics.loads.labels("toy", "1", "loaded").inc()
    metrics.waiting.labels("toy", "1").set(0)
    return {
        sample.name: set(sample.labels)
        for family in metrics.registry.collect()
        for sample in family.samples
    }


SERIES = re.compile(r"\b(cvpipe_\w+)(?:\{([^}]*)\})?")


def test_every_panel_of_the_dashboard_shows_a_metric_of_the_server() -> None:
    dashboard = json.loads((DEPLOY / "monitoring" / "dashboard.json").read_text())
    known, shown = metrics(), set()
    assert dashboard["panels"]
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            found = SERIES.findall(target["expr"])
            assert found, target["expr"]
            labels = {"le"} if "_bucket" in target["expr"] else set()
            for name, matchers in found:
                assert name in known, name
                assert set(re.findall(r"(\w+)=", matchers)) <= known[name], target["expr"]
                labels |= known[name]
                shown.add(re.sub("_(total|bucket|sum|count)$", "", name))
            for by in re.findall(r"by \(([^)]*)\)", target["expr"]):
                assert set(by.split(", ")) <= labels, target["expr"]
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels
    every = {re.sub("_(total|bucket|sum|count|created)$", "", name) for name in known}
    assert shown == every


def test_the_dashboard_finds_its_source_and_its_models() -> None:
    dashboard = json.loads((DEPLOY / "monitoring" / "dashboard.json").read_text())
    (source,) = documents(DEPLOY / "monitoring" / "datasource.yaml")[0]["datasources"]
    (variable,) = dashboard["templating"]["list"]
    name, label = re.findall(r"label_values\((\w+), (\w+)\)", variable["query"])[0]
    assert label in metrics()[name]
    for part in (variable, *dashboard["panels"]):
        assert part["datasource"] == {"type": source["type"], "uid": source["uid"]}


def test_prometheus_reads_the_address_of_our_metrics() -> None:
    from cvpipe.serving import app

    (job,) = documents(DEPLOY / "monitoring" / "prometheus.yaml")[0]["scrape_configs"]
    assert f'"{job["metrics_path"]}"' in Path(app.__file__).read_text()
    services = documents(DEPLOY / "compose.yaml")[0]["services"]
    (target,) = job["static_configs"][0]["targets"]
    assert target.split(":")[0] in services
    annotations = kinds(DEPLOY / "kubernetes" / "cvpipe.yaml")["Deployment"]["spec"]["template"][
        "metadata"
    ]["annotations"]
    assert annotations["prometheus.io/path"] == job["metrics_path"]


@pytest.mark.parametrize(
    "target, command",
    [
        ("image", "docker build --file deploy/Dockerfile.serve"),
        ("deploy-compose", "docker compose --file deploy/compose.yaml up"),
        ("deploy-tfserving", "docker compose --file deploy/tfserving/compose.yaml up"),
        ("deploy-kubernetes", "deploy/kubernetes/cvpipe.yaml | kubectl apply"),
        ("deploy-kserve", "kubectl apply --filename deploy/kserve/inference_service.yaml"),
        ("deploy-ray", "RAY_USAGE_STATS_ENABLED=0 RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="),
    ],
)
def test_make_prints_what_a_deployment_would_run(target: str, command: str) -> None:
    done = subprocess.run(
        ["make", target, "DRY_RUN=1"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert command in done.stdout
    for file in re.findall(r"deploy/\S+\.yaml|deploy/Dockerfile\S*", done.stdout):
        assert (ROOT / file).is_file()
