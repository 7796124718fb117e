"""TensorBoard summaries of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tensorflow as tf
from matplotlib.figure import Figure

from cvpipe.config import Config
from cvpipe.pictures.drawing import to_pixels


class Summaries:
    """Writes scalars, pictures, the graph and the configuration; writes nothing where `enabled` is
    False.
    """

    def __init__(self, folder: Path, enabled: bool = True):
        self._writer = (
            tf.summary.create_file_writer(str(folder))
            if enabled
            else tf.summary.create_noop_writer()
        )

    def scalars(self, step: int, values: dict[str, Any]) -> None:
        """One point a number, by name such as "train/loss"; what isn't a number is passed over."""
        with self._writer.as_default(step):
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    tf.summary.scalar(name, value)
        self._writer.flush()

    def figure(self, step: int, name: str, figure: Figure) -> None:
        """A matplotlib figure as an image."""
        with self._writer.as_default(step):
            tf.summary.image(name, to_pixels(figure)[tf.newaxis])

    def config(self, config: Config) -> None:
        """The whole configuration as text."""
        with self._writer.as_default(0):
            tf.summary.text("config", f"```\n{json.dumps(config.to_json(), indent=2)}\n```")

    def graph(self, function: Any, *specs: tf.TensorSpec) -> None:
        """The graph of a `tf.function` for the given inputs."""
        with self._writer.as_default(0):
            tf.summary.graph(function.get_concrete_function(*specs).graph)

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()
