"""Guards that exactly one of the processes that train together writes files, for any TF_CONFIG."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import DIGITS
from cvpipe.errors import ConfigError
from cvpipe.training.cluster import read_member
from cvpipe.training.strategy import is_chief, make_strategy

Cvpipe = Callable[..., tuple[int, str, str]]
TWO = ["a:1", "b:2"]


def config(cluster: Any, job: str = "worker", index: Any = 0) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": job, "index": index}})


ALONE = {
    "empty": "",
    "blank": " \n",
    "a mapping of nothing": "{}",
    "a task alone": '{"task": {"type": "worker", "index": 0}}',
    "a later task alone": '{"task": {"type": "worker", "index": 3}}',
    "a cluster of nobody": '{"cluster": {}, "task": {"type": "worker", "index": 0}}',
    "a job of nobody": '{"cluster": {"worker": []}}',
    "nulls": '{"cluster": null, "task": null}',
}


@pytest.mark.parametrize("text", [None, *ALONE.values()], ids=["unset", *ALONE])
def test_a_process_without_a_cluster_trains_alone_and_writes(
    text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text is None:
        monkeypatch.delenv("TF_CONFIG", raising=False)
    else:
        monkeypatch.setenv("TF_CONFIG", text)
    strategy = make_strategy("auto")
    assert strategy.num_replicas_in_sync == 1 and is_chief(strategy)


@pytest.mark.parametrize(
    "cluster",
    [
        {"worker": ["a:1"]},
        {"worker": ["a:1", "b:2", "c:3"]},
        {"chief": ["a:1"]},
        {"chief": ["a:1"], "worker": ["b:2"]},
        {"chief": ["a:1"], "worker": ["b:2", "c:3"]},
        {"chief": [], "worker": TWO},
    ],
    ids=str,
)
def test_exactly_one_member_of_a_cluster_writes(cluster: dict[str, list[str]]) -> None:
    members = [
        read_member(config(cluster, job, index))
        for job, addresses in cluster.items()
        for index in range(len(addresses))
    ]
    assert all(members)
    [writer] = [member for member in members if member and member.writes]
    assert writer.number == 0
    assert writer.job == ("chief" if cluster.get("chief") else "worker")


def test_a_member_may_be_numbered_by_text() -> None:
    member = read_member(config({"worker": TWO}, index="1"))
    assert member == ("worker", 1, False, {"worker": TWO})


@pytest.mark.parametrize(
    "text, said",
    [
        ("{", "not valid JSON (Expecting property name"),
        ("[]", "the value should be a JSON object, not []"),
        ('{"cluster": ["a:1"]}', 'cluster should be a JSON object, not ["a:1"]'),
        ('{"task": "worker"}', 'task should be a JSON object, not "worker"'),
        (config({"worker": "a:1"}), "cluster.worker should be a list of addresses"),
        (config({"chief": TWO}), "the cluster has 2 chiefs; keep one"),
        ('{"cluster": {"worker": ["a:1"]}}', "task must give the type and index of this process"),
        (config({"worker": TWO}, index=None), "task must give the type and index"),
        (config({"worker": TWO}, index=-1), "task must give the type and index"),
        (
            config({"worker": TWO}, index=2),
            "task is worker 2, but the cluster has 2 workers; give an index counted from 0",
        ),
        (config({"worker": TWO}, "chief"), "task is chief 0, but the cluster has 2 workers"),
        (config({"worker": TWO}, "evaluator"), "the job 'evaluator' is not supported"),
        (config({"worker": TWO}, "ps"), "the job 'ps' is not supported"),
        (config({"worker": TWO, "ps": ["c:3"]}), "the job 'ps' is not supported"),
        (config({"worker": TWO, "evaluator": ["c:3"]}), "the job 'evaluator' is not"),
        (config({"master": ["a:1"]}, "master"), "the job 'master' is not supported"),
        ('{"task": {"type": "evaluator", "index": 0}}', "the job 'evaluator' is not"),
        ('{"task": {"type": null, "index": 0}}', "the job 'null' is not supported"),
    ],
)
def test_an_invalid_cluster_is_a_clear_error(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_member(text)
    assert str(error.value).startswith(f"TF_CONFIG: {said}")


LINEAR = ("model.backbone=linear", "prepare.size=[8, 8]", "train.epochs=1", "data.validation=0")
QUICK = ("schedule={kind: constant}", "data.limit=20", "data.test=0.02", "train.pictures=false")


@pytest.mark.parametrize("text", ["{}", '{"task": {"type": "worker", "index": 1}}'])
def test_a_training_without_a_cluster_leaves_its_files(
    text: str, cvpipe: Cvpipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    overrides = [word for pair in (*LINEAR, *QUICK) for word in ("--set", pair)]
    run = tmp_path / "run"
    code, _, err = cvpipe("train", DIGITS, *overrides, "--set", "augment=[]", "--run", run)
    assert code == 0, err
    assert (run / "checkpoints" / "last.npz").exists() and (run / "report.md").exists()


@pytest.mark.parametrize("job", ["evaluator", "ps"])
def test_a_process_that_doesnt_train_is_refused_before_it_starts(
    job: str, cvpipe: Cvpipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", config({"worker": TWO}, job))
    code, out, err = cvpipe("train", DIGITS, "--run", tmp_path / "run")
    assert (code, out) == (2, "") and f"TF_CONFIG: the job '{job}' is not supported" in err
    assert not (tmp_path / "run").exists()


def test_several_machines_need_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(ConfigError, match="multiworker needs a cluster; set .* TF_CONFIG"):
        make_strategy("multiworker")
