"""Training on the machines of a Ray cluster, started by Ray Train.

Ray Train places the workers, sets TF_CONFIG for each, and starts all of them again if one is lost.
The run then resumes from its last checkpoint.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cvpipe.errors import ConfigError, UserError, counted
from cvpipe.runtime import import_ray

MAX_RESTARTS = 3
KINDS = ("CPU", "GPU")


def train_on_ray(words: Sequence[str], run: Path, workers: int) -> None:
    """Run `cvpipe train` on the workers of a Ray cluster, and wait for its end.

    Connects to a running Ray cluster, or starts Ray on this machine if there is none. Every machine
    needs cvpipe, and the working folder at the same path.

    Args:
        words: arguments of `cvpipe`, the same for all workers.
        run: folder of the run. Ray's own files are written beside it, to RUN-ray.
        workers: number of workers.

    Raises:
        ConfigError: Ray is not installed, or the cluster has too few cores.
        UserError: the training failed, and so did its restarts.
    """
    ray, train = import_ray(), import_ray("ray.train")
    tensorflow = import_ray("ray.train.tensorflow")
    ray.init(ignore_reinit_error=True)
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        share = resources_per_worker(nodes, workers)
        folder = run.absolute()
        trainer = tensorflow.TensorflowTrainer(
            _train_in_worker,
            train_loop_config={"words": list(words), "folder": str(Path.cwd())},
            scaling_config=train.ScalingConfig(
                num_workers=workers, use_gpu="GPU" in share, resources_per_worker=share
            ),
            run_config=train.RunConfig(
                name=f"{folder.name}-ray",
                storage_path=str(folder.parent),
                failure_config=train.FailureConfig(max_failures=MAX_RESTARTS),
            ),
        )
        try:
            trainer.fit()
        except train.TrainingFailedError as error:
            raise UserError(
                f"{run}: the training failed on the Ray cluster, {MAX_RESTARTS} restarts included;"
                " the workers' messages are above"
            ) from error
    finally:
        ray.shutdown()


def resources_per_worker(nodes: Sequence[Mapping[str, float]], workers: int) -> dict[str, float]:
    """Return the CPU cores and GPUs of each worker: the largest equal shares. A worker's share is
    on one machine. If there are fewer GPUs than workers, GPUs aren't used.

    Args:
        nodes: "CPU" and "GPU" of each machine.
        workers: number of workers.

    Raises:
        ConfigError: there are fewer cores than workers.
    """
    shares = {kind: _share([int(node.get(kind, 0)) for node in nodes], workers) for kind in KINDS}
    if not shares["CPU"]:
        cores = sum(int(node.get("CPU", 0)) for node in nodes)
        raise ConfigError(
            f"--ray: {counted(workers, 'worker')} on {counted(cores, 'core')}; each needs at least"
            " one, so start fewer workers, or add machines to the Ray cluster"
        )
    return {kind: float(share) for kind, share in shares.items() if share}


def _share(counts: Sequence[int], workers: int) -> int:
    """Return the largest share that all workers can have, each on one machine; 0 if there is
    none.
    """
    fits = (
        share
        for share in range(max(counts, default=0), 0, -1)
        if sum(count // share for count in counts) >= workers
    )
    return next(fits, 0)


def _train_in_worker(settings: Mapping[str, Any]) -> None:
    """Run the command in a separate process, with the TF_CONFIG that Ray Train has set."""
    command = [sys.executable, "-m", "cvpipe", *settings["words"]]
    done = subprocess.run(command, cwd=settings["folder"], check=False)
    if done.returncode:
        # After an error, Ray restarts all workers.
        raise RuntimeError(f"cvpipe train ended with exit code {done.returncode}")
