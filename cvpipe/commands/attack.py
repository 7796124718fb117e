"""`cvpipe attack`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cvpipe.commands.command import (
    add_command,
    add_data_overrides,
    add_examples,
    add_output_folder,
    check_counts,
    config_of,
)
from cvpipe.errors import ConfigError

METHODS = (*("fgsm", "bim", "pgd"), *("deepfool", "carlini_wagner", "pixels", "universal", "patch"))
EPSILONS, PIXELS = (0.0, 0.01, 0.03, 0.1), (0.0, 1.0, 3.0, 5.0)
"""Default strengths, and those of the method that changes single pixels."""


def add(commands: Any) -> None:
    """Declare the command."""
    text = "measure scores under attack, and how attacks on one network transfer to others"
    parser = add_command(commands, "attack", attack, text)
    add_examples(
        parser,
        "cvpipe attack runs/digits",
        "cvpipe attack runs/digits runs/digits_robust --epsilon 0,0.05,0.1",
        "cvpipe attack runs/digits --method carlini_wagner --norm l2 --class 3",
        "cvpipe attack runs/digit_scenes_ssd --goal vanish",
    )
    parser.add_argument(
        "sources",
        metavar="RUN|ARTIFACT",
        nargs="+",
        type=Path,
        help=(
            "runs, such as runs/digits, or artifacts of classifiers; each of several models also"
            " classifies the images made to attack the others"
        ),
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="pgd",
        help=(
            "fgsm, bim and pgd are for any task, the others for classification; deepfool and"
            " carlini_wagner find the smallest change in L2, pixels changes a few pixels without"
            " gradients, universal and patch learn one change for all images"
            " (default: %(default)s)"
        ),
    )
    parser.add_argument(
        "--epsilon",
        type=numbers,
        metavar="E,E",
        help=(
            "strengths of the attack: largest change of a pixel, as a share of the range of pixel"
            " values; for pixels, number of changed pixels; for patch, side of the patch as a share"
            " of the image's side (default: 0,0.01,0.03,0.1; for pixels 0,1,3,5)"
        ),
    )
    parser.add_argument(
        "--norm",
        choices=("linf", "l2"),
        default="linf",
        help="linf limits each pixel, l2 the norm of the whole change (default: %(default)s)",
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=20,
        metavar="N",
        help="steps of bim and pgd (default: %(default)s)",
    )
    parser.add_argument("--class", dest="label", metavar="NAME", help="target class of the attack")
    parser.add_argument(
        "--goal",
        default="loss",
        metavar="NAME",
        help=(
            "loss: a high loss; for detection also vanish, which hides objects, and mislabel,"
            " which changes their classes (default: %(default)s)"
        ),
    )
    parser.add_argument("--split", default="test", help="train, validation or test (default: test)")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="attack at most N images, evenly spaced"
    )
    parser.add_argument(
        "--learn",
        type=int,
        default=1000,
        metavar="N",
        help="training images that universal and patch learn from (default: %(default)s)",
    )
    add_output_folder(parser, "attack", "folder for the pictures and attack.json")
    add_data_overrides(parser)


def attack(options: argparse.Namespace) -> int:
    """Attack the images of a split, and print the scores at each strength."""
    from cvpipe.runtime import prepare_process

    check_counts(options, "steps", "limit", "learn")
    if options.epsilon is None:
        options.epsilon = PIXELS if options.method == "pixels" else EPSILONS
    if options.method == "pixels" and any(value % 1 for value in options.epsilon):
        raise ConfigError("--epsilon: pixels takes numbers of changed pixels, such as 0,1,3,5")
    if options.method == "patch" and any(value > 1 for value in options.epsilon):
        raise ConfigError("--epsilon: patch takes shares of the image's side, such as 0,0.3")
    if options.method == "deepfool" and options.label is not None:
        raise ConfigError(
            "--class: deepfool looks for the nearest image of any other class; use --method"
            " carlini_wagner for a target class"
        )
    prepare_process(config_of(options.sources[0]))

    from cvpipe.commands.attack_classifiers import attack_classifiers
    from cvpipe.commands.attack_task import attack_task
    from cvpipe.commands.opened import open_path
    from cvpipe.explain.explain import check_single_map

    models = [open_path(path, options.overrides) for path in options.sources]
    for model in models:
        check_single_map(model.config)
    source = models[0].source(options.split).sample(options.limit)
    if models[0].task.class_labels is not None and options.goal == "loss":
        return attack_classifiers(options, models, source)
    return attack_task(options, models[0], source)


def numbers(text: str) -> tuple[float, ...]:
    """Parse an option such as 0,0.01,0.1."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 <= value < float("inf") for value in values):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a list of numbers of at least 0, such as 0,0.01,0.1"
        )
    return values
