"""The BentoML service, which BentoML's command imports; `serving_peers.py` starts it."""

from __future__ import annotations

import os
from typing import Any

import bentoml

from serving_model import MAX_BATCH, Model


@bentoml.service(
    workers=1,
    traffic={"timeout": 60, "max_concurrency": 512},
    logging={"access": {"enabled": False}},
)
class Served:
    def __init__(self) -> None:
        self.model = Model(os.environ["SERVED_ARTIFACT"])

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=1000, route="/predict")
    def predict(self, images: list[str]) -> list[dict[str, Any]]:
        return [one for (one,) in self.model.answers_of([[image] for image in images])]
