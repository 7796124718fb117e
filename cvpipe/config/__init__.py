"""The typed pipeline: every key of a pipeline file, its meaning, type and default.

Each task has its own file with a subclass of the common base, which allows only combinations that
work. Sections are frozen and strict: an unknown key or a wrong type is an error. `config_file`
reads files and overrides, and `config_errors` turns errors into sentences. TensorFlow is not
imported here, so a mistake in a pipeline is reported at once.

To add a task: write its class in a file of this folder, and add it to `Pipeline`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cvpipe.config.anomaly import Anomaly
from cvpipe.config.classification import Classification
from cvpipe.config.detection import Detection
from cvpipe.config.localization import Localization
from cvpipe.config.pipeline import Config
from cvpipe.config.pose import Pose
from cvpipe.config.segmentation import Segmentation
from cvpipe.config.style import Style

__all__ = [
    "Anomaly",
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
    Classification | Detection | Localization | Pose | Segmentation | Anomaly | Style,
    Field(discriminator="task"),
]
