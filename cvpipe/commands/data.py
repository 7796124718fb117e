"""`cvpipe data check`, `cvpipe data anchors` and `cvpipe data fetch`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cvpipe.commands.command import add_command, add_pipeline, aligned, own_folder, print_result


def add(commands: Any) -> None:
    """Declares the commands about data."""
    text = "look at the data of a pipeline"
    parser = commands.add_parser("data", help=text, description=text[0].upper() + text[1:] + ".")
    checks = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="name")
    command = add_command(
        checks,
        "check",
        check,
        "read everything once: broken files, leaks between splits, sizes, classes",
    )
    add_pipeline(command)
    command.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        help="folder for the report and the contact sheet (default: NAME-check)",
    )
    command = add_command(
        checks,
        "anchors",
        anchors,
        "find the anchors of a YOLO head, [height, width] each, by k-means on the sizes of the"
        " training objects",
    )
    add_pipeline(command)
    command.add_argument(
        "--anchors", metavar="K", type=int, default=6, help="how many (default: 6)"
    )
    command = add_command(
        checks,
        "fetch",
        fetch,
        "fetch a public data set into data/, or into the folder that CVPIPE_DATA names; without a"
        " name, list the data sets",
    )
    command.add_argument("set", metavar="NAME", nargs="?", help="a data set, such as bccd")


def anchors(options: argparse.Namespace) -> int:
    """Prints the sizes that a detector's training objects resemble most, for model.head.anchors,
    which the pipeline may lack.
    """
    from cvpipe import config_file
    from cvpipe.errors import ConfigError
    from cvpipe.runtime import prepare_process

    config = config_file.load(options.pipeline, options.overrides, draft=True)
    if config.task != "detection":
        raise ConfigError(
            f"{options.pipeline}: anchors are sizes of objects, and task: {config.task} has none;"
            " give a detection pipeline"
        )
    if options.anchors < 1:
        raise ConfigError(f"--anchors {options.anchors}: give at least 1")
    prepare_process(config)
    from cvpipe.data.object_sizes import object_sizes
    from cvpipe.data.quarantine import Quarantine
    from cvpipe.data.sources import open_splits
    from cvpipe.geometry.anchors import find_anchors
    from cvpipe.tasks import load_task

    train = open_splits(config.data)["train"]
    sizes = object_sizes(
        train,
        config,
        load_task(config, train.facts).encode,
        Quarantine(train, "train", config.data.max_bad_share),
    )
    found, fit = find_anchors(sizes, options.anchors, config.seed)
    # Four digits: a pixel in ten thousand.
    rounded = [[round(float(side), 4) for side in anchor] for anchor in found]
    print_result(
        options,
        {"anchors": rounded, "mean_iou": fit, "objects": len(sizes)},
        [
            f"anchors: {rounded}",
            f"mean IoU of {len(sizes)} objects with their best anchor: {fit:.3f}",
        ],
    )
    return 0


def fetch(options: argparse.Namespace) -> int:
    """Fetches a public data set, or lists those that there are."""
    from cvpipe.data.fetch import fetch as fetch_set
    from cvpipe.data.public_sets import PUBLIC_SETS

    if options.set is None:
        sets = [{"name": name, **known.about} for name, known in PUBLIC_SETS.items()]
        rows = [[row["name"], row["size"], row["title"]] for row in sets]
        print_result(options, sets, aligned(rows))
        return 0
    place = fetch_set(options.set)
    print_result(options, {"name": options.set, "path": str(place)}, [f"{place} is ready"])
    return 0


def check(options: argparse.Namespace) -> int:
    """Checks the data of a pipeline; 1 where something in it is wrong."""
    from cvpipe import config_file
    from cvpipe.runtime import prepare_process

    config = config_file.load(options.pipeline, options.overrides, draft=True)
    prepare_process(config)
    from cvpipe.data.check import check as check_splits
    from cvpipe.data.check_report import contact_sheet, summary, write_report
    from cvpipe.data.sources import open_splits
    from cvpipe.pictures import load_pictures
    from cvpipe.tasks import load_task

    splits = open_splits(config.data)
    folder = options.to or Path(f"{config.name}-check")
    own_folder(folder, "broken.jsonl", "--to")
    result = check_splits(splits, config.prepare.channels, _progress())
    train = splits["train"]
    pictures = load_pictures(config, train.facts)
    sheet = (
        contact_sheet(train, config, load_task(config, train.facts).encode, pictures.draw_targets)
        if pictures
        else None
    )
    write_report(result, sheet, folder)
    print_result(
        options,
        {**result, "folder": str(folder)},
        [*summary(result), f"report   {folder / 'report.md'}"],
    )
    return 0 if result["clean"] else 1


def _progress() -> Callable[[int, int], None]:
    """Says every ten seconds how far it is."""
    shown_at = time.monotonic()

    def show(done: int, examples: int) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at >= 10:
            shown_at = time.monotonic()
            print(f"read {done:,} of {examples:,}", file=sys.stderr, flush=True)

    return show
