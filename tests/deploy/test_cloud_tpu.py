"""Guards training on a Cloud TPU: the calls of gcloud, and what happens when one fails."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT

# Scripts in place of uv and of the environment that it makes: a training of five steps that resumes
# from the run's folder, and waits after step 3 as long as there is a file "waits".
UV = """#!/bin/sh
if [ "$1" = venv ]; then
    mkdir -p .venv/bin
    printf '#!/bin/sh\\nexit 1\\n' > .venv/bin/python
    cp "$FAKE_CLOUD/bin/fake_cvpipe" .venv/bin/cvpipe
    chmod +x .venv/bin/*
fi
"""
CVPIPE = """#!/bin/bash
echo "$@" >> "$FAKE_CLOUD/cvpipe_calls"
if [ "$1" = export ]; then
    mkdir -p "$4/1" && touch "$4/1/saved_model.pb"
    exit
fi
mkdir -p "$4" && touch "$4/steps"
wc -l < "$4/steps" >> "$FAKE_CLOUD/started_at"
while [ "$(wc -l < "$4/steps")" -lt 5 ]; do
    [ "$(wc -l < "$4/steps")" -ge 3 ] && [ -e "$FAKE_CLOUD/waits" ] && sleep 0.1 && continue
    echo step >> "$4/steps"
done
echo trained
exit "$(cat "$FAKE_CLOUD/exit_code" 2>/dev/null || echo 0)"
"""


class Cloud:
    """A folder for `fake_gcloud.py`, and the commands that it recorded there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        self.plan()
        self._program("gcloud", f'#!/bin/sh\nexec {sys.executable} -I -S {FAKE} "$@"\n')
        self._program("fake_cvpipe", CVPIPE)
        self._program("fake_uv", UV)
        # on_tpu_vm.sh calls python3 to make the environment that holds uv.
        self._program(
            "python3",
            '#!/bin/sh\nmkdir -p "$3/bin"\ncp "$FAKE_CLOUD/bin/fake_uv" "$3/bin/uv"\n'
            'printf \'#!/bin/sh\\n\' > "$3/bin/pip"\nchmod +x "$3/bin/pip"\n',
        )

    def _program(self, name: str, text: str) -> None:
        file = self.folder / "bin" / name
        file.write_text(text)
        file.chmod(0o755)

    def plan(self, **plan: Any) -> None:
        (self.folder / "plan.json").write_text(json.dumps(plan))

    def make(self, word: str, **variables: str) -> subprocess.CompletedProcess[str]:
        given = {
            "TPU_ZONE": "us-west4-a",
            "TPU_BUCKET": "gs://mine/cvpipe",
            "TPU_POLL": "0.3",
            "TPU_KEEP": "0.3",
            "FAKE_CLOUD": str(self.folder),
            **variables,
        }
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", str(ROOT / "deploy" / "cloud_tpu.sh"), word],
            env={**os.environ, "PATH": path, **given},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def commands(self, verb: str) -> list[list[str]]:
        lines = (self.folder / "commands.jsonl").read_text().splitlines()
        return [words for words in map(json.loads, lines) if verb in words]

    def steps(self) -> int:
        return len((self.folder / "bucket/mine/cvpipe/runs/digits/steps").read_text().split())


FAKE = Path(__file__).with_name("fake_gcloud.py")


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path / "cloud")


def test_a_training_leaves_its_run_in_the_bucket(cloud: Cloud) -> None:
    done = cloud.make("train", SET="train.epochs=2 seed=3")
    assert done.returncode == 0, done.stderr
    assert cloud.steps() == 5
    [create] = cloud.commands("create")
    assert create[2:] == [
        *("tpu-vm", "create", "cvpipe", "--zone", "us-west4-a"),
        *("--accelerator-type", "v5litepod-1", "--version", "v2-alpha-tpuv5-lite"),
    ]
    assert (cloud.folder / "cvpipe_calls").read_text().split() == [
        *("train", "pipelines/classification/digits.yaml", "--run", "runs/digits"),
        *("--set", "train.strategy=tpu", "--set", "train.epochs=2", "--set", "seed=3"),
    ]


def test_a_preempted_training_goes_on_where_its_copy_ends(cloud: Cloud) -> None:
    cloud.plan(preempt_at=3)
    (cloud.folder / "waits").touch()
    done = cloud.make("train", TPU_SPOT="1")
    assert done.returncode == 0, done.stderr
    assert "cvpipe is PREEMPTED; the training continues from its copy" in done.stderr
    assert cloud.steps() == 5
    assert len(cloud.commands("create")) == 2 and len(cloud.commands("delete")) == 1
    assert all("--spot" in words for words in cloud.commands("create"))
    assert (cloud.folder / "started_at").read_text().split() == ["0", "3"]


@pytest.mark.parametrize("outcome, deleted", [("quota", 0), ("half", 1)])
def test_a_vm_that_could_not_be_created_leaves_nothing_that_costs_money(
    outcome: str, deleted: int, cloud: Cloud
) -> None:
    cloud.plan(create=[outcome])
    done = cloud.make("train")
    assert done.returncode == 1
    assert "could not be created (v5litepod-1 in us-west4-a)" in done.stderr
    assert len(cloud.commands("delete")) == deleted
    assert not (cloud.folder / "state").exists()


def test_a_vm_that_is_not_free_at_once_after_a_preemption_is_asked_for_again(cloud: Cloud) -> None:
    cloud.plan(create=["ok", "quota", "ok"], preempt_at=3)
    (cloud.folder / "waits").touch()
    done = cloud.make("train")
    assert done.returncode == 0, done.stderr
    assert cloud.steps() == 5 and len(cloud.commands("create")) == 3


def test_a_queued_request_is_waited_for_and_deleted_when_it_fails(cloud: Cloud) -> None:
    cloud.plan(queue=["ABSENT", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"])
    done = cloud.make("create", TPU_QUEUED="1")
    assert done.returncode == 0 and "waiting for v5litepod-1" in done.stderr
    cloud.make("delete", TPU_QUEUED="1")
    [delete] = cloud.commands("delete")
    assert delete[2:4] == ["queued-resources", "delete"] and "--force" in delete
    cloud.plan(queue=["ABSENT", "FAILED", "FAILED"])
    done = cloud.make("create", TPU_QUEUED="1")
    assert done.returncode == 1 and "the request for cvpipe is FAILED" in done.stderr
    assert len(cloud.commands("delete")) == 2


def test_a_training_that_fails_is_not_tried_again(cloud: Cloud) -> None:
    (cloud.folder / "exit_code").write_text("2")
    done = cloud.make("train")
    assert done.returncode == 1 and "ended with exit code 2; 'make tpu-logs'" in done.stderr
    assert len(cloud.commands("create")) == 1


def test_a_training_that_is_interrupted_too_often_fails(cloud: Cloud) -> None:
    (cloud.folder / "exit_code").write_text("75")
    done = cloud.make("train", TPU_RESTARTS="2")
    assert done.returncode == 1 and "was interrupted 2 times and is not finished" in done.stderr
    assert len(cloud.commands("create")) == 1


def test_an_export_is_made_on_the_vm_and_copied(cloud: Cloud, tmp_path: Path) -> None:
    assert cloud.make("train").returncode == 0
    model = ROOT / "saved_models" / "test_cloud_tpu"
    assert not model.exists()
    try:
        done = cloud.make("export", MODEL=f"saved_models/{model.name}")
        assert done.returncode == 0, done.stderr
        assert (model / "1" / "saved_model.pb").is_file()
    finally:
        subprocess.run(["rm", "-r", str(model)], check=False)


@pytest.mark.parametrize(
    "variables, message",
    [
        ({"TPU_ZONE": ""}, "TPU_ZONE is not set"),
        ({"TPU_TYPE": "v5litepod-256"}, "has several hosts or is unknown"),
        ({"TPU_BUCKET": "my-bucket"}, "is not a folder of a bucket"),
    ],
)
def test_a_wrong_variable_is_an_error_before_gcloud_is_called(
    variables: dict[str, str], message: str, cloud: Cloud
) -> None:
    done = cloud.make("train", **variables)
    assert done.returncode == 1 and message in done.stderr
    assert not (cloud.folder / "commands.jsonl").exists()


def test_a_dry_run_prints_the_commands_and_runs_none(cloud: Cloud) -> None:
    done = cloud.make("train", DRY_RUN="1", TPU_QUEUED="1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[3:5] for line in lines] == [
        ["queued-resources", "create"],
        ["tpu-vm", "scp"],
        ["tpu-vm", "ssh"],
        ["tpu-vm", "ssh"],
    ]
    assert not (cloud.folder / "commands.jsonl").exists()


def test_the_documented_dry_run_works_as_printed(cloud: Cloud) -> None:
    page = (ROOT / "docs" / "cloud_tpu.md").read_text()
    [command] = re.findall(r"^make .* DRY_RUN=1 .*$", page, re.MULTILINE)
    done = subprocess.run(command.split(), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "start digits gs://my-bucket/cvpipe" in done.stdout.replace("\\", "")


def test_every_variable_of_the_script_is_documented() -> None:
    page = (ROOT / "docs" / "cloud_tpu.md").read_text()
    script = (ROOT / "deploy" / "cloud_tpu.sh").read_text()
    for name in sorted(set(re.findall(r"\$\{(TPU_[A-Z]+)", script)) - {"TPU_POLL"}):
        assert f"| `{name}` |" in page, name
