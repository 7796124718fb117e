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
from cvpipe.training.run import Run

SHOWN_IMAGES = 32


def draw_batch(
    task: ModuleType, batch: Mapping[str, Any], predictions: Mapping[str, np.ndarray], config: Config, classes: tuple[str, ...]
) -> Figure:
    """The first readable images of an evaluated batch with the task's answers."""
    shown = np.flatnonzero(batch["weight"])[:SHOWN_IMAGES]
    images = batch["image"][shown]
    # Of several views a person sees the first, the middle of the image.
    pixels = restore_pixels(tf.constant(images[:, 0] if images.ndim == 5 else images), config.prepare).numpy()
    targets = {name: value[shown] for name, value in batch["targets"].items()}
    return task.draw_answers(pixels, targets, {name: value[shown] for name, value in predictions.items()}, config, classes)


def write_report(run: Run, task: ModuleType, split: str, scores: Mapping[str, Any], answers: Figure) -> None:
    """Writes report.md and its pictures from the run's metrics and the scores of one split."""
    pictures = {"curves": curves(run.metrics(), task.BEST_BY), "predictions": answers, **task.draw_scores(scores)}
    folder = run.pictures(split)
    folder.mkdir(exist_ok=True)
    for name, figure in pictures.items():
        figure.savefig(folder / f"{name}.png", dpi=100)
    facts = run.facts
    lines = [
        f"# {run.config.name}",
        "",
        f"Scores on the {split} split ({facts['examples'][split]} examples); training had {facts['examples']['train']}.",
        "",
        *_table(["score", "value"], [[name, _number(value)] for name, value in numbers(scores).items()]),
        "",
        *(line for name in pictures for line in (f"## {_title(name)}", "", f"![{_title(name)}]({folder.name}/{name}.png)", "")),
        *(["## Per class", "", *per_class_table(scores["per_class"]), ""] if "per_class" in scores else []),
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
    """The lines of a Markdown table, one a class, from a score's "per_class"; "–" where a score is undefined."""
    columns = list(next(iter(scores.values())))
    return _table(["class", *columns], [[name, *(_number(own[column]) for column in columns)] for name, own in scores.items()])


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(row) for row in rows)]


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _number(value: float) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4f}"
    return str(value)
