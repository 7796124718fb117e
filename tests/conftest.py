"""Fixtures that tests share: small runs and artifacts, made once for all pytest workers."""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Commands set this before they import TensorFlow. Tests need it before test modules are collected,
# so that tests and the commands they start use the same kernels on every processor.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # There is one worker per core, so more threads per worker would only wait for each other.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")

import pytest
from filelock import FileLock

from cvpipe import config_file
from cvpipe.config import Config
from cvpipe.runtime import prepare_process
from cvpipe.user_paths import data_folder

pytest_plugins = ["budget"]
Once = Callable[[str, Callable[[Path], Any]], Path]
FindData = Callable[[str], Path]

ROOT = Path(__file__).parent.parent
DIGITS = ROOT / "pipelines" / "classification" / "digits.yaml"
# The default pipeline with a network that trains in seconds, and with everything that has state:
# BatchNorm, momentum, dropout, averaged weights.
SMALL = (
    "model.backbone=resnet8",
    "prepare.size=[16, 16]",
    "model.width=0.25",
    "model.dropout=0.1",
    "train.ema=0.9",
    "train.epochs=2",
    "train.batch_size=32",
    "data.validation=0.1",
    "train.pictures=false",
    "schedule.warmup_epochs=0.5",
)


def soaked(*values: Any) -> list[Any]:
    """Mark parameters to be tested by `make soak` only, because other parameters test the same in
    less time.
    """
    return [pytest.param(value, marks=pytest.mark.soak) for value in values]


def small_config(*overrides: str) -> Config:
    """Return the small pipeline, with overrides."""
    return config_file.load(DIGITS, [*SMALL, *overrides])


@pytest.fixture(scope="session", autouse=True)
def process() -> None:
    """Apply the settings that commands apply before they import TensorFlow."""
    prepare_process(small_config())
    if "PYTEST_XDIST_WORKER" in os.environ:
        importlib.import_module("cvpipe.training.train")
        # Objects of TensorFlow's modules live until the end. Garbage collection would look through
        # them again and again, which takes a twelfth of the time of a small training.
        gc.freeze()


@pytest.fixture(scope="session")
def small_arguments() -> list[str]:
    """Return the small pipeline as arguments of `cvpipe train`."""
    pairs = [part for override in SMALL for part in ("--set", override)]
    return [str(DIGITS), *pairs]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Make a folder once for all workers: `once(name, make)` returns the path that `make` filled.

    The first worker that calls it makes the folder, while others wait. Tests must not change it.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"

    def made(name: str, make: Callable[[Path], Any]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def trained_run(once: Once) -> Path:
    """Train the small pipeline; return its run folder."""
    from cvpipe.training.train import train

    return once("runs/digits", lambda folder: train(small_config(), folder))


@pytest.fixture
def run_copy(trained_run: Path, tmp_path: Path) -> Path:
    """Return a copy of `trained_run` for tests that evaluate it: evaluation writes a report."""
    return Path(shutil.copytree(trained_run, tmp_path / "digits"))


@pytest.fixture(scope="session")
def artifact(trained_run: Path, once: Once) -> Path:
    """Export `trained_run`; return the folder of the exported version."""
    from cvpipe.export.export import export
    from cvpipe.training.run import Run

    return once("saved_models/digits", lambda folder: export(Run(trained_run), folder)) / "1"


@pytest.fixture
def swap_copy(tmp_path: Path) -> Callable[[Path], Path]:
    """Return a function that copies a run and swaps the recorded training and validation images, as
    if the copy were another fold of a cross-validation.
    """

    def swap(run: Path) -> Path:
        other = Path(shutil.copytree(run, tmp_path / "swapped"))
        known = json.loads((other / "run.json").read_text())
        for key in ("images", "digests"):
            own = known[key]
            own["train"], own["validation"] = own["validation"], own["train"]
        (other / "run.json").write_text(json.dumps(known))
        return other

    return swap


@functools.cache
def opened(artifact: Path) -> Any:
    """Open an artifact once for all tests of this process, since loading is slow."""
    from cvpipe.export.artifact import open_artifact

    return open_artifact(artifact)


@pytest.fixture
def gate_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replay artifacts in the test's process, which saves the start of TensorFlow."""
    from cvpipe.export import gate
    from cvpipe.export.replay import replay

    monkeypatch.setattr(gate, "_replay", lambda folder, requests: replay(str(folder), requests))


@pytest.fixture(params=["in this process", *soaked("in a new process")])
def gate_in_either_process(request: pytest.FixtureRequest) -> None:
    """Replay artifacts in the test's process, and in `make soak` also in a new process."""
    if request.param == "in this process":
        request.getfixturevalue("gate_in_this_process")


@pytest.fixture(scope="session")
def public_data() -> FindData:
    """Return a function from a public data set's name to its folder or archive.

    It skips the test if the data set is absent.
    """

    def find(name: str) -> Path:
        place = ROOT / data_folder() / name
        found = next((path for path in (place, Path(f"{place}.zip")) if path.exists()), None)
        if found is None:
            pytest.skip(f"{place} is absent; `cvpipe data fetch` lists what can be fetched")
        return found

    return find


@pytest.fixture
def mixed_bfloat16() -> Iterator[None]:
    """Make layers compute in bfloat16, with float32 variables."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.fixture
def cvpipe(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command in this process and returns exit code, stdout,
    stderr.
    """
    from cvpipe.cli import main

    def run(*arguments: Any) -> tuple[int, str, str]:
        words: Sequence[str] = [str(argument) for argument in arguments]
        try:
            code = main(words)
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
