"""Serve an artifact's signature for encoded images by Ray Serve, LitServe or BentoML, each with its
own dynamic batching.

    python benchmarks/serving_peers.py ray|litserve|bentoml ARTIFACT PORT

A request is {"images": [base64, …]}; the answer has a JSON object for each image, like the row form
of `cvpipe serve`. Batches have at most 32 images. Each server waits for further images as long as
the batching example in its documentation.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from serving_model import MAX_BATCH, Model

os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_AUTH_MODE="disabled",
    # By default, Ray's workers have a lower priority than other processes, which would be unfair.
    RAY_worker_niceness="0",
    # On a busy machine, Ray's proxy needs more than the default of 5 seconds.
    RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S="90",
    RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S="90",
    BENTOML_DO_NOT_TRACK="True",
    TF_CPP_MIN_LOG_LEVEL="3",
    TF_ENABLE_ONEDNN_OPTS="1",
)


def run_ray(artifact: str, port: int) -> None:
    """Serve with Ray Serve: one replica that uses all cores and `serve.batch`."""
    import ray
    from ray import serve
    from starlette.requests import Request

    class Served:
        def __init__(self) -> None:
            self.model = Model(artifact)

        @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0.01)
        async def answer(self, requests: list[list[str]]) -> list[list[dict[str, Any]]]:
            return self.model.answers_of(requests)

        async def __call__(self, request: Request) -> dict[str, Any]:
            return {"predictions": await self.answer((await request.json())["images"])}

    ray.init("local", num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    deployment = serve.deployment(
        Served, max_ongoing_requests=512, ray_actor_options={"num_cpus": os.cpu_count()}
    )
    serve.run(deployment.bind())
    while True:
        time.sleep(1)


def run_litserve(artifact: str, port: int) -> None:
    """Serve with LitServe: one worker with `max_batch_size` and `batch_timeout`."""
    from serving_litserve import run

    run(artifact, port)


def run_bentoml(artifact: str, port: int) -> None:
    """Serve with BentoML: one worker with a batchable API."""
    os.environ["SERVED_ARTIFACT"] = artifact
    os.chdir(Path(__file__).parent)
    command = ["serve", "serving_bento:Served", "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", *command])


if __name__ == "__main__":
    kind, folder, port_ = sys.argv[1:]
    {"ray": run_ray, "litserve": run_litserve, "bentoml": run_bentoml}[kind](folder, int(port_))
