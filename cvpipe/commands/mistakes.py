"""`cvpipe mistakes`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cvpipe.commands.command import (
    add_command,
    add_data_overrides,
    add_examples,
    add_output_folder,
    make_output_folder,
    print_result,
)


def add(commands: Any) -> None:
    """Declare the command."""
    text = (
        "rank labels that are probably wrong, by the predictions of each cross-validation run for"
        " the images that it wasn't trained on"
    )
    parser = add_command(commands, "mistakes", mistakes, text)
    add_examples(
        parser,
        "cvpipe sweep photos.yaml --folds 5 --run runs/folds",
        "cvpipe mistakes runs/folds/trial-000/fold-*",
    )
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        type=Path,
        help="the runs of all folds, such as runs/folds/trial-000/fold-*",
    )
    add_output_folder(parser, "label-errors", "folder for label_errors.csv and label_errors.html")
    parser.add_argument(
        "--drawn",
        metavar="N",
        type=int,
        default=200,
        help="number of images on the page (default: %(default)s)",
    )
    add_data_overrides(parser)


def mistakes(options: argparse.Namespace) -> int:
    """Rank the labels, and print the first."""
    from cvpipe.runtime import prepare_process
    from cvpipe.training.run import Run

    runs = [Run(folder) for folder in options.runs]
    prepare_process(runs[0].config)
    from cvpipe.search.label_errors import CSV, label_errors

    make_output_folder(options.to, CSV, "--to")
    result = label_errors(runs, options.to, max(options.drawn, 0), options.overrides)
    more = result["images"] - len(result["first"])
    lines = [*result["first"], *([f"and {more:,} more"] if more else []), f"page  {result['page']}"]
    print_result(options, result, lines)
    return 0
