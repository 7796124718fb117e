"""TensorBoard summaries of a run: RUN/train and RUN/validation, with the same tags, so that
TensorBoard overlays their curves.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from tensorboard.plugins.hparams import api as hp

from cvpipe.config import Config
from cvpipe.pictures.drawing import NAMED_CLASSES
from cvpipe.pictures.drawing.render import to_cards

Part = Literal["train", "validation"]
MOST_VALUES = 1_000_000
"""Histograms of larger arrays use about this number of evenly spaced values."""
SWEEP = "hparams"
"""Folder beside the runs of a sweep, with the sweep's events for the HParams tab."""


class Summaries:
    """Writes scalars, images, histograms, the graph and texts, unless `enabled` is False."""

    def __init__(self, folder: Path, enabled: bool = True):
        self._folder, self._enabled = folder, enabled
        self._writers: dict[Part, tf.summary.SummaryWriter] = {}

    def scalars(self, step: int, part: Part, values: Mapping[str, Any]) -> None:
        """Write each number under its name, such as "loss". If there are at most NAMED_CLASSES
        classes, write their scores as "per_class/CLASS/NAME". Other values are ignored.
        """
        with self._writer(part).as_default(step):
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    tf.summary.scalar(name, value)
            classes = values.get("per_class", {})
            for label, scores in classes.items() if len(classes) <= NAMED_CLASSES else ():
                for name, value in scores.items():
                    tf.summary.scalar(f"per_class/{label}/{name}", value)
        self._writer(part).flush()

    def figure(self, step: int, part: Part, name: str, figure: Figure) -> None:
        """Write a matplotlib figure as one image, or as several images that fit TensorBoard's
        cards.
        """
        cards = to_cards(figure)
        with self._writer(part).as_default(step):
            tf.summary.image(name, cards, max_outputs=len(cards))

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Write histograms by name, such as "weights/stem/kernel"."""
        with self._writer("train").as_default(step):
            for name, own in values.items():
                tf.summary.histogram(name, own.ravel()[:: -(-own.size // MOST_VALUES) or 1])

    def about(self, config: Config, versions: Mapping[str, str]) -> None:
        """Write the configuration and the environment as text."""
        devices = [device.name for device in tf.config.list_logical_devices()]
        environment = {
            **versions,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "devices": ", ".join(devices),
        }
        rows = [f"{name} | {value}" for name, value in environment.items()]
        with self._writer("train").as_default(0):
            tf.summary.text("config", f"```\n{json.dumps(config.to_json(), indent=2)}\n```")
            tf.summary.text("environment", "\n".join(["part | version", "--- | ---", *rows]))

    def hyperparameters(self, part: Part, config: Config) -> None:
        """Write the configuration for the HParams tab, which lists it with the scores of `part`.

        The runs of a sweep are skipped, because the sweep writes the keys that it searches.
        """
        if (self._folder.parent / SWEEP).exists():
            return
        with self._writer(part).as_default(0):
            hp.hparams(dict(_flat(config.to_json())), trial_id=self._folder.name)

    def graph(self, function: Any, *specs: tf.TensorSpec) -> None:
        """Write the graph of a `tf.function` for the given inputs."""
        with self._writer("train").as_default(0):
            tf.summary.graph(function.get_concrete_function(*specs).graph)

    def close(self) -> None:
        """Flush and close the files."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, part: Part) -> tf.summary.SummaryWriter:
        """Return the writer of a part. The first call creates the part's folder."""
        if part not in self._writers:
            self._writers[part] = (
                tf.summary.create_file_writer(str(self._folder / part))
                if self._enabled
                else tf.summary.create_noop_writer()
            )
        return self._writers[part]


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, bool | float | str]]:
    """Yield the values of nested mappings by dotted keys. Lists become JSON; null is left out."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        elif value is not None:
            plain = value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
            yield f"{above}{key}", plain
