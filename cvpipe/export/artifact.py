"""Loading of exported models. Needs TensorFlow, but no code for training or evaluation."""

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
    """A loaded artifact. A call runs the signature `serving_default` on encoded images."""

    folder: Path
    task: str
    facts: Facts
    loaded: Any
    """The SavedModel. It must be kept alive, because it owns the variables, and signatures don't
    refer to it.
    """
    defaults: Mapping[str, tf.Tensor]
    """Default values of the optional inputs."""

    @functools.cached_property
    def config(self) -> Config:
        """The configuration of the run that was exported."""
        return artifact_config(self.folder)

    def __call__(self, image_bytes: tf.Tensor, **options: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the answers for encoded images, string [B]; `options` override the defaults."""
        signature = self.loaded.signatures["serving_default"]
        answers: dict[str, tf.Tensor] = signature(
            image_bytes=image_bytes, **{**self.defaults, **options}
        )
        return answers


def open_artifact(folder: Path) -> Artifact:
    """Check the files and operations of an artifact, then load it.

    Raises:
        DataError: the artifact was changed, is damaged, or has unsafe operations.
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
