"""The versions of all models in any state: lookup, and leases for requests.

A version that is leased is not unloaded.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol

from cvpipe.serving.errors import RequestError
from cvpipe.serving.models import Servable
from cvpipe.serving.policy import Policy


class State(IntEnum):
    """States of a version, with the values of TF Serving's `ModelVersionStatus.State`."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


class Runner(Protocol):
    """A loaded version that answers requests."""

    servable: Servable

    def close(self) -> None:
        """Release threads."""


@dataclass
class Version:
    """One version of a model in any state."""

    model: str
    number: int
    folder: Path
    state: State = State.START
    error: str = ""
    error_code: str = "OK"
    runner: Runner | None = None
    leases: int = 0
    by_label: bool = False
    """True if only requests with a label get this version."""
    seen: Any = None
    """Names, times and sizes of its files when it was loaded; None after it was unloaded."""
    pause: float = 0.0
    """Seconds between the last failure that may pass by itself and the next try."""
    retry_at: float = math.inf
    """Time of the next try, by the shelf's clock."""


class Versions:
    """All versions by model and number; thread-safe."""

    def __init__(self, policy: Policy) -> None:
        """Create an empty collection.

        Args:
            policy: gives labels to versions.
        """
        self.policy = policy
        self._models: dict[str, dict[int, Version]] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        """Set when a version that is to be unloaded has lost its last lease."""

    def names(self) -> list[str]:
        """Return the names of the served models."""
        with self._lock:
            return sorted(
                name
                for name, own in self._models.items()
                if any(version.state is State.AVAILABLE for version in own.values())
            )

    def numbers(self, model: str) -> list[int]:
        """Return the served versions of a model, ascending."""
        with self._lock:
            return sorted(
                number
                for number, version in self._models.get(model, {}).items()
                if version.state is State.AVAILABLE
            )

    def status(self, model: str, number: int | None = None) -> list[Version]:
        """Return one version of a model, or all versions in any state, newest first.

        Raises:
            RequestError: 404 if there is no such model or version.
        """
        with self._lock:
            versions = self._known(model)
            if number is not None:
                return [self._one(versions, model, number)]
            return [versions[number] for number in sorted(versions, reverse=True)]

    @contextmanager
    def lease(
        self, model: str, number: int | None = None, label: str | None = None
    ) -> Iterator[Version]:
        """Hold a served version, so that it isn't unloaded.

        Args:
            model: name of the model.
            number: number of the version; None for the newest version.
            label: label of the version, instead of a number.

        Raises:
            RequestError: 404 if the version does not exist, 503 if it isn't served yet.
        """
        with self._lock:
            version = self._find(model, number, label)
            version.leases += 1
        try:
            yield version
        finally:
            with self._lock:
                version.leases -= 1
                if version.leases == 0 and version.state is State.UNLOADING:
                    self._wake.set()

    def resolve(self, model: str, label: str) -> int:
        """Return the version number of a label.

        Raises:
            RequestError: 404 if the model has no such label.
        """
        number = self.policy.labels.get(model, {}).get(label)
        if number is None:
            known = ", ".join(sorted(self.policy.labels.get(model, {}))) or "none"
            raise RequestError(
                404, f'model "{model}" has no version labeled "{label}"; its labels: {known}'
            )
        return number

    def _known(self, model: str) -> dict[int, Version]:
        if model not in self._models:
            raise RequestError(404, f'no model "{model}"; GET /v1/models lists the models')
        return self._models[model]

    def _one(self, versions: Mapping[int, Version], model: str, number: int) -> Version:
        if number not in versions:
            numbers = ", ".join(map(str, sorted(versions)))
            raise RequestError(404, f'model "{model}" has no version {number}; it has {numbers}')
        return versions[number]

    def _find(self, model: str, number: int | None, label: str | None) -> Version:
        versions = self._known(model)
        if label is not None:
            number = self.resolve(model, label)
        if number is not None:
            version = self._one(versions, model, number)
        else:
            served = [own for own in versions.values() if own.state is State.AVAILABLE]
            usual = [own for own in served if not own.by_label] or served
            if not usual:
                raise RequestError(503, f'no version of model "{model}" is loaded')
            version = max(usual, key=lambda own: own.number)
        if version.state in (State.START, State.LOADING):
            raise RequestError(
                503, f'version {number} of model "{model}" is still loading', retry_after=1
            )
        if version.runner is None or version.state is not State.AVAILABLE:
            raise RequestError(404, f'version {number} of model "{model}" is not served')
        return version
