"""Guards the notebooks: they run, show the promised pictures, and define no function or class."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import nbformat
import numpy as np
import pytest
import tensorflow as tf
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient

from conftest import ROOT, small_config
from cvpipe.data.known_splits import open_split
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.samples import read_examples
from cvpipe.data.sources import open_splits
from cvpipe.data.sources.constructors import classification_source
from cvpipe.data.stream import evaluation_batches, training_batches
from cvpipe.evaluation import evaluate, evaluate_each
from cvpipe.json_files import jsonable
from cvpipe.tasks.classification import encode
from cvpipe.training.run import Run
from cvpipe.training.train import train
from cvpipe.training.trained import load
from image_files import draw_photos
from labels import labels_of

CLASSIFICATION = ROOT / "notebooks" / "classification.ipynb"
STYLE = ROOT / "notebooks" / "style.ipynb"
EXPLAIN = ROOT / "notebooks" / "explain.ipynb"
ADVERSARIAL = ROOT / "notebooks" / "adversarial.ipynb"
CANON = ROOT / "notebooks" / "canon.ipynb"
EVERY_NOTEBOOK = pytest.mark.parametrize(
    "notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda notebook: notebook.name
)


def execute(notebook: Path, folder: Path) -> nbformat.NotebookNode:
    """Run the notebook in `folder`; return it with its outputs, or fail at the first error."""
    # Without kernel folders, "python3" is the interpreter that runs the tests, whatever kernels are
    # installed.
    kernel = AsyncKernelManager(
        kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[])
    )
    client = NotebookClient(
        nbformat.read(notebook, 4),
        km=kernel,
        timeout=120,
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        return client.execute()
    finally:
        if kernel.has_kernel:
            run_sync(kernel.shutdown_kernel)(now=True)


def without_magics(code: str) -> str:
    """Return a cell's code without lines that only IPython understands."""
    return "\n".join(line for line in code.splitlines() if not line.startswith("%"))


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def pictures(notebook: nbformat.NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def text(notebook: nbformat.NotebookNode) -> str:
    return "\n".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "")
        for output in outputs(notebook)
    )


@pytest.fixture
def photos_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a run on color photos of two easily distinguished classes. One photo is broken. Their
    path is relative to the repository's root.
    """
    draw_photos(tmp_path / "photos")
    monkeypatch.chdir(ROOT)
    source = f"data.source={{kind: folder, path: {os.path.relpath(tmp_path / 'photos')}}}"
    overrides = (
        "prepare.size=[32, 32]",
        "prepare.channels=3",
        "model.backbone=lenet5",
        "model.dropout=0",
        "augment=[{op: flip}]",
        "optimizer={kind: adam, learning_rate: 0.003}",
        "train.batch_size=8",
        "train.epochs=6",
        "train.evaluate_every=3",
        "train.ema=null",
        "data.max_bad_share=0.3",
        "seed=1",
    )
    config = small_config(source, *overrides)
    Path(open_splits(config.data)["test"].name(0)).write_bytes(b"garbage")
    train(config, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.soak
def test_the_notebook_shows_a_run_and_its_artifact(
    trained_run: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVPIPE_RUN", str(trained_run))
    monkeypatch.setenv("CVPIPE_ARTIFACT", str(artifact))
    done = execute(CLASSIFICATION, ROOT)
    # Class counts, images, augmented images, curves, answers, mistakes, confusion matrix,
    # calibration, the artifact's answers.
    assert pictures(done) == 9
    assert "the same class for 24 of 24 images" in text(done)


@pytest.mark.soak
def test_the_notebook_shows_color_photos_when_run_in_its_folder_without_an_artifact(
    photos_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVPIPE_RUN", str(photos_run))
    monkeypatch.setenv("CVPIPE_ARTIFACT", str(tmp_path / "nothing"))
    done = execute(CLASSIFICATION, CLASSIFICATION.parent)
    assert pictures(done) == 8
    # The notebook also shows a broken photo of the test split, and that there are no mistakes.
    assert ".jpg': 'not a JPEG" in text(done)
    assert "0 of 7 answers are wrong" in text(done)
    assert f"no exported model there; export the run with: cvpipe export {photos_run}" in text(done)


@pytest.mark.soak
def test_the_notebook_on_generated_images_shows_its_figures(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVPIPE_RUN", str(trained_run))
    monkeypatch.setenv("CVPIPE_FEATURES", "random")
    done = execute(STYLE, STYLE.parent)
    # Classes by both methods, channels, dreams, inversions, styles.
    assert pictures(done) == 6


@pytest.mark.soak
def test_the_notebook_on_features_shows_its_figures(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVPIPE_RUN", str(trained_run))
    monkeypatch.setenv("CVPIPE_LIMIT", "30")
    done = execute(EXPLAIN, EXPLAIN.parent)
    layers = text(done).count("patches-")
    # Filters, activations, patches, neighbors, two projections, maps, a cut-out, curves.
    assert layers > 1 and pictures(done) == 8 + layers
    assert "20 maps" in text(done)


@pytest.mark.soak
def test_the_notebook_on_attacks_shows_its_figures(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVPIPE_RUN", str(trained_run))
    monkeypatch.setenv("CVPIPE_LIMIT", "30")
    done = execute(ADVERSARIAL, ADVERSARIAL.parent)
    # FGSM, PGD, a targeted attack, DeepFool, and two curves.
    assert pictures(done) == 6


@pytest.mark.soak
def test_the_notebook_on_networks_shows_its_figures() -> None:
    done = execute(CANON, CANON.parent)
    # Two pairs of networks, speed, activations, depth, a network of cells.
    assert pictures(done) == 6
    assert "138,357,544" in text(done)


@EVERY_NOTEBOOK
def test_a_notebook_holds_no_outputs_and_defines_nothing(notebook: Path) -> None:
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    for cell in code_cells(nbformat.read(notebook, 4)):
        assert not cell.outputs and cell.execution_count is None, "clear the notebook's outputs"
        assert not [
            node
            for node in ast.walk(ast.parse(without_magics(cell.source)))
            if isinstance(node, definitions)
        ], cell.source


@EVERY_NOTEBOOK
def test_a_notebook_imports_only_names_that_exist(notebook: Path) -> None:
    for cell in code_cells(nbformat.read(notebook, 4)):
        imports = [
            statement
            for statement in ast.parse(without_magics(cell.source)).body
            if isinstance(statement, (ast.Import, ast.ImportFrom))
        ]
        exec(compile(ast.Module(imports, []), notebook.name, "exec"), {})


def test_read_examples_returns_the_images_of_training_and_evaluation() -> None:
    config = small_config()
    source = open_splits(config.data)["train"]
    # The first step that shows examples of the second epoch also shows some of the first.
    step = len(source) // config.train.batch_size
    batch = next(
        iter(training_batches(source, config, encode, None, first_step=step, last_step=step + 1))
    )
    index, left = batch["index"].numpy(), len(source) - step * config.train.batch_size
    for epoch, part in ((0, slice(0, left)), (1, slice(left, None))):
        shown = read_examples(source, index[part], config, encode, epoch)
        np.testing.assert_array_equal(shown["image"], batch["image"].numpy()[part])
        np.testing.assert_array_equal(
            shown["targets"]["label"], batch["targets"]["label"].numpy()[part]
        )
    plain = next(iter(evaluation_batches(source, config, encode, None, 8)))
    shown = read_examples(source, np.arange(8), config, encode)
    np.testing.assert_array_equal(shown["image"], plain["image"])


def test_read_examples_leaves_unreadable_images_out() -> None:
    config = small_config()
    files = [tf.io.encode_png(np.full((8, 8, 1), 9, np.uint8)).numpy(), b"garbage", b""]
    source = classification_source(
        ("a", "b"), np.array([0, 1, 1]), lambda record: {"bytes": tf.gather(files, record)}, str
    )
    for chosen, readable in (([1, 0, 2, 0], [0, 0]), ([1], []), ([], [])):
        shown = read_examples(source, np.array(chosen), config, encode, epoch=0)
        assert shown["index"].tolist() == readable
        assert shown["image"].shape == (len(readable), 16, 16, 1)


def test_every_answer_of_an_evaluation_is_kept_once_and_in_order(trained_run: Path) -> None:
    trained = load(Run(trained_run))
    test = open_split(trained.config, "test", Run(trained_run).known)
    parts = trained.predict, test, trained.task, trained.config
    scores, answers = evaluate_each(*parts, quarantine=Quarantine(test, "test", 0.0))
    # A class that is never answered has no precision: nan, which equals nothing.
    assert jsonable(scores) == jsonable(evaluate(*parts, quarantine=Quarantine(test, "test", 0.0)))
    # The last batch is padded with repeated examples, which mustn't be counted.
    assert len(test) % trained.config.train.batch_size
    np.testing.assert_array_equal(answers["index"], np.arange(len(test)))
    np.testing.assert_array_equal(answers["targets"]["label"], labels_of(test))
    assert np.mean(answers["predictions"]["class_id"] == labels_of(test)) == scores["accuracy"]
