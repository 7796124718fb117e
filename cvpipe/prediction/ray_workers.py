"""Prediction by processes of a Ray cluster, in the same batches as in a single process.

The driver sends positions in the list of images, and the workers read the images themselves. So
artifact and images must have the same paths on all nodes.
"""

from __future__ import annotations

import itertools
import logging
import os
import pickle
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cvpipe.errors import DataError
from cvpipe.prediction.answers import BATCH, Outputs, Settings, answer_images
from cvpipe.prediction.images import ImageFile
from cvpipe.runtime import choose_kernels, import_ray

# Number of images per call of a worker. A multiple of BATCH keeps the batches of a single process,
# because the last bits of an answer depend on the other images of its batch.
CHUNK = 2 * BATCH
# Number of chunks per worker that are in progress or wait to be consumed.
AHEAD = 3
# A worker that dies is replaced, and its chunks are answered again.
RETRIES = 3


class Job:
    """The artifact, the images and the settings. Every worker receives the job once."""

    def __init__(
        self, folder: Path, images: Sequence[ImageFile], settings: Settings, outputs: Outputs
    ):
        self.folder, self.settings, self.outputs = folder.resolve(), settings, outputs
        # Unpickling may import TensorFlow, and a worker has to choose its kernels before that.
        self.packed = pickle.dumps(list(images))
        # Names of images and outputs may be relative.
        self.directory = Path.cwd()


class Worker:
    """Predicts images in its own process."""

    def __init__(self) -> None:
        """Start without a job. `answer` fetches the job, so that its errors reach the user."""
        self._begun: tuple[Job, Any, list[ImageFile]] | None = None

    def answer(self, shared: Sequence[Any], begin: int, end: int) -> list[dict[str, Any]]:
        """Return the answers to images `begin` … `end` − 1 of a job.

        Args:
            shared: a list with one element, the Ray reference of the job.
        """
        self._begun = self._begun or _begin(shared)
        job, artifact, images = self._begun
        return list(answer_images(artifact, images[begin:end], job.settings, job.outputs))


def _begin(shared: Sequence[Any]) -> tuple[Job, Any, list[ImageFile]]:
    """Return the job, its loaded artifact and its images."""
    import ray

    from cvpipe.export.about import read_about

    job: Job = ray.get(shared[0])
    os.chdir(job.directory)
    chosen = read_about(job.folder)["config"]["train"]
    choose_kernels(chosen["onednn"], chosen["deterministic"])
    from cvpipe.export.artifact import open_artifact

    return job, open_artifact(job.folder), pickle.loads(job.packed)


def answer_by_ray(
    job: Job, parts: Sequence[range], workers: int | None = None
) -> Iterator[Iterator[dict[str, Any]]]:
    """Yield, for each part of the images, an iterator over its answers, as from `answer_images`.

    Uses the cluster that RAY_ADDRESS names, or a cluster that runs on this machine. If there is
    none, starts Ray on this machine.

    Args:
        job: the artifact and all images.
        parts: positions of images. Each part begins with a new batch. Consume the answers to a
            part before taking the next part.
        workers: number of processes; None for one process per two cores of the cluster.

    Raises:
        ConfigError: Ray is missing.
        DataError: a worker died several times, or raised an error.
    """
    if not parts:
        return
    ray = import_ray()
    begins = not ray.is_initialized()
    if begins:
        ray.init(include_dashboard=False, logging_level=logging.WARNING)
    try:
        cores = ray.cluster_resources().get("CPU", 1.0)
        count = workers or max(int(cores) // 2, 1)
        actor = ray.remote(
            # A worker that reserved more cores than the cluster has would wait forever.
            num_cpus=min(1.0, cores / count),
            scheduling_strategy="SPREAD",
            max_restarts=RETRIES,
            max_task_retries=RETRIES,
        )(Worker)
        # As an argument, Ray would replace the reference by the job in every call. In a list it
        # stays a reference, and each worker fetches the job once.
        shared = [ray.put(job)]
        actors = [actor.remote() for _ in range(count)]

        def sent() -> Iterator[Any]:
            waiting: deque[Any] = deque()
            chunks = ((begin, part.stop) for part in parts for begin in part[::CHUNK])
            for number, (begin, stop) in enumerate(chunks):
                if len(waiting) == AHEAD * count:
                    yield waiting.popleft()
                end = min(begin + CHUNK, stop)
                waiting.append(actors[number % count].answer.remote(shared, begin, end))
            yield from waiting

        results = sent()
        for part in parts:
            own = itertools.islice(results, len(part[::CHUNK]))
            yield (each for result in own for each in _fetched(ray, result))
    finally:
        if begins:
            ray.shutdown()


def _fetched(ray: Any, result: Any) -> list[dict[str, Any]]:
    try:
        answers: list[dict[str, Any]] = ray.get(result)
    except ray.exceptions.RayTaskError as error:
        # Raise the worker's own error, without Ray's traceback.
        raise error.cause from None
    except ray.exceptions.RayActorError as error:
        raise DataError(
            f"--ray: a worker died more than {RETRIES} times ({error}); fewer --workers need less"
            " memory"
        ) from None
    return answers
