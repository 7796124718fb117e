"""The LitServe service, which LitServe's workers import; `serving_peers.py` starts it."""

from __future__ import annotations

from typing import Any

import litserve

from serving_model import MAX_BATCH, Model


class Api(litserve.LitAPI):
    """Batches requests, each with its own images."""

    def __init__(self, artifact: str) -> None:
        super().__init__(max_batch_size=MAX_BATCH, batch_timeout=0.01)
        self.artifact = artifact

    def setup(self, device: str) -> None:
        self.model = Model(self.artifact)

    # No annotation here, because LitServe would use it as the schema of a request.
    def decode_request(self, request) -> list[str]:  # type: ignore[no-untyped-def]
        return request["images"]

    def batch(self, inputs: list[list[str]]) -> list[list[str]]:
        return inputs

    def predict(self, requests: list[list[str]]) -> list[list[dict[str, Any]]]:
        return self.model.answers_of(requests)

    def unbatch(self, output: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
        return output

    def encode_response(self, output: list[dict[str, Any]]) -> dict[str, Any]:
        return {"predictions": output}


def run(artifact: str, port: int) -> None:
    """Serve with one worker."""
    server = litserve.LitServer(Api(artifact), accelerator="cpu", devices=1, workers_per_device=1)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error")
