"""`cvpipe attack` on classifiers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.commands.attack_scores import scores_of
from cvpipe.commands.command import aligned, check_output_folder, make_output_folder, print_result
from cvpipe.commands.opened import Opened
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source
from cvpipe.errors import ConfigError, suggest
from cvpipe.evaluation import batches_of
from cvpipe.explain.robustness import LEARNED, Model, Plan, Point, Watch, accuracies, have_class
from cvpipe.explain.universal import Batches
from cvpipe.json_files import write_json
from cvpipe.markdown import interval_text
from cvpipe.pictures.drawing.grids import image_grid
from cvpipe.pictures.drawing.render import to_png
from cvpipe.pictures.heat import robustness_curves

MARK, EXAMPLES, JSON = "attack.png", "examples.png", "attack.json"
STRENGTHS = {"pixels": "changed pixels", "patch": "side of the patch (share of the image's)"}
_SHOWN = 6


def attack_classifiers(
    options: argparse.Namespace, opened: Sequence[Opened], source: Source
) -> int:
    """Attack each classifier, with images made for it and with images made for the others."""
    first = opened[0]
    _check_alike(opened)
    target = _target(options.label, first.facts.class_names)
    plan = Plan(options.method, options.norm, options.steps, target)
    models = [Model(scores_of(model), model.config.prepare) for model in opened]
    check_output_folder(options.to, MARK, "--to")
    quarantine = Quarantine(source, options.split, first.config.data.max_bad_share)
    assert first.task.class_labels is not None
    learn_from = _learn_from(first, options.learn) if options.method in LEARNED else ()
    watch, shown = _watch_first()
    points = accuracies(
        models,
        batches_of(source, first.task, first.config, quarantine),
        first.task.class_labels,
        plan,
        options.epsilon,
        learn_from,
        watch,
    )
    quarantine.check()
    make_output_folder(options.to, MARK, "--to")
    curves = {
        str(path): [
            (matrix[n][n].epsilon, matrix[n][n].accuracy, matrix[n][n].interval)
            for matrix in points
        ]
        for n, path in enumerate(options.sources)
    }
    strength = STRENGTHS.get(options.method, f"ε ({options.norm}, share of a pixel's range)")
    picture = robustness_curves(curves, strength, f"accuracy under {options.method}")
    (options.to / MARK).write_bytes(to_png(picture))
    examples = _draw_examples(shown[0], options.epsilon, first.facts.class_names)
    (options.to / EXAMPLES).write_bytes(examples)
    rows = [_row(matrix[0][0]) for matrix in points]
    result = {
        "run": str(first.path),
        "method": options.method,
        "norm": options.norm,
        "images": points[0][0][0].images,
        "points": rows,
        "picture": str(options.to / MARK),
        "examples": str(options.to / EXAMPLES),
    }
    columns = [column for column in ("accuracy", "target") if column in rows[0]]
    table = [["epsilon", *columns, "95 % interval of the accuracy"]]
    for row in rows:
        bounds = interval_text(row["low"], row["high"])
        table.append([f"{row['epsilon']:g}", *(f"{row[name]:.4f}" for name in columns), bounds])
    lines = [
        *aligned(table),
        f"picture   {options.to / MARK}",
        f"examples  {options.to / EXAMPLES}",
        f"scores    {options.to / JSON}",
    ]
    if len(opened) > 1:
        result["transfer"] = [
            {**_row(matrix[m][n]), "attacked": str(a), "answered": str(b)}
            for matrix in points
            for m, a in enumerate(options.sources)
            for n, b in enumerate(options.sources)
        ]
        strongest = [[f"{point.accuracy:.4f}" for point in line] for line in points[-1]]
        head = [f"attacked, epsilon {options.epsilon[-1]:g}", *map(str, options.sources)]
        named = [
            [str(path), *cells] for path, cells in zip(options.sources, strongest, strict=True)
        ]
        lines += ["", *aligned([head, *named])]
    write_json(options.to / JSON, result)
    print_result(options, result, lines)
    return 0


def _check_alike(opened: Sequence[Opened]) -> None:
    first = opened[0]
    for model in opened:
        sizes = [
            (each.config.prepare.size, each.config.prepare.channels) for each in (first, model)
        ]
        if model.facts.class_names != first.facts.class_names or sizes[0] != sizes[1]:
            raise ConfigError(
                f"{model.path}: has other classes, or images of another size, than {first.path};"
                " give models with the same classes and image size"
            )


def _target(label: str | None, names: Sequence[str]) -> int | None:
    if label is None:
        return None
    if label not in names:
        raise ConfigError(f"--class {label}: no such class; {suggest(label, names)}")
    return list(names).index(label)


def _learn_from(model: Opened, most: int) -> Batches:
    """Return batches of training images and their classes."""
    source = model.source("train").sample(most)
    quarantine = Quarantine(source, "train", model.config.data.max_bad_share)
    labels_of = model.task.class_labels
    assert labels_of is not None
    found = []
    for batch in batches_of(source, model.task, model.config, quarantine):
        labels = tf.cast(labels_of(batch["targets"]), tf.int32)
        real = np.flatnonzero(have_class(batch, labels))
        if len(real):
            found.append((tf.gather(batch["image"], real), tf.gather(labels, real)))
    return found


Shown = tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]
"""True classes of a batch, and images and answers for each strength."""


def _watch_first() -> tuple[Watch, list[Shown]]:
    """Return a callback that keeps the first batch, and the list that receives this batch."""
    kept: list[Shown] = []

    def watch(labels: np.ndarray, pixels: list[np.ndarray], answers: list[np.ndarray]) -> None:
        if not kept:
            kept.append((labels, pixels, answers))

    return watch, kept


def _draw_examples(shown: Shown, epsilons: Sequence[float], names: Sequence[str]) -> bytes:
    """Draw the first images in a row for each strength, with the answers, as a PNG file."""
    labels, pixels, answers = shown
    labels = labels[:_SHOWN]
    found = np.stack([classes[:_SHOWN] for classes in answers])
    images = np.concatenate([batch[:_SHOWN] for batch in pixels])
    titles = [
        f"ε = {epsilon:g}: {names[answer]}"
        for epsilon, classes in zip(epsilons, found, strict=True)
        for answer in classes
    ]
    right = (found == labels).ravel().tolist()
    return to_png(image_grid(images, titles, right, columns=len(labels)))


def _row(point: Point) -> dict[str, Any]:
    low, high = point.interval
    row = {"epsilon": point.epsilon, "accuracy": point.accuracy, "low": low, "high": high}
    return {**row, "target": point.hits / point.others} if point.others else row
