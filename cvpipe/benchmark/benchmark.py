"""Comparison of artifacts: score, latency, throughput, memory and size."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cvpipe.benchmark.contestants import Plan, measure_in_turns
from cvpipe.benchmark.requests import read_images, synthetic_photo, write_requests
from cvpipe.export.about import ABOUT, artifact_config, artifact_facts, read_about
from cvpipe.export.manifest import check_manifest
from cvpipe.export.operations import check_operations
from cvpipe.prediction.images import ImageFile
from cvpipe.tasks import load_task

TURNS = 10


class Row(NamedTuple):
    """Measurements of one signature of an artifact, with one batch size."""

    artifact: str
    signature: str
    """"tensor" takes prepared images, and "serving_default" encoded ones."""
    threads: int
    batch: int
    calls: int
    """Number of measured calls."""
    p50_ms: float
    """Median time of a call, in milliseconds."""
    p99_ms: float
    """99th percentile; with fewer than 100 calls, nearly the longest time."""
    images_per_second: float
    memory: int
    """Peak memory of the process with batches up to this size, minus its memory before the artifact
    was loaded, in bytes.
    """


class Measured(NamedTuple):
    """Score and size of an artifact."""

    artifact: str
    """Name of the artifact in rows."""
    folder: str
    task: str
    score: str
    """Name of the score that selects the best checkpoint."""
    value: float | None
    """The score; None if it isn't known."""
    size: int
    """Bytes of the files that a server loads."""


Score = Callable[[Path], dict[str, Any]]


def benchmark(
    folders: Sequence[Path],
    batches: Sequence[int],
    threads: Sequence[int],
    images: Sequence[ImageFile],
    seconds: float,
    score: Score,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Measure artifacts in turns, each signature and number of threads in a separate process.

    Args:
        folders: folders of artifacts' versions.
        batches: batch sizes.
        threads: numbers of cores that a process may use.
        images: images to predict; if empty, a synthetic image is used.
        seconds: duration of the measurement of each row.
        score: maps an artifact's folder to its scores.
        note: called with the progress.

    Returns:
        "images" (a description of the predicted images), "artifacts", a list of `Measured` as
        dictionaries, and "rows", a list of `Row` as dictionaries.

    Raises:
        DataError: an artifact is damaged, takes no images or fails, or an image can't be read.
    """
    batches, threads = sorted(set(batches)), sorted(set(threads))
    for folder in folders:
        check_manifest(folder)
        check_operations(folder)
    names = dict(zip(folders, short_names(folders), strict=True))
    count = max(batches)
    contents = read_images(images, count) if images else [synthetic_photo()] * count
    artifacts = [_measured(folder, names[folder], score) for folder in folders]
    with tempfile.TemporaryDirectory() as scratch:
        plans = []
        for number, folder in enumerate(folders):
            requests_folder = Path(scratch) / str(number)
            requests_folder.mkdir()
            plans += [
                Plan(folder, request, threads=count_of_threads, batches=tuple(batches))
                for request in write_requests(folder, contents, requests_folder)
                for count_of_threads in threads
            ]
        contestants = measure_in_turns(plans, seconds, TURNS, note)
    rows = [
        row
        for contestant in contestants
        for row in rows_of(
            names[contestant.plan.artifact], contestant.plan, contestant.times, contestant.memory
        )
    ]
    return {
        "images": f"{len(set(contents))} of {len(images)}" if images else "a synthetic photo",
        "artifacts": [artifact._asdict() for artifact in artifacts],
        "rows": [row._asdict() for row in rows],
    }


def short_names(folders: Sequence[Path]) -> list[str]:
    """Return the names of artifacts: model and version, or the whole path if that isn't unique."""
    short = [
        f"{folder.parent.name}/{folder.name}" if folder.name.isdecimal() else folder.name
        for folder in folders
    ]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]


def artifact_size(folder: Path) -> int:
    """Return the bytes of the graph, the weights and their assets, without cvpipe's own files."""
    return sum(
        file.stat().st_size
        for file in folder.rglob("*")
        if file.is_file() and not file.is_relative_to(folder / ABOUT.parent)
    )


def _measured(folder: Path, name: str, score: Score) -> Measured:
    config = artifact_config(folder)
    best = load_task(config, artifact_facts(folder)).best_by.score
    value = score(folder).get(best)
    return Measured(name, str(folder), config.task, best, value, artifact_size(folder))


def recorded_scores(folder: Path, split: str) -> dict[str, Any]:
    """Return an artifact's scores on a split as measured at export; empty if it has none."""
    scores: dict[str, Any] = read_about(folder)["measured"].get(split, {})
    return scores


def rows_of(
    artifact: str, plan: Plan, times: Mapping[int, Sequence[float]], memory: Mapping[int, int]
) -> list[Row]:
    """Return a row for each batch size, given the seconds of its calls and the growth in bytes."""
    signature, rows = plan.request.signature, []
    for batch, durations in times.items():
        p50, p99 = (1000 * np.percentile(durations, [50, 99])).tolist()
        rate = batch * len(durations) / sum(durations)
        row = (
            artifact,
            signature,
            plan.threads,
            batch,
            len(durations),
            p50,
            p99,
            rate,
            memory[batch],
        )
        rows.append(Row(*row))
    return rows
