"""What tests share: a small real pipeline, trained and exported once per session."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest  # noqa: E402

from cvpipe import config_file  # noqa: E402
from cvpipe.config import Config  # noqa: E402
from cvpipe.runtime import prepare_process  # noqa: E402

ROOT = Path(__file__).parent.parent
# The default pipeline with a network small enough to train in seconds, and everything that has a
# state: BatchNorm, momentum, dropout, averaged weights.
SMALL = (
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


def small_config(*overrides: str) -> Config:
    """The small pipeline, with overrides."""
    return config_file.load(
        ROOT / "pipelines" / "classification" / "digits.yaml", [*SMALL, *overrides]
    )


@pytest.fixture(scope="session", autouse=True)
def process() -> None:
    """The settings that a command makes before it imports TensorFlow."""
    prepare_process(small_config())


@pytest.fixture(scope="session")
def small_arguments() -> list[str]:
    """The small pipeline as arguments of `cvpipe train`."""
    pairs = [part for override in SMALL for part in ("--set", override)]
    return [str(ROOT / "pipelines" / "classification" / "digits.yaml"), *pairs]


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of the small pipeline, not to be changed."""
    from cvpipe.training.train import train

    folder = tmp_path_factory.mktemp("runs") / "digits"
    train(small_config(), folder)
    return folder


@pytest.fixture(scope="session")
def artefact(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the version exported from `trained_run`, not to be changed."""
    from cvpipe.export.export import export
    from cvpipe.training.run import Run

    return Path(
        export(Run(trained_run), tmp_path_factory.mktemp("saved_models") / "digits")["artefact"]
    )


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets beside the project; tests that need it are skipped where it is
    absent.
    """
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: the public data sets lie beside the project, not in it")
    return folder


@pytest.fixture
def mixed_bfloat16() -> Iterator[None]:
    """Layers made by the test compute in bfloat16 and keep float32 variables."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.fixture
def cvpipe(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process: arguments to (exit code, stdout, stderr)."""
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
