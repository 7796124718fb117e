"""Logging of a training run: progress line, metrics.jsonl and TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.prepare import input_spec, restore_pixels
from cvpipe.data.sources import Source
from cvpipe.data.stream import training_batches
from cvpipe.evaluation import Predict, numbers
from cvpipe.pictures import Pictures, load_pictures
from cvpipe.pictures.drawing.render import try_to_draw
from cvpipe.tasks.task import Task
from cvpipe.training.insight import Insight
from cvpipe.training.progress import Progress
from cvpipe.training.run import Run
from cvpipe.training.shown_examples import SHOWN_IMAGES, ShownExamples, draw_evaluation
from cvpipe.training.summaries import Part, Summaries


class RunLog:
    """Logs a training run. Only the chief writes files.

    Create a log only when training starts, because it creates files in the run's folder.
    """

    def __init__(
        self, config: Config, run: Run, task: Task, splits: Mapping[str, Source], progress: Progress
    ):
        self._config, self._run, self._task, self._splits = config, run, task, splits
        self._progress = progress
        self._summaries = Summaries(run.folder, run.writes)
        self._pictures = (
            load_pictures(config, splits["train"].facts)
            if config.train.pictures and run.writes
            else None
        )
        self._shown = ShownExamples(self._pictures) if self._pictures else None
        self._scores: dict[str, Any] = {}
        self._insight: Insight | None = None
        self._logged_at, self._steps = 0.0, 0
        self._sums: dict[str, float] = {}

    def note(self, text: str) -> None:
        """Print a separate line."""
        self._progress.note(text)

    def start(self, predict: Predict) -> None:
        """Before the first step, log the configuration, hyperparameters, environment, graph and
        augmented examples.
        """
        if self._run.writes:
            self._summaries.about(self._config, self._run.versions)
            scored: Part = "validation" if "validation" in self._splits else "train"
            self._summaries.hyperparameters(scored, self._config)
        if self._config.train.pictures and self._run.writes:
            self._summaries.graph(predict, input_spec(self._config))
        if self._pictures:
            draw = partial(self._draw_augmented, self._pictures)
            try_to_draw("augmented training images", draw)

    def trained(
        self,
        step: int,
        steps: int,
        losses: Mapping[str, float],
        seconds: float,
        *,
        epoch: float,
        waited: float | None = None,
        learning_rate: float | None = None,
    ) -> None:
        """Log `steps` steps.

        To keep the files small, at most one row per second is written, with the means since the
        previous row.

        Args:
            step: total number of steps done.
            steps: number of steps since the last call.
            losses: mean losses of these steps.
            seconds: duration of these steps.
            epoch: number of epochs done.
            waited: seconds spent waiting for input; None if unknown.
            learning_rate: the learning rate; None if the optimizer has none.
        """
        rate = self._progress.update(step, losses["loss"], steps, seconds, waited or 0.0)
        if waited is None:
            del rate["input_wait"]
        self._steps += steps
        self._sums = {
            name: self._sums.get(name, 0.0) + steps * value
            for name, value in {**losses, **rate}.items()
        }
        if time.monotonic() - self._logged_at >= 1:
            means = {name: total / self._steps for name, total in self._sums.items()}
            if learning_rate is not None:
                means["learning_rate"] = learning_rate
            self._run.log_metrics(
                {"step": step, "epoch": round(epoch, 3), "split": "train", **means}
            )
            self._summaries.scalars(step, "train", means)
            self._logged_at, self._steps, self._sums = time.monotonic(), 0, {}

    def watch(self, batch: Mapping[str, Any], predictions: Mapping[str, np.ndarray]) -> None:
        """Select some of the evaluated examples for pictures of their predictions."""
        if self._shown:
            self._shown.watch(batch, predictions)

    def evaluated(self, step: int, epoch: int, scores: dict[str, Any]) -> None:
        """Log the scores on the validation split."""
        self._run.log_metrics(
            {"step": step, "epoch": epoch, "split": "validation", **numbers(scores)}
        )
        self._summaries.scalars(step, "validation", scores)
        self._scores = scores

    def draw(self, step: int) -> None:
        """Log pictures of the last evaluation, if they have not been logged yet.

        Call this after saving the checkpoint.
        """
        if self._pictures and self._shown and self._scores:
            figures = draw_evaluation(
                self._pictures, self._shown, self._scores, self._task, self._config
            )
            for name, figure in figures.items():
                draw = partial(self._summaries.figure, step, "validation", name, figure)
                try_to_draw(name, draw)
            self._shown = ShownExamples(self._pictures)
        self._scores = {}

    def look_into(self, step: int, networks: Mapping[str, keras.Model]) -> None:
        """If `train.histograms` is set, log histograms of weights, gradients and activations on the
        first training batch. Works only for training on one device.
        """
        if not self._config.train.histograms or not self._run.writes:
            return
        if self._insight is None:
            for batch in self._first_batch():
                self._insight = Insight(networks, self._task, self._config, batch)
        if self._insight:
            values, norm = self._insight.look()
            self._summaries.histograms(step, values)
            self._summaries.scalars(step, "train", {"gradient_norm": norm})

    def close(self) -> None:
        """Flush and close the files."""
        self._summaries.close()

    def _draw_augmented(self, pictures: Pictures) -> None:
        for batch in self._first_batch():
            pixels = restore_pixels(batch["image"][:SHOWN_IMAGES], self._config.prepare).numpy()
            targets = {
                name: target.numpy()[:SHOWN_IMAGES] for name, target in batch["targets"].items()
            }
            figure = pictures.draw_targets(pixels, targets)
            self._summaries.figure(0, "train", "augmented training images", figure)

    def _first_batch(self) -> tf.data.Dataset:
        """Return a dataset with the first training batch. It is empty if a record of the batch
        can't be read.
        """
        return training_batches(
            self._splits["train"], self._config, self._task.encode, None, first_step=0, last_step=1
        ).ignore_errors()
