"""`cvpipe attack`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cvpipe.commands.command import (
    add_command,
    add_data_overrides,
    add_examples,
    aligned,
    own_folder,
    print_result,
)
from cvpipe.errors import ConfigError

MARK = "attack.png"


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(commands, "attack", attack, "measure a run's accuracy under attack")
    add_examples(
        parser,
        "cvpipe attack runs/digits",
        "cvpipe attack runs/digits --method fgsm --epsilon 0,0.05 --limit 500",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="such as runs/digits")
    parser.add_argument(
        "--method", choices=("fgsm", "pgd"), default="pgd", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--epsilon",
        type=_numbers,
        default=(0.0, 0.01, 0.03, 0.1),
        metavar="E,E",
        help="largest changes of a pixel, as shares of its range (default: 0,0.01,0.03,0.1)",
    )
    parser.add_argument(
        "--norm",
        choices=("linf", "l2"),
        default="linf",
        help="linf limits each pixel, l2 the norm of the whole change (default: %(default)s)",
    )
    parser.add_argument(
        "--steps", type=int, default=20, metavar="N", help="steps of pgd (default: %(default)s)"
    )
    parser.add_argument("--split", default="test", help="train, validation or test (default: test)")
    parser.add_argument("--limit", type=int, metavar="N", help="attack at most N images")
    parser.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        default=Path("attack"),
        help="folder of the picture (default: %(default)s)",
    )
    add_data_overrides(parser)


def attack(options: argparse.Namespace) -> int:
    """Attack the images of a split, and print the accuracy at each strength."""
    from cvpipe.runtime import prepare_process
    from cvpipe.training.run import Run

    if options.steps < 1 or (options.limit is not None and options.limit < 1):
        raise ConfigError("--steps, --limit: must be at least 1")
    run = Run(options.run)
    prepare_process(run.config)

    import numpy as np

    from cvpipe.data.known_splits import open_split
    from cvpipe.data.quarantine import Quarantine
    from cvpipe.evaluation import batches_of
    from cvpipe.explain.explain import check_single_map
    from cvpipe.explain.robustness import accuracies
    from cvpipe.explain.score import subject_of
    from cvpipe.pictures.drawing import to_png
    from cvpipe.pictures.heat import robustness_curve
    from cvpipe.training.trained import load

    trained = load(run, overrides=options.overrides)
    subject = subject_of(trained.task, dict(trained.members[0]))
    check_single_map(trained.config)
    labels_of = trained.task.class_labels
    if labels_of is None:
        raise ConfigError(f"task: {trained.config.task}: attacks need images with one class each")
    source = open_split(trained.config, options.split, run.known)
    if options.limit is not None and options.limit < len(source):
        source = source.subset(np.arange(options.limit))
    quarantine = Quarantine(source, options.split, trained.config.data.max_bad_share)
    batches = batches_of(source, trained.task, trained.config, quarantine)
    points = accuracies(
        subject,
        batches,
        labels_of,
        trained.config.prepare,
        options.method,
        options.epsilon,
        norm=options.norm,
        steps=options.steps,
    )
    own_folder(options.to, MARK, "--to")
    curve = robustness_curve(
        [point.epsilon for point in points],
        [point.accuracy for point in points],
        [point.interval for point in points],
        f"{options.method}, {options.norm}",
    )
    (options.to / MARK).write_bytes(to_png(curve))
    rows = [
        {"epsilon": p.epsilon, "accuracy": p.accuracy, "low": p.interval[0], "high": p.interval[1]}
        for p in points
    ]
    result = {
        "run": str(options.run),
        "method": options.method,
        "norm": options.norm,
        "images": points[0].images,
        "points": rows,
        "picture": str(options.to / MARK),
    }
    table = [
        ["epsilon", "accuracy", "95 % interval"],
        *([f"{p.epsilon:g}", f"{p.accuracy:.4f}", _range(p.interval)] for p in points),
    ]
    print_result(options, result, [*aligned(table), f"picture  {options.to / MARK}"])
    return 0


def _range(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.4f} to {interval[1]:.4f}"


def _numbers(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 <= value < float("inf") for value in values):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a list of numbers of at least 0, such as 0,0.01,0.1"
        )
    return values
