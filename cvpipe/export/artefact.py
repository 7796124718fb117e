"""Exported models: SavedModels that need none of our code, written and loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config_file import with_data
from cvpipe.data.prepare import input_spec
from cvpipe.data.quarantine import Quarantine
from cvpipe.errors import DataError
from cvpipe.evaluation import Predict, evaluate_bytes
from cvpipe.export.about import artefact_config, read_about
from cvpipe.export.replay import default_inputs
from cvpipe.export.signatures import bytes_signature, settings_specs, tensor_signature
from cvpipe.tasks import task_module
from cvpipe.training.train import open_split


class Artefact(NamedTuple):
    """A loaded artefact."""

    folder: Path
    config: Config
    classes: tuple[str, ...]
    answer: Callable[..., dict[str, tf.Tensor]]
    """`serving_default`: string [B], and by name other values for `task.settings`, to answers."""


def write_saved_model(
    folder: Path, models: Sequence[keras.Model], predict: Predict, config: Config
) -> None:
    """Writes the SavedModel with its two signatures to `folder`, which must not exist; `models` are
    all that `predict` asks.
    """
    archive = keras.export.ExportArchive()
    for model in models:
        archive.track(model)
    settings = task_module(config.task).settings(config)
    image_bytes = tf.TensorSpec([None], tf.string, "image_bytes")
    chosen = settings_specs(settings)
    archive.add_endpoint(
        "serving_default",
        bytes_signature(predict, config, settings),
        input_signature=[image_bytes, *chosen],
    )
    archive.add_endpoint(
        "tensor", tensor_signature(predict, settings), input_signature=[input_spec(config), *chosen]
    )
    archive.write_out(str(folder), verbose=False)


def open_artefact(folder: Path) -> Artefact:
    """Loads an artefact.

    Raises:
        DataError: it is damaged or was not exported by cvpipe.
    """
    about = read_about(folder)
    try:
        loaded = tf.saved_model.load(str(folder))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise DataError(
            f"{folder}: the SavedModel can't be loaded ({error}); export the run again"
        ) from None
    signature, defaults = (
        loaded.signatures["serving_default"],
        default_inputs(str(folder))["serving_default"],
    )

    def answer(image_bytes: tf.Tensor, **settings: tf.Tensor) -> dict[str, tf.Tensor]:
        return signature(image_bytes=image_bytes, **{**defaults, **settings})

    # The signature holds no reference to the object that owns its variables.
    answer.owner = loaded  # type: ignore[attr-defined]
    return Artefact(folder, artefact_config(folder), tuple(about["classes"]), answer)


def evaluate_artefact(folder: Path, split: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Scores an artefact, fed with raw bytes, on a split of the data it was trained on.

    Args:
        overrides: `data.key=value` each, such as where the data lies now.

    Returns:
        What `evaluation.evaluate_bytes` does, and "split".
    """
    artefact = open_artefact(folder)
    config = with_data(artefact.config, overrides)
    source = open_split(config, split, read_about(folder)["trained_on"])
    quarantine = Quarantine(source, split, config.data.max_bad_share)
    return {
        **evaluate_bytes(
            artefact.answer, source, task_module(config.task), config, quarantine=quarantine
        ),
        "split": split,
    }
