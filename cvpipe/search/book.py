"""The folder of a sweep: its files and its trials."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cvpipe.atomic_write import atomic_write
from cvpipe.config import Config
from cvpipe.errors import ConfigError, Interrupted
from cvpipe.init.pipeline_file import to_yaml
from cvpipe.json_files import jsonable, write_json
from cvpipe.search.hparams import write_experiment, write_run
from cvpipe.search.space import Dimension, Range
from cvpipe.search.trial import Train, failed, run_once
from cvpipe.tasks.task import BestBy
from cvpipe.training.run import Run
from cvpipe.training.summaries import SWEEP


class Book:
    """Record of a sweep: its trials, and the scores of its runs, which survive restarts."""

    def __init__(
        self,
        folder: Path,
        config: Config,
        head: Mapping[str, Any],
        space: Sequence[Dimension],
        best_by: BestBy,
    ):
        """Open the record of a sweep, or create one.

        Args:
            folder: folder of the sweep.
            config: the pipeline, which is written into the folder.
            head: settings that must not change when the sweep is continued, by the names that
                errors use.
            space: the search dimensions.
            best_by: the validation score by which trials are compared.

        Raises:
            ConfigError: the folder contains another sweep, or other files.
        """
        self.folder, self.metric = folder, f"validation {best_by.score}"
        self.pipeline = folder / "pipeline.yaml"
        self.trials: list[dict[str, Any]] = []
        """The trials in the order in which they were drawn, as `sweep` returns them, except that
        "runs" are paths relative to the folder.
        """
        self._space, self._best_by = tuple(space), best_by
        self._file, self._hparams = folder / "sweep.json", folder / SWEEP
        self._head = jsonable(dict(head))
        self._runs = self._known_runs()
        self._again = _to_try_again(self._runs)
        folder.mkdir(parents=True, exist_ok=True)
        _write_pipeline(self.pipeline, config, "The pipeline of a sweep, before its trials.")
        shutil.rmtree(self._hparams, ignore_errors=True)
        write_experiment(self._hparams, space, self.metric)
        self._write()

    def score(self, config: Config, name: str, number: int, train: Train) -> dict[str, Any]:
        """Return the recorded result of `run_once` for a configuration. If there is none, train the
        run first.

        Args:
            config: configuration of the run.
            name: folder of the run, relative to the sweep's folder.
            number: the round to which the run belongs.
            train: trains the run.
        """
        run, known = Run(self.folder / name), self._runs.get(name)
        # A failed run may have no folder. A scored run whose folder was removed is trained again.
        same = run.config == config if run.config_file.exists() else bool(known and known["error"])
        if known is None or name in self._again or not same:
            # A run that was stopped continues, so its durations add up.
            before = known["seconds"] if known and run.config_file.exists() and same else 0.0
            began = time.monotonic()
            try:
                result = run_once(config, run.folder, self._best_by, train)
            except Interrupted:
                seconds = round(before + time.monotonic() - began, 1)
                self._runs[name] = {"round": number, **failed("stopped", seconds)}
                self._again.add(name)
                self._write()
                raise
            seconds = round(before + result["seconds"], 1)
            self._runs[name] = {"round": number, **result, "seconds": seconds}
            self._again.discard(name)
            self._write()
        return self._runs[name]

    def add(self, trial: dict[str, Any]) -> None:
        """Add a trial, all of whose runs have results."""
        self.trials.append(trial)
        for name in trial["runs"]:
            run, group = self._runs[name], f"trial-{trial['trial']:03}"
            write_run(
                self._hparams / name,
                group,
                trial["values"],
                self.metric,
                run["score"],
                run["epoch"],
            )
        self._write()

    def ranked(self) -> list[dict[str, Any]]:
        """Return the trials sorted by score, best first, failed trials last. Trials with equal
        scores stay in the order in which they were drawn.
        """

        def rank(trial: Mapping[str, Any]) -> float:
            merit = self.merit(trial)
            return math.inf if merit is None else -merit

        return sorted(self.trials, key=rank)

    def merit(self, trial: Mapping[str, Any]) -> float | None:
        """Return a trial's score, converted so that higher is better; None if the trial failed."""
        return None if trial["score"] is None else self._best_by.merit(trial["score"])

    def write_best(self, config: Config) -> Path:
        """Write best.yaml from the configuration of the best trial; return its path."""
        best, file = self.ranked()[0], self.folder / "best.yaml"
        head = f"Trial {best['trial']} of a sweep, the best of {len(self.trials)}:"
        _write_pipeline(file, config, f"{head} {self.metric} {best['score']:.4f}.")
        return file

    def result(self) -> dict[str, Any]:
        """Return the result of `sweep`: metric, best trial, all trials and notes."""
        ranked = self.ranked()
        best = next((trial for trial in ranked if trial["score"] is not None), None)
        notes = (
            [_edge_note(dimension, best["values"][dimension.key]) for dimension in self._space]
            if best
            else []
        )
        trials = [
            {**trial, "runs": [str(self.folder / name) for name in trial["runs"]]}
            for trial in ranked
        ]
        return {
            "metric": self.metric,
            "best": best and best["trial"],
            "trials": trials,
            "notes": [note for note in notes if note],
        }

    def _known_runs(self) -> dict[str, dict[str, Any]]:
        if not self._file.exists():
            if self.folder.exists() and any(self.folder.iterdir()):
                raise ConfigError(
                    f"{self.folder}: the folder is not empty and has no sweep; choose another"
                    " with --run"
                )
            return {}
        try:
            before = json.loads(self._file.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ConfigError(
                f"{self._file}: damaged ({error}); choose another folder with --run"
            ) from None
        changed = [word for word, value in self._head.items() if before.get(word) != value]
        if changed:
            raise ConfigError(
                f"{self.folder}: has a sweep with another {' and '.join(changed)}; choose another"
                " folder with --run"
            )
        return before["runs"]

    def _write(self) -> None:
        write_json(self._file, {**self._head, "runs": self._runs, **self.result()})


def _write_pipeline(file: Path, config: Config, head: str) -> None:
    """Write a pipeline file: a head comment, and the keys that the user set."""
    text = to_yaml(config.model_dump(mode="json", exclude_unset=True), {}, [head])
    with atomic_write(file) as stream:
        stream.write(text.encode())


def _to_try_again(runs: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the names of failed runs to retry, for example after a lack of memory or disk space.

    Runs with an infinite or NaN loss would fail again, so they aren't retried; neither are runs of
    earlier rounds, because later rounds depend on their results.
    """
    latest = max((run["round"] for run in runs.values()), default=0)
    return {
        name
        for name, run in runs.items()
        if run["error"] and run["round"] == latest and "not finite" not in run["error"]
    }


def _edge_note(dimension: Dimension, value: Any) -> str | None:
    edge = dimension.edge(value) if isinstance(dimension, Range) else None
    return edge and (
        f"the best {dimension.key} is at the {edge} end of its range; better values may lie beyond"
        " it"
    )
