"""Guards the Ray Serve application, with two replicas on this machine."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from conftest import ROOT
from cvpipe.serving.ray_app import Arguments
from toy_served import ask, b64

IMAGE = (ROOT / "pipelines" / "classification" / "example.png").read_bytes()
PREDICT = "/v1/models/digits:predict"


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(ValidationError, match="replica\n"):
        Arguments.model_validate({"folder": "saved_models", "replica": "2"})


@pytest.fixture(scope="module")
def port(artifact: Path) -> Iterator[int]:
    """The port of Ray's proxy, once both replicas answer."""
    # Ray reads these when it is imported. On a busy machine its proxy takes longer than the usual
    # 5 seconds, and its workers, which run at a low priority, take minutes to start.
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0",
        RAY_AUTH_MODE="disabled",
        RAY_worker_niceness="0",
        RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="35",
        RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S="90",
        RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S="90",
    )
    # Workers must import the cvpipe that is tested.
    os.environ["PYTHONPATH"] = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install cvpipe[ray]")
    from ray import serve

    from cvpipe.serving.ray_app import application

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": number})
        # One image a batch: the last bits of an answer depend on the size of its batch.
        words = {"folder": str(artifact.parent), "replicas": 2, "max_batch": 1}
        serve.run(application(words))
        yield number
    finally:
        serve.shutdown()
        ray.shutdown()


def replicas() -> dict[int, psutil.Process]:
    """Return the processes of the replicas, by process id, among those that this test started."""
    own = psutil.Process().children(recursive=True)
    return {one.pid: one for one in own if "ServeReplica" in " ".join(one.cmdline())}


def expected(artifact: Path) -> dict[str, Any]:
    """The answer of the artifact itself."""
    import tensorflow as tf

    signature = tf.saved_model.load(str(artifact)).signatures["serving_default"]
    answer = signature(image_bytes=tf.constant([IMAGE]))
    return {name: value.numpy().tolist()[0] for name, value in answer.items()}


def decoded(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer whose strings are bytes, as TensorFlow has them."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(one) for one in value]
        return value.encode() if isinstance(value, str) else value

    return {name: plain(value) for name, value in answer.items()}


@pytest.mark.soak
def test_two_replicas_of_ray_answer_as_the_artifact_and_one_that_is_killed_is_replaced(
    port: int, artifact: Path
) -> None:
    right = expected(artifact)

    def answers(count: int) -> list[Any]:
        def one(_: int) -> Any:
            status, content, _ = ask(port, "POST", PREDICT, {"instances": [b64(IMAGE)]})
            return decoded(content["predictions"][0]) if status == 200 else (status, content)

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(one, range(count)))

    assert [answer for answer in answers(200) if answer != right] == []
    before = replicas()
    assert len(before) == 2
    killed = next(iter(before))
    os.kill(killed, signal.SIGKILL)
    # The other replica answers on; requests that the killed one had may be lost.
    assert right in answers(20)
    end = time.monotonic() + 120
    while len(set(replicas()) - {killed}) < 2 and time.monotonic() < end:
        time.sleep(0.5)
    assert len(set(replicas()) - {killed}) == 2
    while ask(port, "GET", "/readyz")[0] != 200 and time.monotonic() < end:
        time.sleep(0.5)
    assert all(answer == right for answer in answers(200))
    assert ask(port, "POST", "/predict/digits", b"no image")[0] == 400
