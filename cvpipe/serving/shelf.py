"""Loading and unloading of versions as their folder changes."""

from __future__ import annotations

import errno
import gc
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cvpipe.errors import DataError, UserError
from cvpipe.serving.models import find_models, nothing_to_serve
from cvpipe.serving.policy import Policy
from cvpipe.serving.versions import Runner, State, Version, Versions

RETRY_SECONDS, MAX_RETRY_SECONDS = 1.0, 300.0
"""First and longest pause before a failed load is tried again; each pause doubles the last."""


class Shelf(Versions):
    """The versions in a folder. One thread watches the folder, and loads and unloads versions as it
    changes.
    """

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
        super().__init__(policy)
        self.folder = folder
        self._load, self._poll_seconds, self._log = load, poll_seconds, log
        self._freeze, self._clock = freeze, clock
        self._scanning, self._stopped = threading.Lock(), False
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
