"""The server as an application of Ray Serve.

    serve run cvpipe.serving.ray_app:application folder=saved_models replicas=2

Every replica holds a service of its own, with the same addresses as `cvpipe serve`. Connections are
those of Ray's proxy: limits on headers and slow clients, TLS and gRPC are not ours there.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from starlette.types import ASGIApp

from cvpipe.runtime import quiet_tensorflow
from cvpipe.serving.settings import Settings


class Arguments(BaseModel):
    """The words behind the import path on the command line of `serve run`."""

    model_config = ConfigDict(extra="forbid")

    folder: Path
    """A folder of models, or one model, that every node of the cluster has."""
    replicas: int = 2
    cpus: float = 1.0
    """Cores that Ray reserves for a replica."""
    gpus: float = 0.0
    max_batch: int = Settings.max_batch
    batch_threads: int = Settings.batch_threads
    timeout: float = Settings.timeout
    drain: float = Settings.drain

    @property
    def settings(self) -> Settings:
        """The settings of every replica."""
        return Settings(**self.model_dump(exclude={"folder", "replicas", "cpus", "gpus"}))


class Replica:
    """The service of one replica, as a deployment of Ray Serve."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        """Load the models of a folder.

        Raises:
            UserError: there is nothing to serve, or none of it can be loaded.
        """
        quiet_tensorflow()
        # Importing TensorFlow takes seconds, which only replicas need.
        from cvpipe.serving.service import Service

        sys.setswitchinterval(0.001)
        self._service = Service(folder, settings)
        self._service.shelf.start()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Return the addresses of the server; Ray calls this once."""
        from cvpipe.serving.app import make_app

        return make_app(self._service)

    def check_health(self) -> None:
        """Have Ray replace this replica if it no longer takes requests.

        Raises:
            RuntimeError: no model is served.
        """
        if not self._service.ready:
            raise RuntimeError(f"no model of {self._service.shelf.folder} is served any more")

    def __del__(self) -> None:
        """Let go of models and threads, after Ray has waited for requests under way."""
        if service := getattr(self, "_service", None):
            service.close()


def application(words: Mapping[str, Any]) -> Any:
    """Return the application, for `serve run` and `serve.run`.

    Args:
        words: the fields of `Arguments` by name.

    Raises:
        pydantic.ValidationError: one of them is unknown or malformed.
    """
    from ray import serve

    arguments = Arguments.model_validate(words)
    settings = arguments.settings
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name="cvpipe",
        num_replicas=arguments.replicas,
        # Ray would let five requests in at a time, too few for a batch.
        max_ongoing_requests=settings.max_connections,
        graceful_shutdown_timeout_s=arguments.drain,
        ray_actor_options={"num_cpus": arguments.cpus, "num_gpus": arguments.gpus},
    )
    return deployment.bind(arguments.folder.resolve(), settings)
