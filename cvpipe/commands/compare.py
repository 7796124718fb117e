"""`cvpipe compare`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cvpipe.commands.command import (
    add_command,
    add_data_overrides,
    add_examples,
    add_output_folder,
    aligned,
    make_output_folder,
    print_result,
)
from cvpipe.errors import ConfigError


def add(commands: Any) -> None:
    """Declare the command."""
    text = (
        "compare runs on the same images: configurations, curves, scores with intervals, a"
        " significance test"
    )
    parser = add_command(commands, "compare", compare, text)
    add_examples(parser, "cvpipe compare runs/digits runs/lenet --to digits-comparison")
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", type=Path, help="two or more, such as runs/digits"
    )
    parser.add_argument("--split", default="test", help="train, validation or test (default: test)")
    add_output_folder(parser, "comparison", "folder for comparison.html and comparison.json")
    add_data_overrides(parser)


def compare(options: argparse.Namespace) -> int:
    """Compare runs, and print a table of their scores."""
    from cvpipe.runtime import prepare_process
    from cvpipe.training.run import Run

    runs = [Run(folder) for folder in options.runs]
    if len(runs) < 2:
        raise ConfigError(f"{options.runs[0]}: give at least two runs to compare")
    prepare_process(runs[0].config)
    from cvpipe.search.compare import JSON, comparison_rows, write_comparison
    from cvpipe.search.compare import compare as compare_runs

    make_output_folder(options.to, JSON, "--to")
    result = compare_runs(runs, options.split, options.overrides)
    page = write_comparison(result, runs, options.to)
    configs = [f"{key}: {', '.join(map(str, values))}" for key, values in result["configs"].items()]
    lines = [*aligned(comparison_rows(result)), "", *configs, f"page  {page}"]
    print_result(options, {**result, "page": str(page)}, lines)
    return 0
