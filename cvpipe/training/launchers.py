"""Detection of the launcher that started this process. Its environment variables describe the
cluster, and are converted to the format of TF_CONFIG.

TF_CONFIG       set by TFJob and others; it has precedence
CVPIPE_WORKERS  "host1:2222,host2:2222", for Kubernetes' indexed Jobs and JobSet, which number their
                pods in JOB_COMPLETION_INDEX, and for other launchers that set CVPIPE_WORKER_INDEX
Slurm           a job step of several tasks, described by the variables that `srun` sets
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from cvpipe.errors import ConfigError

PORT = 2222
"""Default port of workers."""
# Slurm jobs on one machine need different ports. A job's ports begin at _SLURM_PORT plus a multiple
# of _TASKS_PER_NODE, which depends on the job's number.
_SLURM_PORT, _SLURM_JOBS, _TASKS_PER_NODE = 20_000, 100, 64


def launched_as(environment: Mapping[str, str]) -> str:
    """Return the text of TF_CONFIG for this process; empty without a cluster.

    Raises:
        ConfigError: the launcher's environment variables are invalid.
    """
    given = environment.get("TF_CONFIG", "")
    if given.strip():
        return given
    if environment.get("CVPIPE_WORKERS", "").strip():
        return _listed(environment)
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return _slurm_step(environment)
    return ""


def expand_hosts(text: str) -> list[str]:
    """Expand a Slurm node list, such as "tpu,gpu[01-03,7]", to host names."""
    hosts: list[str] = []
    for item in re.findall(r"[^,\[]+(?:\[[^\]]*\][^,\[]*)*", text):
        hosts += _expanded(item)
    return hosts


def _expanded(item: str) -> list[str]:
    before, bracket, rest = item.partition("[")
    if not bracket:
        return [item]
    ranges, _, after = rest.partition("]")
    numbers: list[str] = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        last = last or first
        numbers += [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)]
    return [f"{before}{number}{end}" for number in numbers for end in _expanded(after)]


def _listed(environment: Mapping[str, str]) -> str:
    workers = [each.strip() for each in environment["CVPIPE_WORKERS"].split(",") if each.strip()]
    name = "CVPIPE_WORKER_INDEX" if "CVPIPE_WORKER_INDEX" in environment else "JOB_COMPLETION_INDEX"
    index = environment.get(name, "")
    if not index.isdecimal() or int(index) >= len(workers):
        raise ConfigError(
            f"CVPIPE_WORKERS: names {len(workers)} workers, but {name} is"
            f" {json.dumps(index) if index else 'not set'}; set {name} to the number of this"
            f" worker, from 0 to {len(workers) - 1}"
        )
    return _config([each if ":" in each else f"{each}:{PORT}" for each in workers], int(index))


def _slurm_step(environment: Mapping[str, str]) -> str:
    nodes = expand_hosts(environment.get("SLURM_STEP_NODELIST", ""))
    counts: list[int] = []
    for part in environment.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        counts += [int(match[1])] * int(match[2] or 1) if match else []
    index = environment.get("SLURM_PROCID", "")
    if len(nodes) != len(counts) or not index.isdecimal() or int(index) >= sum(counts):
        raise ConfigError(
            "SLURM_STEP_NODELIST, SLURM_STEP_TASKS_PER_NODE and SLURM_PROCID don't describe the"
            " tasks of this step; start the training with srun, or set TF_CONFIG"
        )
    job = int(environment.get("SLURM_JOB_ID", "0")) % _SLURM_JOBS
    first = _SLURM_PORT + _TASKS_PER_NODE * job
    # By default (distribution "block"), Slurm numbers tasks node by node.
    workers = [
        f"{node}:{first + task}"
        for node, count in zip(nodes, counts, strict=True)
        for task in range(count)
    ]
    return _config(workers, int(index))


def _config(workers: list[str], index: int) -> str:
    return json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
