"""The loaded versions of a server. Versions are loaded and unloaded as the folder changes.

One thread watches the folder. Every request leases a version, and a version is unloaded only after
its last lease has ended.
"""

from __future__ import annotations

import errno
import gc
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol

from cvpipe.errors import DataError, UserError
from cvpipe.serving.errors import RequestError
from cvpipe.serving.models import Servable, find_models, nothing_to_serve
from cvpipe.serving.versions import Policy

RETRY_SECONDS, MAX_RETRY_SECONDS = 1.0, 300.0
"""First and longest pause before a failed load is tried again; each pause doubles the last."""


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
    """Result of `_times` when the version was loaded; None after it was unloaded."""
    pause: float = 0.0
    """Seconds between the last failure that may pass by itself and the next try."""
    retry_at: float = math.inf
    """Time of the next try, by the shelf's clock."""


class Shelf:
    """All versions by model and number; thread-safe."""

    def __init__(
        self,
        folder: Path,
        policy: Policy,
        load: Callable[[Path, str, int], Runner],
        *,
        poll_seconds: float = 1.0,
        log: Callable[..., None] = lambda event, **facts: None,
        freeze: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to watch a folder. Call `start` to begin.

        Args:
            folder: a folder of models, as for `find_models`.
            policy: selects the versions to serve.
            load: maps a version's folder, model and number to its runner; raises UserError.
            poll_seconds: interval between scans of the folder.
            log: receives an event and its fields.
            freeze: True to exempt all objects that exist after a version was loaded from garbage
                collection, until the versions change again.
            clock: returns seconds, for the pauses before failed loads are tried again.
        """
        self.folder, self.policy = folder, policy
        self._load, self._poll_seconds, self._log = load, poll_seconds, log
        self._freeze, self._clock = freeze, clock
        self._models: dict[str, dict[int, Version]] = {}
        self._lock = threading.Lock()
        self._scanning = threading.Lock()
        self._wake, self._stopped = threading.Event(), False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Load all versions, then watch the folder.

        Raises:
            UserError: the folder has no models, or none can be loaded.
        """
        if not find_models(self.folder):
            raise nothing_to_serve(self.folder)
        self.scan()
        if not any(self.numbers(name) for name in self.names()):
            failed = [v.error for own in self._models.values() for v in own.values() if v.error]
            raise UserError(
                failed[0] if failed else f"{self.folder}: --versions selects none of its versions"
            )
        self._thread = threading.Thread(target=self._watch, name="shelf", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching and release all versions."""
        self._stopped = True
        self._wake.set()
        if self._thread:
            self._thread.join()
        with self._lock:
            versions = [own for models in self._models.values() for own in models.values()]
            self._models = {}
        for version in versions:
            if version.runner:
                version.runner.close()
        if self._freeze:
            gc.unfreeze()

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

    def scan(self) -> None:
        """Scan the folder once, and load and unload versions accordingly."""
        with self._scanning:
            try:
                found = find_models(self.folder)
            except (UserError, OSError) as error:
                # Keep serving if the folder can't be read.
                self._log("folder_unreadable", error=str(error))
                return
            before = self._loaded()
            for name in sorted({*found, *self._models}):
                self._update(name, found.get(name, {}))
            self._drop_unused()
            after = self._loaded()
            if before - after or (self._freeze and after - before):
                self._collect()

    def _watch(self) -> None:
        while not self._stopped:
            self._wake.wait(self._poll_seconds)
            self._wake.clear()
            if not self._stopped:
                with suppress(Exception):
                    self.scan()

    def _update(self, name: str, found: Mapping[int, Path]) -> None:
        chosen, labeled = self.policy.chosen(name, found), self.policy.labeled(name, found)
        with self._lock:
            versions = self._models.setdefault(name, {})
        # Load the newest version first, because most requests use it.
        for number in sorted(chosen | labeled, reverse=True):
            version, by_label = versions.get(number), number not in chosen
            if version is None or self._can_load_again(version, found[number]):
                pause = version.pause if version else 0.0
                self._load_version(
                    Version(name, number, found[number], by_label=by_label, pause=pause)
                )
            else:
                self._keep(version, found[number], by_label)
        with self._lock:
            self._retire(versions, found, chosen, labeled)
            if not versions:
                del self._models[name]

    def _can_load_again(self, version: Version, folder: Path) -> bool:
        """Return True if a version was unloaded, or if a failed load may succeed now."""
        if version.state is not State.END:
            return False
        return version.seen != _times(folder) or self._clock() >= version.retry_at

    def _keep(self, version: Version, folder: Path, by_label: bool) -> None:
        """Keep a version that is wanted. If it was about to be unloaded, serve it again."""
        version.by_label = by_label
        is_unchanged = version.state is State.UNLOADING and version.seen == _times(folder)
        with self._lock:
            if is_unchanged and version.state is State.UNLOADING:
                version.state = State.AVAILABLE

    def _retire(
        self,
        versions: dict[int, Version],
        found: Mapping[int, Path],
        chosen: set[int],
        labeled: set[int],
    ) -> None:
        """Mark versions to unload. A model's last served version stays until another is loaded."""
        served = {n for n, own in versions.items() if own.state is State.AVAILABLE}
        replaced = bool(served & chosen) or not chosen
        for number in served - chosen - labeled:
            if replaced or number not in found:
                versions[number].state = State.UNLOADING
        for number, own in list(versions.items()):
            if own.state is State.END and number not in found:
                del versions[number]

    def _load_version(self, version: Version) -> None:
        """Load a version and make it available."""
        version.state, version.seen = State.LOADING, _times(version.folder)
        with self._lock:
            self._models[version.model][version.number] = version
        facts = {"model": version.model, "version": version.number}
        try:
            runner = self._load(version.folder, version.model, version.number)
        except Exception as error:  # a bad version must not affect the others
            version.error = str(error) if isinstance(error, UserError) else f"{error!r}"
            version.error_code = "DATA_LOSS" if isinstance(error, DataError) else "UNKNOWN"
            if _may_pass(error):
                version.pause = min(max(2 * version.pause, RETRY_SECONDS), MAX_RETRY_SECONDS)
                version.retry_at = self._clock() + version.pause
            version.state = State.END
            self._log("load_failed", **facts, error=version.error)
            return
        with self._lock:
            version.runner, version.state, version.pause = runner, State.AVAILABLE, 0.0
        self._log("loaded", **facts)

    def _drop_unused(self) -> None:
        with self._lock:
            unused = [
                version
                for own in self._models.values()
                for version in own.values()
                if version.state is State.UNLOADING and version.leases == 0
            ]
            runners = [version.runner for version in unused]
            for version in unused:
                # Forget the files, so that the version is loaded again once it is wanted again.
                version.runner, version.state, version.seen = None, State.END, None
        for version, runner in zip(unused, runners, strict=True):
            if runner:
                runner.close()
            self._log("unloaded", model=version.model, version=version.number)

    def _loaded(self) -> set[tuple[str, int]]:
        """Return model and number of all versions in memory."""
        with self._lock:
            return {
                (model, number)
                for model, versions in self._models.items()
                for number, version in versions.items()
                if version.runner
            }

    def _collect(self) -> None:
        """Free unloaded versions: TensorFlow's functions form reference cycles that keep the
        variables alive.

        A collection visits all of TensorFlow's objects, which stops every thread for a tenth of a
        second. Frozen objects are not visited.
        """
        if self._freeze:
            gc.unfreeze()
        gc.collect()
        if self._freeze:
            gc.freeze()

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


def _times(folder: Path) -> Any:
    """Return names, modification times and sizes of a version's files; None if unreadable."""
    with suppress(OSError):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return [
            (str(path), stat.st_mtime_ns, stat.st_size) for path in files for stat in [path.stat()]
        ]
    return None


def _may_pass(error: BaseException | None) -> bool:
    """Return True if a load failed because files couldn't be read for a reason outside of them,
    such as a network file system that was away. Missing and damaged files stay as they are.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            # Libraries raise OSError without a number for damaged files.
            return True
        # `raise ... from None` hides the cause only from tracebacks.
        error = error.__cause__ or error.__context__
    return False
