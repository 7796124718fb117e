"""What a training shows of itself while it runs: metrics.jsonl, TensorBoard's numbers and its
pictures.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.prepare import input_spec, restore_pixels
from cvpipe.data.sources import Source
from cvpipe.data.stream import training_batches
from cvpipe.evaluation import Predict, numbers
from cvpipe.training.report import SHOWN_IMAGES, FirstExamples
from cvpipe.training.run import Run
from cvpipe.training.summaries import Summaries


class Showing:
    """Follows a loop; does nothing in processes that don't write."""

    def __init__(self, config: Config, run: Run, task: ModuleType, splits: dict[str, Source]):
        self._config, self._run, self._task, self._splits = config, run, task, splits
        self._summaries = Summaries(run.events, run.writes)
        self._first = FirstExamples()
        self._logged_at, self._steps = 0.0, 0
        self._sums: dict[str, float] = {}

    def start(self, predict: Predict) -> None:
        """Before the first step: the configuration, the graph, and examples as augmentation leaves
        them.
        """
        self._summaries.config(self._config)
        if not (self._config.train.pictures and self._run.writes):
            return
        prepare = self._config.prepare
        self._summaries.graph(predict, input_spec(self._config))
        source = self._splits["train"]
        batch = next(iter(self._augmented(source)), None)
        if batch is not None:
            pixels = restore_pixels(batch["image"][:SHOWN_IMAGES], prepare).numpy()
            targets = {
                name: target.numpy()[:SHOWN_IMAGES] for name, target in batch["targets"].items()
            }
            self._summaries.figure(
                0,
                "augmented training images",
                self._task.draw_targets(pixels, targets, self._config, source.classes),
            )

    def trained(
        self,
        step: int,
        epoch: float,
        steps: int,
        values: dict[str, float],
        learning_rate: float | None = None,
    ) -> None:
        """After `steps` steps with these mean values; L-BFGS has no learning rate.

        At most a line a second is written, of the means since the last, so that the files of a long
        run stay small.
        """
        self._steps += steps
        self._sums = {
            name: self._sums.get(name, 0.0) + steps * value for name, value in values.items()
        }
        if time.monotonic() - self._logged_at >= 1:
            means = {name: total / self._steps for name, total in self._sums.items()}
            if learning_rate is not None:
                means["learning_rate"] = learning_rate
            self._run.log_metrics(
                {"step": step, "epoch": round(epoch, 3), "split": "train", **means}
            )
            self._summaries.scalars(step, {f"train/{name}": value for name, value in means.items()})
            self._logged_at, self._steps, self._sums = time.monotonic(), 0, {}

    def watch(self, batch: Mapping[str, Any], predictions: Mapping[str, np.ndarray]) -> None:
        """Keeps the first examples that are evaluated, to show their answers."""
        self._first.watch(batch, predictions)

    def evaluated(self, step: int, epoch: int, scores: dict[str, Any]) -> None:
        """After an evaluation on the validation split."""
        self._run.log_metrics(
            {"step": step, "epoch": epoch, "split": "validation", **numbers(scores)}
        )
        self._summaries.scalars(
            step, {f"validation/{name}": value for name, value in numbers(scores).items()}
        )
        if self._config.train.pictures and self._run.writes:
            answers = self._first.draw(self._task, self._config, self._splits["validation"].classes)
            figures = {
                **({"predictions": answers} if answers else {}),
                **self._task.draw_scores(scores),
            }
            for name, figure in figures.items():
                self._summaries.figure(step, name, figure)
        self._first = FirstExamples()

    def close(self) -> None:
        """Writes what is left."""
        self._summaries.close()

    def _augmented(self, source: Source) -> tf.data.Dataset:
        return training_batches(
            source, self._config, self._task.encode, None, first_step=0, last_step=1
        ).ignore_errors()
