"""Guards clusters described by launchers: every member gets the same description, or an error."""

from __future__ import annotations

import json

import pytest

from cvpipe.errors import ConfigError
from cvpipe.training.cluster import read_member
from cvpipe.training.launchers import expand_hosts, launched_as

SLURM = {
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_STEP_NODELIST": "gpu[08-09],login",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    "SLURM_JOB_ID": "1234",
}


def member(environment: dict[str, str]) -> tuple[int, list[str]]:
    """Return number and addresses of the process with these variables."""
    found = read_member(launched_as(environment))
    assert found and found.job == "worker"
    return found.number, found.jobs["worker"]


@pytest.mark.parametrize(
    "text, hosts",
    [
        ("one", ["one"]),
        ("a,b", ["a", "b"]),
        ("gpu[1-3]", ["gpu1", "gpu2", "gpu3"]),
        ("gpu[08-10,12],x", ["gpu08", "gpu09", "gpu10", "gpu12", "x"]),
        ("r[1-2]n[1-2]-ib", ["r1n1-ib", "r1n2-ib", "r2n1-ib", "r2n2-ib"]),
        ("", []),
    ],
)
def test_a_node_list_is_expanded_as_slurm_does(text: str, hosts: list[str]) -> None:
    assert expand_hosts(text) == hosts


def test_every_task_of_a_slurm_step_has_its_number_and_a_port_of_its_own() -> None:
    members = [member({**SLURM, "SLURM_PROCID": str(n)}) for n in range(5)]
    assert [number for number, _ in members] == [0, 1, 2, 3, 4]
    [addresses] = {tuple(addresses) for _, addresses in members}
    assert [address.partition(":")[0] for address in addresses] == [
        "gpu08",
        "gpu08",
        "gpu09",
        "gpu09",
        "login",
    ]
    assert len(set(addresses)) == 5


def test_two_jobs_on_a_node_have_different_ports() -> None:
    ports = [
        member({**SLURM, "SLURM_PROCID": "0", "SLURM_JOB_ID": job})[1][0] for job in ("7", "8")
    ]
    assert ports[0] != ports[1]


def test_pods_of_an_indexed_job_are_members_by_their_completion_index() -> None:
    named = {"CVPIPE_WORKERS": "run-0.run, run-1.run:3333", "JOB_COMPLETION_INDEX": "1"}
    assert member(named) == (1, ["run-0.run:2222", "run-1.run:3333"])
    assert member({**named, "CVPIPE_WORKER_INDEX": "0"})[0] == 0


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TF_CONFIG": " "},
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"},
        {**SLURM, "SLURM_STEP_NUM_TASKS": "1"},
        {"JOB_COMPLETION_INDEX": "3"},
    ],
    ids=["nothing", "empty", "a script of Slurm outside srun", "one task", "a job of its own"],
)
def test_a_process_without_cluster_variables_trains_alone(environment: dict[str, str]) -> None:
    assert read_member(launched_as(environment)) is None


def test_tf_config_comes_first() -> None:
    given = json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}})
    assert launched_as({**SLURM, "TF_CONFIG": given, "CVPIPE_WORKERS": "b"}) == given


@pytest.mark.parametrize(
    "environment, said",
    [
        ({"CVPIPE_WORKERS": "a,b"}, "names 2 workers, but JOB_COMPLETION_INDEX is not set"),
        (
            {"CVPIPE_WORKERS": "a,b", "CVPIPE_WORKER_INDEX": "2"},
            'CVPIPE_WORKER_INDEX is "2"; set CVPIPE_WORKER_INDEX to the number of this worker',
        ),
        ({**SLURM, "SLURM_PROCID": "5"}, "start the training with srun, or set TF_CONFIG"),
        ({**SLURM, "SLURM_PROCID": "0", "SLURM_STEP_NODELIST": "gpu1"}, "start the training"),
        ({**SLURM, "SLURM_PROCID": "0", "SLURM_STEP_TASKS_PER_NODE": "x"}, "start the training"),
    ],
)
def test_invalid_launcher_variables_are_a_clear_error(
    environment: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        launched_as(environment)
    assert said in str(error.value)
