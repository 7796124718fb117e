"""report.md of a run: scores, curves and pictures that a person reads first."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from cvpipe.config import Config
from cvpipe.data.known_splits import open_split
from cvpipe.data.prepare import restore_pixels
from cvpipe.data.quarantine import Quarantine
from cvpipe.evaluation import evaluate, joined, numbers
from cvpipe.fields import Field, concatenate_padded
from cvpipe.pictures import Pictures, load_pictures
from cvpipe.pictures.drawing import curves
from cvpipe.tasks.task import Task
from cvpipe.training.run import Run
from cvpipe.training.trained import load

SHOWN_IMAGES = 32
# Of large images fewer are shown: each value takes one to four bytes.
SHOWN_VALUES = 50_000_000
# Images that keep their own size are padded to be shown together.
IMAGE = Field(padding=0)


class FirstExamples:
    """The first readable examples of an evaluation with their answers; `evaluate` takes `watch`."""

    def __init__(self) -> None:
        self._kept: list[dict[str, Any]] = []

    def watch(self, batch: Mapping[str, Any], predictions: Mapping[str, np.ndarray]) -> None:
        """Keep some of a batch, as long as there are few and they are small."""
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

    def draw(self, pictures: Pictures, task: Task, config: Config) -> Figure | None:
        """Draw them; None where nothing could be read."""
        if not self._kept:
            return None
        images = concatenate_padded([kept["image"] for kept in self._kept], IMAGE)
        # Of several views a person sees the first, the middle of the image.
        pixels = restore_pixels(
            tf.constant(images[:, 0] if images.ndim == 5 else images), config.prepare
        ).numpy()
        targets = joined([kept["targets"] for kept in self._kept], task.targets)
        answers = joined([kept["predictions"] for kept in self._kept], task.answers)
        return pictures.draw_answers(pixels, targets, answers)


def evaluate_run(run: Run, split: str = "test", overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Score the checkpoint of a run that would be exported, on one split, and write the report.

    Returns:
        What `evaluation.evaluate` does, and "split".
    """
    trained = load(run, run.config.export.checkpoint, overrides)
    source = open_split(trained.config, split, run.known)
    quarantine = Quarantine(source, split, trained.config.data.max_bad_share, run.quarantine_file)
    first = FirstExamples()
    scores = evaluate(
        trained.predict,
        source,
        trained.task,
        trained.config,
        quarantine=quarantine,
        watch=first.watch,
    )
    figures = {"curves": curves(run.metrics(), trained.task.best_by.score)}
    if pictures := load_pictures(trained.config, trained.facts):
        answers = first.draw(pictures, trained.task, trained.config)
        figures |= {"predictions": answers} if answers else {}
        figures |= pictures.draw_scores(scores)
    write_report(run, split, scores, figures)
    return {**scores, "split": split}


def write_report(
    run: Run, split: str, scores: Mapping[str, Any], figures: Mapping[str, Figure]
) -> None:
    """Write report.md from the scores of one split, and its pictures.

    Args:
        figures: by name, in the report's order.
    """
    folder = run.pictures(split)
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=100)
    known = run.known
    lines = [
        f"# {run.config.name}",
        "",
        (
            f"Scores on the {split} split ({known['examples'][split]} examples); training had"
            f" {known['examples']['train']}."
        ),
        "",
        *_table(
            ["score", "value"], [[name, _number(value)] for name, value in numbers(scores).items()]
        ),
        "",
        *(
            line
            for name in figures
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
        ", ".join(f"{name} {version}" for name, version in run.versions.items()),
        "",
        "```json",
        json.dumps(run.config.to_json(), indent=2),
        "```",
    ]
    run.report(split).write_text("\n".join(lines) + "\n", encoding="utf-8")


def per_class_table(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the lines of a Markdown table, one a class, from a score's "per_class"; "–" where a
    score is undefined.
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
