"""Guards shell completion: shells complete commands, options, and options of artifacts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from cvpipe.cli import COMMANDS

# Completes each line as at a user's TAB, and prints all completions of a line on one line.
BASH = """
set -eo pipefail
eval "$(cvpipe completion bash)"
name=$(complete -p cvpipe | sed 's/.*-F \\([^ ]*\\).*/\\1/')
while IFS= read -r COMP_LINE; do
    COMP_POINT=${#COMP_LINE} COMP_TYPE=9 COMP_KEY=9 COMPREPLY=()
    read -ra COMP_WORDS <<< "$COMP_LINE"
    if [[ $COMP_LINE == *' ' ]]; then COMP_WORDS+=(''); fi
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    "$name" cvpipe "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
    echo "${COMPREPLY[@]}"
done
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment with the `cvpipe` command in PATH."""
    command = tmp_path / "bin" / "cvpipe"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m cvpipe "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


def completed(lines: list[str], environment: dict[str, str]) -> list[set[str]]:
    """Return bash's completions at the end of each line."""
    done = subprocess.run(
        ["bash", "-c", BASH],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        cwd=ROOT,
    )
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_bash_completes_commands_options_and_choices(environment: dict[str, str]) -> None:
    lines = ["cvpipe ", "cvpipe train --san", "cvpipe data ch", "cvpipe predict a b --save lab"]
    commands, options, below, choices = completed(lines, environment)
    assert commands >= set(COMMANDS)
    assert options == {"--sanity", "--sanity-steps"}
    assert below == {"check"}
    assert choices == {"labelme"}


@pytest.mark.soak
def test_bash_completes_files_and_the_options_of_an_artifact(
    environment: dict[str, str], artifact: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(artifact, tmp_path / "detector"))
    about = copy / "assets.extra" / "cvpipe.json"
    text = about.read_text(encoding="utf-8")
    option = '"score_threshold": {"default": 0.3, "meaning": "lowest score"}'
    about.write_text(text.replace('"image_bytes"', f'{option}, "image_bytes"'), encoding="utf-8")
    lines = ["cvpipe train pipelines/classification/dig", f"cvpipe predict {copy} x.png --sc"]
    files, options = completed(lines, environment)
    assert "pipelines/classification/digits.yaml" in files
    assert options == {"--score-threshold"}


def test_completing_does_not_import_tensorflow(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "replies"),
        "COMP_LINE": "cvpipe evaluate --mis",
        "COMP_POINT": "21",
        "COMP_TYPE": "9",
    }
    command = [sys.executable, "-X", "importtime", "-m", "cvpipe"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=ROOT, check=True
    )
    assert (tmp_path / "replies").read_text().split() == ["--mistakes"]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    # Completion of `evaluate` imports the modules of this command only.
    assert "cvpipe.training.run" in imported and "cvpipe.prediction.images" not in imported
    assert not imported & {"tensorflow", "keras", "matplotlib"}


@pytest.mark.parametrize("shell, option", [("zsh", "-n"), ("fish", "--no-execute")])
def test_the_script_of_another_shell_names_the_command(
    shell: str, option: str, environment: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        ["cvpipe", "completion", shell],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        cwd=ROOT,
    )
    assert "cvpipe" in done.stdout and "_ARGCOMPLETE" in done.stdout
    if shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(done.stdout)
        subprocess.run([shell, option, str(script)], check=True)
