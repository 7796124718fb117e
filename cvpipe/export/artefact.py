"""An exported model, loaded. Needs TensorFlow and none of the code that trains or evaluates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.errors import DataError
from cvpipe.export.about import artefact_config, artefact_facts
from cvpipe.export.replay import default_inputs


@dataclasses.dataclass(frozen=True)
class Artefact:
    """A loaded artefact; called, its signature `serving_default` answers encoded images."""

    folder: Path
    config: Config
    facts: Facts
    loaded: Any
    """The SavedModel. The signature holds no reference to it, and it owns the variables."""
    defaults: Mapping[str, tf.Tensor]
    """Inputs that may be left out."""

    def __call__(self, image_bytes: tf.Tensor, **options: tf.Tensor) -> dict[str, tf.Tensor]:
        """Answer encoded images, string [B]; `options` are other values for `Task.options`."""
        signature = self.loaded.signatures["serving_default"]
        answers: dict[str, tf.Tensor] = signature(
            image_bytes=image_bytes, **{**self.defaults, **options}
        )
        return answers


def open_artefact(folder: Path) -> Artefact:
    """Load an artefact.

    Raises:
        DataError: it is damaged or was not exported by cvpipe.
    """
    config, facts = artefact_config(folder), artefact_facts(folder)
    try:
        loaded = tf.saved_model.load(str(folder))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise DataError(
            f"{folder}: the SavedModel can't be loaded ({error}); export the run again"
        ) from None
    return Artefact(folder, config, facts, loaded, default_inputs(str(folder))["serving_default"])
