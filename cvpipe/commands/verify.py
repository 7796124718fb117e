"""`cvpipe verify`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cvpipe.commands.command import (
    add_command,
    add_data_overrides,
    add_examples,
    aligned,
    print_result,
)
from cvpipe.errors import ConfigError, UserError

# Processors round differently, which may move an example across a threshold.
TOLERANCE = 0.005


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "verify",
        verify,
        "verify a copy of an artifact: its files, its operations and, with --split, its scores",
    )
    add_examples(
        parser,
        "cvpipe verify saved_models/digits",
        "cvpipe verify saved_models/digits/1 --split test",
    )
    parser.add_argument(
        "artifact", metavar="ARTIFACT", type=Path, help="such as saved_models/digits"
    )
    parser.add_argument(
        "--split",
        help="also score the artifact on this split, and compare with the scores at export",
    )
    add_data_overrides(parser)


def verify(options: argparse.Namespace) -> int:
    """Verify an artifact, and print the result."""
    from cvpipe.export.about import find_artifact, read_about
    from cvpipe.runtime import quiet_tensorflow

    if options.overrides and not options.split:
        raise ConfigError(
            f"--set {options.overrides[0]}: data is only read for scores; add --split test"
        )
    folder = find_artifact(options.artifact)
    quiet_tensorflow()
    from cvpipe.export.manifest import check_manifest
    from cvpipe.export.operations import check_operations

    files = check_manifest(folder)
    check_operations(folder)
    result: dict[str, Any] = {"artifact": str(folder), "files": files}
    lines = [f"artifact  {folder}", f"files     {files}, as they were exported"]
    if options.split:
        scores = _measure_again(folder, read_about(folder), options)
        result["scores"] = scores
        rows = [[name, *map(_written, pair)] for name, pair in scores.items()]
        lines += ["", *aligned([["score", "at export", "now"], *rows])]
    print_result(options, result, lines)
    return 0


def _measure_again(
    folder: Path, about: dict[str, Any], options: argparse.Namespace
) -> dict[str, tuple[float | None, float | None]]:
    """Return the scores on a split, at export and now, by name; None for undefined scores."""
    from cvpipe.evaluation import numbers
    from cvpipe.export.about import artifact_config, artifact_facts
    from cvpipe.runtime import prepare_process

    if options.split not in about["measured"]:
        raise UserError(
            f"{folder}: has no scores on the {options.split} split to compare with; cvpipe evaluate"
            f" {folder} --split {options.split} measures them"
        )
    before, config = about["measured"][options.split], artifact_config(folder)
    prepare_process(config)
    from cvpipe.export.score import evaluate_artifact
    from cvpipe.json_files import jsonable
    from cvpipe.tasks import load_task

    # Stored as JSON, undefined scores such as an AP without objects are None.
    now = jsonable(numbers(evaluate_artifact(folder, options.split, options.overrides)))
    scores = {name: (before[name], now[name]) for name in before.keys() & now.keys()}
    best = load_task(config, artifact_facts(folder)).best_by.score
    was, measured = scores[best]
    if was is None or measured is None:
        is_same = was is measured
    else:
        is_same = abs(was - measured) <= TOLERANCE
    if not is_same:
        raise UserError(
            f"{folder}: {best} on the {options.split} split is {_written(measured)}, and was"
            f" {_written(was)} at export; the data, TensorFlow or the artifact changed"
        )
    return {name: scores[name] for name in sorted(scores)}


def _written(score: float | None) -> str:
    return "undefined" if score is None else f"{score:.4f}"
