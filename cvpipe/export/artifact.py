"""An exported model, loaded. Needs TensorFlow and none of the code that trains or evaluates."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from cvpipe.data.facts import Facts
from cvpipe.errors import DataError
from cvpipe.export.about import artifact_config, artifact_facts, read_about
from cvpipe.export.manifest import check_manifest
from cvpipe.export.operations import check_operations
from cvpipe.export.replay import default_inputs

if TYPE_CHECKING:
    from cvpipe.config import Config


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A loaded artifact; called, its signature `serving_default` answers encoded images."""

    folder: Path
    task: str
    facts: Facts
    loaded: Any
    """The SavedModel. The signature holds no reference to it, and it owns the variables."""
    defaults: Mapping[str, tf.Tensor]
    """Inputs that may be left out."""

    @functools.cached_property
    def config(self) -> Config:
        """The configuration of the run that was exported."""
        return artifact_config(self.folder)

    def __call__(self, image_bytes: tf.Tensor, **options: tf.Tensor) -> dict[str, tf.Tensor]:
        """Answer encoded images, string [B]; `options` are other values for `Task.options`."""
        signature = self.loaded.signatures["serving_default"]
        answers: dict[str, tf.Tensor] = signature(
            image_bytes=image_bytes, **{**self.defaults, **options}
        )
        return answers


def open_artifact(folder: Path) -> Artifact:
    """Load an artifact after its files and its operations have been checked.

    Raises:
        DataError: it isn't as cvpipe exported it.
    """
    task, facts = read_about(folder)["config"]["task"], artifact_facts(folder)
    check_manifest(folder)
    check_operations(folder)
    try:
        loaded = tf.saved_model.load(str(folder))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise DataError(
            f"{folder}: the SavedModel can't be loaded ({error}); export the run again"
        ) from None
    return Artifact(folder, task, facts, loaded, default_inputs(str(folder))["serving_default"])
