"""`cvpipe preflight`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cvpipe.commands.command import add_command, add_examples, add_pipeline, aligned, print_result
from cvpipe.console import print_message
from cvpipe.errors import ConfigError


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "preflight",
        preflight,
        "check a pipeline for a TPU or GPU without having one: compilation, memory and an upper"
        " bound of the speed",
    )
    add_examples(
        parser,
        "cvpipe preflight pipelines/classification/digits.yaml --target v5e-4 --largest-batch",
    )
    add_pipeline(parser)
    parser.add_argument(
        "--target", required=True, help="such as v5e-1, v5e-4, v5p-8, v6e-8 or gpu:h100"
    )
    parser.add_argument(
        "--what",
        default="train,serve",
        metavar="PARTS",
        help="train: the whole training step; serve: the artifact's signature `tensor` (default:"
        " %(default)s)",
    )
    parser.add_argument(
        "--largest-batch",
        action="store_true",
        help="also find the largest batch that fits; compiles three times or more",
    )
    parser.add_argument(
        "--save",
        metavar="DIR",
        type=Path,
        help=(
            "folder that keeps StableHLO, executables and their costs; existing executables are"
            " reused"
        ),
    )


def preflight(options: argparse.Namespace) -> int:
    """Check a pipeline; return 1 if it doesn't compile or fit."""
    from cvpipe import config_file
    from cvpipe.preflight.targets import find_target
    from cvpipe.runtime import prepare_process

    target = find_target(options.target)
    what = options.what.split(",")
    if unknown := [part for part in what if part not in ("train", "serve")]:
        raise ConfigError(f"--what {unknown[0]}: give train, serve, or train,serve")
    config = config_file.load(options.pipeline, options.overrides)
    prepare_process(config)
    from cvpipe.preflight.preflight import preflight as check
    from cvpipe.preflight.report import advice, to_json, to_rows

    found = check(
        config, target, what, search=options.largest_batch, save=options.save, say=print_message
    )
    lines = [*aligned(to_rows(found)), *(f"- {sentence}" for sentence in advice(found))]
    print_result(options, to_json(found), lines)
    return 0 if found.ok else 1
