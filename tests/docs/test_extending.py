"""Guards docs/extending.md: its diffs, applied to a copy of cvpipe, train a pipeline."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

BLOCKS = re.findall(
    r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```',
    (ROOT / "docs/extending.md").read_text(encoding="utf-8"),
    re.S | re.M,
)
DIFFS = [(title, body) for kind, title, body in BLOCKS if kind == "diff"]


def lines(body: str, sign: str) -> str:
    return "".join(f"{line[1:]}\n" for line in body.splitlines() if line.startswith(sign))


@pytest.mark.parametrize("title, body", DIFFS, ids=[title for title, _ in DIFFS])
def test_a_diff_matches_one_place_in_its_file(title: str, body: str) -> None:
    text = (ROOT / title).read_text(encoding="utf-8")
    assert text.count(f"\n{lines(body, '-')}") == 1
    assert all(line[:1] in "+-" for line in body.splitlines())


@pytest.mark.soak
def test_a_pipeline_of_the_new_parts_is_trained(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "cvpipe", tmp_path / "cvpipe", ignore=shutil.ignore_patterns("__pycache__")
    )
    for kind, title, body in BLOCKS:
        if kind == "diff":
            file = tmp_path / title
            text = file.read_text(encoding="utf-8")
            file.write_text(text.replace(lines(body, "-"), lines(body, "+")), encoding="utf-8")
        elif title:
            assert not (tmp_path / title).exists()
            (tmp_path / title).write_text(body, encoding="utf-8")
        elif kind == "yaml":
            (tmp_path / "numbers.yaml").write_text(body, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("make_numbers.py")
    pipeline = ["numbers.yaml", "--set", "train.pictures=false"]
    scores = json.loads(run("-m", "cvpipe", "train", *pipeline, "--json"))
    assert scores["images"] == 12 and 0 <= scores["accuracy"] <= 1
    [network] = json.loads(run("-m", "cvpipe", "models", "tiny", "--json"))
    assert network["parameters"] == 3 * 16 * 9 + 16 + 16 * 32 * 9 + 32 + 32 * 10 + 10
