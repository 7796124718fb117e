"""Guards the core: it names no task, annotation or answer, and imports only what it needs."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from conftest import ROOT
from cvpipe.data.annotations import KINDS

PACKAGE = ROOT / "cvpipe"
CORE = sorted(
    [
        *PACKAGE.glob("training/**/*.py"),
        *PACKAGE.glob("export/**/*.py"),
        *PACKAGE.glob("data/augment/**/*.py"),
        *(PACKAGE / "data" / f"{name}.py" for name in ("stream", "batching", "load", "samples")),
        PACKAGE / "evaluation.py",
    ]
)
# Augmentations that are defined for objects, or for masks.
OF_OBJECTS = ("partners.py", "zoom.py", "scale_crop.py")
TASKS = sorted(
    path.stem for path in (PACKAGE / "tasks").iterdir() if path.stem not in ("__init__", "task")
)


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Return the strings in a file's code with their lines, without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports at import time."""
    found = set()
    waiting: list[ast.AST] = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += ast.iter_child_nodes(node)
    return found


def reached(module: str) -> dict[str, set[str]]:
    """Return all modules of cvpipe that a module imports, directly or not, with the imports of
    each.
    """
    found: dict[str, set[str]] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = ROOT.joinpath(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in found or not file.exists():
            continue
        found[name] = imports(file)
        waiting += [other for other in found[name] if other.startswith("cvpipe")]
        waiting += [name.rpartition(".")[0]] if "." in name else []
    return found


def annotated() -> set[str]:
    """Return the names of all annotations in examples."""
    # "area" is left out, since crops have an area, too.
    return {name for kind in KINDS for name in kind.keys} - {"area"}


def answers() -> set[str]:
    """Return the names of all tasks' answers."""
    modules = [importlib.import_module(f"cvpipe.tasks.{task}") for task in TASKS]
    return {name for module in modules for name in module.ANSWERS}


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_names_no_task_no_annotation_and_no_answer(path: Path) -> None:
    forbidden = {*TASKS, *answers(), *annotated()}
    if path.name in OF_OBJECTS:
        forbidden -= annotated()
    named = [(line, text) for line, text in strings(path) if text in forbidden]
    assert not named
    known = imports(path)
    for task in TASKS:
        for part in ("tasks", "answers", "pictures", "config"):
            assert f"cvpipe.{part}.{task}" not in known


@pytest.mark.parametrize(
    "module, needed",
    [
        ("cvpipe.export.export", "cvpipe.tasks.task"),
        ("cvpipe.export.score", "cvpipe.evaluation"),
        ("cvpipe.export.artifact", "cvpipe.export.replay"),
        ("cvpipe.serving.server", "cvpipe.serving.models"),
    ],
)
def test_exporting_and_answering_import_no_matplotlib(module: str, needed: str) -> None:
    # Keras imports matplotlib where it is installed.
    found = reached(module)
    assert needed in found
    for name, known in found.items():
        assert not any(other.split(".")[0] == "matplotlib" for other in known), name


def test_predict_imports_few_modules(artifact: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    Image.new("L", (16, 16)).save(image)
    code = (
        "import json, sys\n"
        "from cvpipe.cli import main\n"
        f"assert main(['predict', {str(artifact)!r}, {str(image)!r}]) == 0\n"
        "print(json.dumps([name for name in sys.modules if name.split('.')[0] == 'cvpipe']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    answer, modules = map(json.loads, done.stdout.splitlines())
    assert answer["class_name"] in "0123456789"
    assert len(modules) <= 40, modules


def test_only_commands_and_training_import_the_trainer() -> None:
    for path in PACKAGE.glob("**/*.py"):
        part = path.relative_to(PACKAGE).parts[0]
        if part not in ("commands", "training"):
            assert "cvpipe.training.train" not in imports(path), path
