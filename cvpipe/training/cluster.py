"""Parsing of TF_CONFIG: the workers of a cluster and the role of this process."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from cvpipe.errors import ConfigError, counted
from cvpipe.training.launchers import launched_as

CHIEF, WORKER = "chief", "worker"
EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)


class Member(NamedTuple):
    """This process as a member of a cluster."""

    job: str
    """"chief" or "worker"."""
    number: int
    """Position among the processes of the job, counted from 0."""
    writes: bool
    """True for the member that writes files: the chief, or else the first worker."""
    jobs: dict[str, list[str]]
    """Addresses of all members: by job, in the order of their numbers."""

    @property
    def place(self) -> tuple[int, int]:
        """Index of this process among all processes, of which the chief is the first; and the
        number of processes.
        """
        before = len(self.jobs.get(CHIEF, [])) if self.job == WORKER else 0
        return before + self.number, sum(map(len, self.jobs.values()))

    @property
    def leader(self) -> str:
        """Job of the cluster's leader, which is the first member of this job."""
        return CHIEF if self.jobs.get(CHIEF) else WORKER


def read_member(text: str | None = None) -> Member | None:
    """Return this process as a member of the cluster; None without a cluster.

    As in TensorFlow, other settings are ignored if there is no cluster.

    Args:
        text: the value of TF_CONFIG; None to read it from the environment.

    Raises:
        ConfigError: the text is invalid, or names unsupported jobs, or a member that isn't in the
            cluster.
    """
    text = launched_as(os.environ) if text is None else text
    values = _parsed(text) if text.strip() else {}
    task = _mapping(values.get("task"), "task")
    cluster = _mapping(values.get("cluster"), "cluster")
    jobs = {name: addresses for name, addresses in cluster.items() if addresses}
    own = task.get("type", WORKER)
    named = [*jobs, own if isinstance(own, str) else json.dumps(own)]
    other = next((name for name in named if name not in (CHIEF, WORKER)), None)
    if other is not None:
        raise ConfigError(
            f"TF_CONFIG: the job '{other}' is not supported; name and start only the jobs chief and"
            " worker. Evaluators and parameter servers aren't needed"
        )
    if not jobs:
        return None
    return _member(jobs, task)


def _member(jobs: dict[str, Any], task: dict[str, Any]) -> Member:
    for name, addresses in jobs.items():
        if not isinstance(addresses, list):
            raise ConfigError(
                f"TF_CONFIG: cluster.{name} should be a list of addresses, such as"
                f' ["host1:2222"], not {json.dumps(addresses)}'
            )
    if len(jobs.get(CHIEF, [])) > 1:
        raise ConfigError(
            f"TF_CONFIG: the cluster has {len(jobs[CHIEF])} chiefs; keep one chief, and list the"
            " others as workers"
        )
    job, index = task.get("type"), str(task.get("index"))
    if job is None or not index.isdecimal():
        raise ConfigError(
            "TF_CONFIG: task must give the type and index of this process in the cluster, such as"
            f" in {EXAMPLE}"
        )
    if int(index) >= len(jobs.get(job, [])):
        raise ConfigError(
            f"TF_CONFIG: task is {job} {index}, but the cluster has"
            f" {' and '.join(counted(len(own), name) for name, own in jobs.items())}; give an index"
            " counted from 0"
        )
    writes = job == CHIEF or (CHIEF not in jobs and int(index) == 0)
    return Member(job, int(index), writes, jobs)


def _parsed(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"TF_CONFIG: not valid JSON ({error.msg}, character {error.pos + 1}); write it as"
            f" {EXAMPLE}, or unset the variable to train with one process"
        ) from None
    return _mapping(values, "the value")


def _mapping(values: Any, what: str) -> dict[str, Any]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"TF_CONFIG: {what} should be a JSON object, not {json.dumps(values)}; write TF_CONFIG"
            f" as {EXAMPLE}"
        )
    return values
