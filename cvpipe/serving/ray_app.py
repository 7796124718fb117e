"""The server as a Ray Serve application.

    serve run cvpipe.serving.ray_app:application folder=saved_models replicas=2

Every replica runs its own service with the same routes as `cvpipe serve`. Ray's proxy handles
connections, so there is no gRPC, and cvpipe's TLS and its limits on headers and slow clients don't
apply.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from starlette.types import ASGIApp

from cvpipe.runtime import quiet_tensorflow
from cvpipe.serving.settings import Settings


class Arguments(BaseModel):
    """Arguments of `serve run` after the import path."""

    model_config = ConfigDict(extra="forbid")

    folder: Path
    """Folder of models, or one model, which every node of the cluster can read."""
    replicas: int = 2
    cpus: float = 1.0
    """CPU cores reserved per replica."""
    gpus: float = 0.0
    max_batch: int = Settings.max_batch
    batch_threads: int = Settings.batch_threads
    timeout: float = Settings.timeout
    drain: float = Settings.drain

    @property
    def settings(self) -> Settings:
        """The settings of every replica."""
        limits = self.model_dump(exclude={"folder", "replicas", "cpus", "gpus"})
        return Settings(**limits, dedicated=True)


class Replica:
    """The service of one replica, as a deployment of Ray Serve."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        """Load the models of a folder.

        Raises:
            UserError: the folder has no models, or none can be loaded.
        """
        quiet_tensorflow()
        # Import it here, because only replicas need TensorFlow.
        from cvpipe.serving.service import Service

        self._service = Service(folder, settings)
        self._service.shelf.start()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Return the ASGI application. Ray calls this once."""
        from cvpipe.serving.app import make_app

        return make_app(self._service)

    def check_health(self) -> None:
        """Check that the replica serves a model; otherwise Ray replaces the replica.

        Raises:
            RuntimeError: no model is served.
        """
        if not self._service.ready:
            raise RuntimeError(f"no model of {self._service.shelf.folder} is served any more")

    def __del__(self) -> None:
        """Release models and threads. Before this, Ray waits for requests in progress."""
        if service := getattr(self, "_service", None):
            service.close()


def application(words: Mapping[str, Any]) -> Any:
    """Return the Ray application for `serve run` and `serve.run`.

    Args:
        words: fields of `Arguments` by name.

    Raises:
        pydantic.ValidationError: a field is unknown or invalid.
    """
    from ray import serve

    arguments = Arguments.model_validate(words)
    settings = arguments.settings
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name="cvpipe",
        num_replicas=arguments.replicas,
        # Ray's default of five concurrent requests is too few for a batch.
        max_ongoing_requests=settings.max_connections,
        graceful_shutdown_timeout_s=arguments.drain,
        ray_actor_options={"num_cpus": arguments.cpus, "num_gpus": arguments.gpus},
    )
    return deployment.bind(arguments.folder.resolve(), settings)
