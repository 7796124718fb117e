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

METHODS = (*("fgsm", "bim", "pgd"), *("deepfool", "carlini_wagner", "pixels", "universal", "patch"))


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
            "such as runs/digits; artifacts of classifiers only; images that attack one of several"
            " are shown to all"
        ),
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="pgd",
        help=(
            "fgsm, bim and pgd are for any task, the others for classification; deepfool and"
            " carlini_wagner take the nearest image in L2, pixels changes a few pixels without"
            " gradients, universal and patch learn one change for all images"
            " (default: %(default)s)"
        ),
    )
    parser.add_argument(
        "--epsilon",
        type=numbers,
        default=(0.0, 0.01, 0.03, 0.1),
        metavar="E,E",
        help=(
            "largest changes of a pixel, as shares of its range; for pixels their number, for"
            " patch its side as a share of the image's (default: 0,0.01,0.03,0.1)"
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
    parser.add_argument(
        "--class", dest="label", metavar="NAME", help="the class that images shall be given"
    )
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
    parser.add_argument("--limit", type=int, metavar="N", help="attack at most N images")
    parser.add_argument(
        "--learn",
        type=int,
        default=1000,
        metavar="N",
        help="training images that universal and patch learn from (default: %(default)s)",
    )
    add_output_folder(parser, "attack", "folder of the pictures and of attack.json")
    add_data_overrides(parser)


def attack(options: argparse.Namespace) -> int:
    """Attack the images of a split, and print the scores at each strength."""
    from cvpipe.runtime import prepare_process

    check_counts(options, "steps", "limit", "learn")
    prepare_process(config_of(options.sources[0]))

    from cvpipe.commands.attack_classifiers import attack_classifiers
    from cvpipe.commands.attack_task import attack_task
    from cvpipe.commands.opened import open_path
    from cvpipe.explain.explain import check_single_map

    models = [open_path(path, options.overrides) for path in options.sources]
    for own in models:
        check_single_map(own.config)
    source = models[0].source(options.split).first(options.limit)
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
