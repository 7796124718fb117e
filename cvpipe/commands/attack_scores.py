"""Class scores of runs and of artifacts, which `cvpipe attack` changes by its attacks."""

from __future__ import annotations

import tensorflow as tf

from cvpipe.commands.opened import Opened
from cvpipe.errors import ConfigError
from cvpipe.explain.score import Subject, subject_of
from cvpipe.export.artifact import Artifact
from cvpipe.tasks.task import Tensors
from cvpipe.training.trained import Trained


def scores_of(opened: Opened) -> Subject:
    """Return the model's class scores, through which gradients flow.

    Raises:
        ConfigError: the task has no class scores.
    """
    if isinstance(opened.loaded, Trained):
        return subject_of(opened.task, dict(opened.loaded.members[0]))
    if opened.task.answered_scores is None:
        raise ConfigError(f"{opened.path}: only artifacts of classifiers can be attacked")
    return Subject(_Signature(opened.loaded), opened.task.answered_scores)


class _Signature:
    """An artifact's signature for prepared images, called like a network in inference mode."""

    def __init__(self, artifact: Artifact):
        # Kept alive, because the artifact holds the signature's variables.
        self._loaded = artifact.loaded
        self._answer = artifact.loaded.signatures["tensor"]

    def __call__(self, images: tf.Tensor, training: bool = False) -> Tensors:
        answers: Tensors = self._answer(image=images)
        return answers
