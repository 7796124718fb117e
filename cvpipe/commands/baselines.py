"""`cvpipe baselines`."""

from __future__ import annotations

import argparse
from typing import Any

from cvpipe.commands.command import add_command, add_examples, add_pipeline, print_result
from cvpipe.console import print_message


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands, "baselines", baselines, "score scikit-learn's classifiers on a pipeline's images"
    )
    add_examples(parser, "cvpipe baselines pipelines/classification/digits.yaml --limit 500")
    add_pipeline(parser)
    parser.add_argument(
        "--limit", metavar="N", help="train on at most N images; short for --set data.limit=N"
    )


def baselines(options: argparse.Namespace) -> int:
    """Train and score the baselines, and print a table."""
    from cvpipe import config_file
    from cvpipe.runtime import prepare_process

    overrides = [
        *options.overrides,
        *([f"data.limit={options.limit}"] if options.limit is not None else []),
    ]
    config = config_file.load(options.pipeline, overrides)
    prepare_process(config)
    from cvpipe.baselines import baselines as score_baselines
    from cvpipe.baselines import table

    rows = []
    for row in score_baselines(config):
        rows.append(row)
        print_message(f"{row['baseline']} is done, {row['seconds']:.0f} s")
    print_result(options, rows, table(rows))
    return 0
