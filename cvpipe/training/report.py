"""report.md of a run: scores, curves and pictures that a person reads first."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from cvpipe.config import Config
from cvpipe.data.prepare import restore_pixels
from cvpipe.drawing import curves
from cvpipe.evaluation import numbers
from cvpipe.geometry.masks import concatenate_padded
from cvpipe.training.run import Run

SHOWN_IMAGES = 32
# Of large images fewer are shown: each value takes one to four bytes.
SHOWN_VALUES = 50_000_000


class FirstExamples:
    """The first readable examples that an evaluation sees, with their answers: `watch` is what
    `evaluate` takes.
    """

    def __init__(self) -> None:
        self._kept: list[dict[str, Any]] = []

    def watch(self, batch: Mapping[str, Any], predictions: Mapping[str, np.ndarray]) -> None:
        """Keeps some of a batch, as long as there are few and they are small."""
        images = [kept["image"] for kept in self._kept]
        left = SHOWN_IMAGES - sum(map(len, images))
        shown = np.flatnonzero(batch["weight"])[:left]
        if len(shown) and sum(image.size for image in images) < SHOWN_VALUES:
            every = {
                "image": batch["image"],
                "targets": batch["targets"],
                "predictions": predictions,
            }
            self._kept.append(tf.nest.map_structure(lambda values: values[shown], every))

    def draw(self, task: ModuleType, config: Config, classes: tuple[str, ...]) -> Figure | None:
        """A picture of them; None where nothing could be read."""
        if not self._kept:
            return None
        every = tf.nest.map_structure(lambda *parts: concatenate_padded(parts), *self._kept)
        images = every["image"]
        # Of several views a person sees the first, the middle of the image.
        pixels = restore_pixels(
            tf.constant(images[:, 0] if images.ndim == 5 else images), config.prepare
        ).numpy()
        return task.draw_answers(pixels, every["targets"], every["predictions"], config, classes)


def write_report(
    run: Run, task: ModuleType, split: str, scores: Mapping[str, Any], answers: Figure | None
) -> None:
    """Writes report.md and its pictures from the run's metrics and the scores of one split."""
    predictions = {"predictions": answers} if answers else {}
    pictures = {
        "curves": curves(run.metrics(), task.BEST_BY),
        **predictions,
        **task.draw_scores(scores),
    }
    folder = run.pictures(split)
    folder.mkdir(exist_ok=True)
    for name, figure in pictures.items():
        figure.savefig(folder / f"{name}.png", dpi=100)
    facts = run.facts
    lines = [
        f"# {run.config.name}",
        "",
        (
            f"Scores on the {split} split ({facts['examples'][split]} examples); training had"
            f" {facts['examples']['train']}."
        ),
        "",
        *_table(
            ["score", "value"], [[name, _number(value)] for name, value in numbers(scores).items()]
        ),
        "",
        *(
            line
            for name in pictures
            for line in (
                f"## {_title(name)}",
                "",
                f"![{_title(name)}]({folder.name}/{name}.png)",
                "",
            )
        ),
        *(
            ["## Per class", "", *per_class_table(scores["per_class"]), ""]
            if "per_class" in scores
            else []
        ),
        "## Made with",
        "",
        ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
        "",
        "```json",
        json.dumps(run.config.to_json(), indent=2),
        "```",
    ]
    run.report(split).write_text("\n".join(lines) + "\n", encoding="utf-8")


def per_class_table(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The lines of a Markdown table, one a class, from a score's "per_class"; "–" where a score is
    undefined.
    """
    columns = list(next(iter(scores.values())))
    return _table(
        ["class", *columns],
        [[name, *(_number(own[column]) for column in columns)] for name, own in scores.items()],
    )


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(row) for row in rows)]


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _number(value: float) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4f}"
    return str(value)
