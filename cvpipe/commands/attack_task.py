"""`cvpipe attack` on any task with one network and one loss."""

from __future__ import annotations

import argparse
from typing import get_args

from cvpipe.commands.command import aligned, check_output_folder, make_output_folder, print_result
from cvpipe.commands.opened import Opened
from cvpipe.data.sources import Source
from cvpipe.errors import ConfigError
from cvpipe.explain.task_attack import Attacked, Method, scores_under_attack
from cvpipe.json_files import write_json
from cvpipe.markdown import interval_text
from cvpipe.mistakes.thresholds import validation_thresholds
from cvpipe.pictures.drawing.render import to_png
from cvpipe.pictures.heat import robustness_curves
from cvpipe.training.report import answering
from cvpipe.training.trained import Trained

MARK, JSON = "attack.png", "attack.json"


def attack_task(options: argparse.Namespace, model: Opened, source: Source) -> int:
    """Attack a run by its loss or another goal, and print the scores of the run."""
    methods = get_args(Method)
    loaded, is_plain = model.loaded, len(options.sources) == 1 and options.label is None
    if not isinstance(loaded, Trained) or not is_plain or options.method not in methods:
        raise ConfigError(
            f"task: {model.config.task}: attacks take one run, --method {', '.join(methods)}, and"
            " no --class"
        )
    check_output_folder(options.to, MARK, "--to")
    attacked = Attacked(
        loaded.task,
        loaded.members[0],
        loaded.predict,
        loaded.config,
        loaded.facts,
        source,
        options.split,
        validation_thresholds(answering(loaded, source), model.known, options.split),
    )
    points = scores_under_attack(
        attacked,
        options.goal,
        options.method,
        options.epsilon,
        norm=options.norm,
        steps=options.steps,
    )
    make_output_folder(options.to, MARK, "--to")
    score = loaded.task.best_by.score
    lines = {str(model.path): [(point.epsilon, point.mean, point.interval) for point in points]}
    strength = f"ε ({options.norm}, share of a pixel's range)"
    name = f"mean score of images, {options.method}, {options.goal}"
    (options.to / MARK).write_bytes(to_png(robustness_curves(lines, strength, name)))
    rows = [
        {
            "epsilon": point.epsilon,
            score: point.score,
            "mean": point.mean,
            "low": point.interval[0],
            "high": point.interval[1],
        }
        for point in points
    ]
    result = {
        "run": str(model.path),
        "method": options.method,
        "norm": options.norm,
        "goal": options.goal,
        "score": score,
        "images": points[0].images,
        "points": rows,
        "picture": str(options.to / MARK),
    }
    table = [["epsilon", score, "mean of images", "95 % interval"]]
    for row in rows:
        bounds = interval_text(row["low"], row["high"])
        table.append([f"{row['epsilon']:g}", f"{row[score]:.4f}", f"{row['mean']:.4f}", bounds])
    write_json(options.to / JSON, result)
    files = [f"picture  {options.to / MARK}", f"scores   {options.to / JSON}"]
    print_result(options, result, [*aligned(table), *files])
    return 0
