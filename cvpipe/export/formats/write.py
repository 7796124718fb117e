"""Writing and checking of the files for other runtimes during an export."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.train import Export
from cvpipe.data.prepare import input_spec
from cvpipe.data.sources import Source
from cvpipe.errors import ConfigError, UserError
from cvpipe.evaluation import Predict, ask
from cvpipe.export.compare import Refused, Tolerance
from cvpipe.export.formats import FOLDER
from cvpipe.export.formats.plain import plain
from cvpipe.export.formats.runtime import Runtime, Unconvertible
from cvpipe.export.fresh_process import FreshProcessError, run_script
from cvpipe.export.gate import real_images
from cvpipe.export.ranks import largest_difference
from cvpipe.tasks.task import Task

TOLERANCE = Tolerance(close=1e-4, pixels=1e-3)
"""Tolerance for other kernels, which sum in a different order."""
_REPLAY = Path(__file__).with_name("replay_file.py")


def check_formats(names: Sequence[str], task: Task, config: Config) -> None:
    """Refuse formats that can't be written, before the export begins.

    Raises:
        ConfigError: a format's library isn't installed, the network doesn't take prepared images of
            a fixed size, or only TensorFlow can run the variant.
    """
    for name in names:
        missing = [m for m in _runtime(name).modules if importlib.util.find_spec(m) is None]
        if missing:
            raise ConfigError(
                f"--format {name}: needs {' and '.join(missing)}; install it with: pip install"
                f" 'cvpipe[{name}]'"
            )
        if task.requests or not input_spec(config).shape[1:].is_fully_defined():
            raise ConfigError(
                f"--format {name}: needs a network with a fixed image size, which {config.name}"
                " does not have; omit --format"
            )
        if variant := _variant(config.export):
            raise ConfigError(
                f"--format {name}: can't be combined with {variant}, which only TensorFlow"
                " supports; export it separately"
            )


def _variant(export: Export) -> str:
    """Return the key that restricts the artifact to TensorFlow; empty if there is none."""
    if export.target != "cpu":
        return f"export.target: {export.target}"
    if export.precision in ("bfloat16", "float16"):
        return f"export.precision: {export.precision}"
    return "export.batching" if export.batching else ""


def write_formats(
    folder: Path,
    names: Sequence[str],
    predict: Predict,
    sources: Sequence[Source],
    task: Task,
    config: Config,
) -> dict[str, Any]:
    """Write the files of other formats into an artifact and check each one.

    Args:
        folder: the artifact.
        names: formats from `formats.NAMES`.
        predict: the prediction function of evaluation.
        sources: sources of the images on which answers are compared.

    Returns:
        For each format its "file" in the artifact, "batch" size, "runtime" and version, names of
        its "answers", "tolerance" and "max_difference".

    Raises:
        UserError: a runtime lacks an operation, can't run its file, or its answers differ from
            evaluation's.
    """
    if not names:
        return {}
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    _, images, _ = real_images(sources, task, config)
    expected = ask(predict, tf.constant(images))
    return {name: _written(folder, name, images, expected, task) for name in names}


def _written(
    folder: Path, name: str, images: np.ndarray, expected: dict[str, np.ndarray], task: Task
) -> dict[str, Any]:
    runtime = _runtime(name)
    file = folder / FOLDER / runtime.file
    try:
        runtime.convert(plain(folder, runtime.batch), file)
    except Unconvertible as lacking:
        raise UserError(
            f"{folder}: {runtime.title} lacks the operation {lacking}, which the model needs;"
            f" export without --format {name}"
        ) from None
    answers = _replay(name, file, images)
    return {
        "file": str(FOLDER / runtime.file),
        "batch": runtime.batch,
        "runtime": f"{runtime.package} {importlib.metadata.version(runtime.package)}",
        "answers": sorted(answers),
        "tolerance": TOLERANCE.close,
        "max_difference": _compared(runtime, expected, answers, task),
    }


def _replay(name: str, file: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    try:
        return run_script(_REPLAY, [name, str(file)], {"images": images})
    except FreshProcessError as error:
        raise UserError(
            f"{file}: refused, because {_runtime(name).title} can't load and run it in a fresh"
            f" process; export without --format {name}:\n{error}"
        ) from None


def _compared(
    runtime: Runtime, expected: dict[str, np.ndarray], actual: dict[str, np.ndarray], task: Task
) -> float:
    """Return the largest difference of all answers except strings."""
    expected = {name: value for name, value in expected.items() if value.dtype != object}
    try:
        return largest_difference(expected, actual, task.answers, TOLERANCE, runtime.title)
    except Refused as reason:
        raise UserError(f"{runtime.file}: refused, because {reason}") from None


def _runtime(name: str) -> Runtime:
    runtime: Runtime = importlib.import_module(f"cvpipe.export.formats.{name}").RUNTIME
    return runtime
