"""Guards the Makefile: variables reach the commands as they were given."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make, with a command in place of cvpipe that prints its arguments as JSON."""
    (folder / "bin").mkdir()
    for name in ("bin/python", ".installed"):
        (folder / name).touch()
    show = f"{sys.executable} -c 'import json, sys; print(json.dumps(sys.argv[1:]))'"
    return subprocess.run(
        ["make", "--silent", *arguments, f"VENV={folder}", f"CVPIPE={show}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "target, variables, commands",
    [
        ("export", ["RUN=runs/a/"], [["export", "runs/a/", "--to", "saved_models/a"]]),
        ("evaluate", ["RUN=runs/a/"], [["evaluate", "runs/a/"], ["evaluate", "saved_models/a"]]),
        (
            "train",
            ["PIPELINE=my photos/"],
            [
                ["train", "my photos/", "--run", "runs/my photos"],
                ["export", "runs/my photos", "--to", "saved_models/my photos"],
            ],
        ),
        (
            "check",
            ["PIPELINE=ann's/a.yaml", "SET=data.only=['cat'] seed=1"],
            [["data", "check", "ann's/a.yaml", "--set", "data.only=['cat']", "--set", "seed=1"]],
        ),
    ],
)
def test_paths_with_slashes_spaces_and_quotes_reach_the_commands(
    target: str, variables: list[str], commands: list[list[str]], tmp_path: Path
) -> None:
    done = make(tmp_path, target, *variables)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert [json.loads(line) for line in lines] == commands


@pytest.mark.parametrize(
    "target, variable, message",
    [
        ("train", "RUN=", "RUN is empty"),
        ("train", "PIPELINE=", "PIPELINE is empty"),
        ("export", "MODEL=", "MODEL is empty"),
        ("tpu-train", "SET=seed=1 model={norm: none}", "'none}' is not key=value"),
        (
            "train",
            "SET=seed=1 model={norm: none}",
            "'none}' is not key=value; in SET, values can't",
        ),
    ],
)
def test_empty_paths_and_values_with_blanks_are_refused(
    target: str, variable: str, message: str, tmp_path: Path
) -> None:
    done = make(tmp_path, target, variable)
    assert done.returncode == 2 and message in done.stderr and not done.stdout
