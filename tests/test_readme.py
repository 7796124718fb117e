"""Guards the README and docs/: their commands run, and their pipelines are valid."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from cvpipe import config_file

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}


OWN_IMAGES = {f"docs/{task}.md" for task in ("classification", "detection", "segmentation")}
"""Pages with a pipeline for the reader's own images."""


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def script_of(text: str) -> list[str]:
    """Return a page's commands and Python programs, in order."""
    return [
        f"{sys.executable} - <<'END'\n{code}END\n" if language == "python" else code
        for language, code in re.findall(r"```(sh|python)\n(.*?)```", text, re.S)
    ]


def run(script: list[str], project: Path) -> str:
    """Run commands in a folder; return what they print."""
    environment = {
        **os.environ,
        "PATH": f"{project / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "no_proxy": "127.0.0.1",
    }
    done = subprocess.run(
        ["bash", "-c", "set -euo pipefail\nset -m\n" + "\n".join(script)],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder like a fresh clone with the `cvpipe` command on the path."""
    for name in ("pipelines", "README.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "cvpipe"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m cvpipe "$@"\n')
    command.chmod(0o755)
    return tmp_path


def test_the_readme_begins_with_two_commands() -> None:
    # CI runs these two commands and `make predict`.
    assert blocks("sh") == ["make train\nmake test\n"]


@pytest.mark.soak
@pytest.mark.parametrize(
    "page",
    [
        *("classification", "detection", "segmentation", "pipelines", "explanations", "mistakes"),
        *("benchmark", "robustness"),
    ],
)
def test_the_commands_of_a_page_work_in_their_order(page: str, project: Path) -> None:
    stdout = run(script_of(PAGES[f"docs/{page}.md"]), project)
    if page == "classification":
        assert re.search(r"^\d 0\.\d+$", stdout, re.M), stdout
    if page in ("classification", "detection"):
        assert '"image": "pipelines/' in stdout and list((project / "drawn").glob("*.png"))


@pytest.mark.soak
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_commands_of_the_page_on_serving_work_in_their_order(project: Path) -> None:
    for name in ("Makefile", "deploy", "setup.cfg", "pyproject.toml"):
        (project / name).symlink_to(ROOT / name)
    stdout = run(script_of(PAGES["docs/serving.md"]), project)
    assert '"predictions": [{' in stdout and '"model_name": "lenet"' in stdout
    assert '"image": "README.md", "error": ' in stdout
    assert re.search(r"\[b'\d'\] \[0\.\d+\]$", stdout, re.M), stdout
    assert 'cvpipe_requests_total{code="200",model="lenet"' in stdout
    assert (project / "answer.png").read_bytes().startswith(b"\x89PNG")


# Not tested here: the pipeline in docs/extending.md uses parts that cvpipe lacks, and the pipelines
# in the reference are those of pipelines/.
@pytest.mark.parametrize(
    "page", sorted(PAGES.keys() - {"docs/extending.md", "docs/configuration.md"})
)
def test_the_pipelines_of_a_page_are_valid(page: str, tmp_path: Path) -> None:
    pipelines = [text for text in blocks("yaml", PAGES[page]) if text.startswith("task:")]
    for text in pipelines:
        (tmp_path / "photos.yaml").write_text(text, encoding="utf-8")
        network = config_file.load(tmp_path / "photos.yaml").model.backbone
        assert network == "resnet18" or page not in OWN_IMAGES
    assert pipelines or page not in OWN_IMAGES


def test_the_page_on_serving_lists_all_metrics() -> None:
    from cvpipe.serving.metrics import Metrics

    listed = {
        name: set(re.findall(r"`(\w+)`", labels))
        for name, labels in re.findall(
            r"^\| `(cvpipe_\w+)` \| (.*?) \|", PAGES["docs/serving.md"], re.M
        )
    }
    registry = vars(Metrics())
    metrics = [one for one in registry.values() if hasattr(one, "_labelnames")]
    there = {
        f"{one._name}{'_total' if one._type == 'counter' else ''}": set(one._labelnames)
        for one in metrics
    }
    assert listed == there


def test_the_makefile_has_all_documented_targets() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    targets = (
        "help setup check train evaluate export predict serve tensorboard test soak lint"
        " format data constraints bench clean image deploy-compose deploy-tfserving"
        " deploy-kubernetes deploy-kserve deploy-ray docs fuzz tpu-create tpu-train tpu-logs"
        " tpu-tensorboard tpu-export tpu-delete"
    )
    for target in targets.split():
        assert re.search(rf"^{target}\s+\S", done.stdout, re.M), target
