"""The typed pipeline: every key of a pipeline file, what it means and what it may be.

A pipeline is of one task, and each task has a file with a class of its own on the common base: what
doesn't go together can't be written. Sections are frozen and strict: an unknown key or a wrong type
is an error, never a guess. `config_file` reads files and overrides, and `config_errors` turns
errors into sentences. TensorFlow is not imported here, so that a wrong pipeline is reported before
it loads.

To add a task: write its class in a file of this folder, and add it to `Pipeline`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cvpipe.config.classification import Classification
from cvpipe.config.detection import Detection
from cvpipe.config.localization import Localization
from cvpipe.config.pipeline import Config
from cvpipe.config.pose import Pose
from cvpipe.config.segmentation import Segmentation
from cvpipe.config.style import Style

__all__ = [
    "Classification",
    "Config",
    "Detection",
    "Localization",
    "Pipeline",
    "Pose",
    "Segmentation",
    "Style",
]

Pipeline = Annotated[
    Classification | Detection | Localization | Pose | Segmentation | Style,
    Field(discriminator="task"),
]
