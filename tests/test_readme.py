"""Guards the README and docs/: their commands, pipelines, links and numbers."""

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
from cvpipe import config_file

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}


TASKS = ("classification", "detection", "segmentation")
"""Pages with a pipeline for one's own images."""


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def row_of(first: str) -> str:
    """Return the row of a table, on whatever page, that begins with these words."""
    lines = [line for text in PAGES.values() for line in text.splitlines()]
    return next(line for line in lines if line.startswith(f"| {first}"))


def script_of(text: str) -> list[str]:
    """The commands of a page and its programs in Python, in their order."""
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


def test_the_readme_asks_for_two_commands() -> None:
    # CI runs these two, and `make predict`, as they stand.
    assert blocks("sh") == ["make train\nmake test\n"]


@pytest.mark.soak
@pytest.mark.parametrize(
    "page", ["classification", "detection", "segmentation", "pipelines", "explanations"]
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


@pytest.mark.parametrize("page", sorted(PAGES))
def test_the_pipelines_of_a_page_are_pipelines(page: str, tmp_path: Path) -> None:
    pipelines = [text for text in blocks("yaml", PAGES[page]) if text.startswith("task:")]
    for text in pipelines:
        (tmp_path / "photos.yaml").write_text(text, encoding="utf-8")
        assert config_file.load(tmp_path / "photos.yaml").model.backbone == "resnet18"
    assert pipelines or page.rpartition("/")[2].removesuffix(".md") not in TASKS


@pytest.mark.parametrize(
    "page, link",
    sorted(
        {(page, link) for page in PAGES for link in re.findall(r"\]\(([\w/.-]+)\)", PAGES[page])}
    ),
)
def test_every_link_leads_somewhere(page: str, link: str) -> None:
    assert ((ROOT / page).parent / link).exists()


def test_the_page_on_serving_lists_the_metrics_that_there_are() -> None:
    from cvpipe.serving.metrics import Metrics

    told = {
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
    assert told == there


def test_the_makefile_has_every_target_that_is_promised() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    targets = (
        "help setup check train evaluate export predict serve tensorboard test soak lint"
        " format constraints bench clean image deploy-compose deploy-tfserving deploy-kubernetes"
        " deploy-kserve deploy-ray docs fuzz tpu-create tpu-train tpu-logs tpu-tensorboard"
        " tpu-export tpu-delete"
    )
    for target in targets.split():
        assert re.search(rf"^{target}\s+\S", done.stdout, re.M), target


def test_the_readme_quotes_what_was_measured() -> None:
    results = [
        json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())
        for name in ("classification", "classification_long")
    ]
    rows = {row["name"]: row["value"] for result in results for row in result["rows"]}
    for pipeline in ("digits", "fashion_mnist", "fashion_mnist_long"):
        accuracy = rows[f"{pipeline}: test accuracy"]
        line = row_of(f"[{pipeline}]")
        quoted = float(re.findall(r"([\d.]+)%", line)[0]) / 100
        assert quoted == pytest.approx(accuracy, abs=6e-4)
        head = (
            (ROOT / "pipelines/classification" / f"{pipeline}.yaml").read_text().split("task:")[0]
        )
        assert f"{accuracy:.2%} on" in head


def test_the_readme_quotes_the_benchmarks() -> None:
    def rows(name: str) -> dict[str, float]:
        return {
            row["name"]: row["value"]
            for row in json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())["rows"]
        }

    steps = {
        name.split(": ")[1]: value
        for name, value in rows("train_step").items()
        if name.startswith("resnet50")
    }
    ours = steps.pop("cvpipe")
    pytorch = max(value for name, value in steps.items() if "PyTorch" in name)
    inputs = [
        value
        for name, value in rows("input_pipeline").items()
        if name.endswith("cvpipe / best peer")
    ]
    for page in ("README.md", "docs/performance.md"):
        words = " ".join(PAGES[page].split())
        assert f"{ours / max(steps.values()):.2f} times the speed of the next best" in words
        assert f"{min(inputs):.2f} to {max(inputs):.2f} times the best peer" in words
    assert f"{ours / pytorch:.2f} times PyTorch's" in words
    detection = {
        name.split(": ")[0]: value
        for name, value in rows("detection").items()
        if name.endswith("best peer / cvpipe")
    }
    first, second, third = (detection[f"NMS, score > {score}"] for score in (0.01, 0.05, 0.3))
    assert f"own {first:.2f} times as long from a score of 0.01" in words
    assert f"({second:.2f} times from 0.05, {third:.2f} times from 0.3" in words
    assert (
        f"Model Garden {detection['matching, 20 objects']:.2f} to"
        f" {detection['matching, 100 objects']:.2f} times as long" in words
    )
    assert f"pycocotools {detection['COCO scores, 5,000 × 20']:.1f} times" in words


@pytest.mark.parametrize("data", ["digit_scenes", "bccd"])
def test_the_readme_quotes_the_detectors(data: str) -> None:
    rows = {
        row["name"]: row["value"]
        for row in json.loads((ROOT / f"benchmarks/results/{data}.json").read_text())["rows"]
    }
    for pipeline in (f"{data}_ssd", f"{data}_yolo"):
        line = row_of(f"[{pipeline}]")
        head = (ROOT / "pipelines/detection" / f"{pipeline}.yaml").read_text().split("task:")[0]
        for score in ("AP50", "AP"):
            assert f"{rows[f'{pipeline}: {score}']:.1%} |" in line
            assert f"{score} {rows[f'{pipeline}: {score}']:.1%}" in head


def test_the_readme_quotes_the_segmenters() -> None:
    def rows(name: str) -> dict[str, float]:
        return {
            row["name"]: row["value"]
            for row in json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())["rows"]
        }

    measured = {**rows("digit_scenes"), **rows("aerial")}
    for pipeline in ("digit_scenes_fcn", "aerial_fcn8s", "aerial_fcn32s"):
        line = row_of(f"[{pipeline}]")
        head = (ROOT / "pipelines/segmentation" / f"{pipeline}.yaml").read_text().split("task:")[0]
        assert (
            f"| {measured[f'{pipeline}: mean IoU']:.1%} |"
            f" {measured[f'{pipeline}: boundary IoU']:.1%} |" in line
        )
        assert f"mean iou {measured[f'{pipeline}: mean IoU']:.1%}" in head.lower()
    words, ratios = " ".join(PAGES["docs/performance.md"].split()), rows("segmentation")
    unet, fcn, counting = (
        ratios[f"{what}: ours / best peer"]
        for what in ("U-Net step", "ResNet-18 step", "mean IoU, 512 × 512 × 21")
    )
    assert (
        f"the same U-Net has {unet:.2f} times the speed" in words
        and f"FCN-32s on ResNet-18 {fcn:.2f} times Model Garden's" in words
    )
    assert f"Mean IoU is counted {counting:.1f} times as fast" in words


def test_the_readme_quotes_the_baselines() -> None:
    rows = {
        row["name"]: row["value"]
        for row in json.loads((ROOT / "benchmarks/results/baselines.json").read_text())["rows"]
    }
    measured = {
        "5 nearest neighbors, L2": "nearest neighbors, L2, k = 5",
        "nearest neighbors, L2": "nearest neighbors, L2, k = 7",
        "linear SVM": "linear SVM, C·N = 10",
        "softmax regression": "softmax regression, C·N = 100",
        "two-layer net, 256 hidden": "two-layer net, 256 hidden, alpha = 0.001",
    }
    for quoted, name in measured.items():
        line = row_of(f"{quoted} |")
        assert f"{rows[f'{name}: test accuracy']:.1%}" in line
