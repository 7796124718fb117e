"""`cvpipe evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cvpipe.commands.command import (
    add_command,
    add_data_overrides,
    add_examples,
    add_snapshots,
    artifact_folder,
    class_lines,
    is_run,
    print_result,
    score_lines,
)
from cvpipe.runtime import prepare_process
from cvpipe.training.run import Run


def add(commands: Any) -> None:
    """Declare the command."""
    text = "score a run, an ensemble of runs, or an exported artifact on the encoded images"
    parser = add_command(commands, "evaluate", evaluate, text)
    add_examples(
        parser,
        "cvpipe evaluate runs/digits",
        "cvpipe evaluate saved_models/digits --split validation",
        "cvpipe evaluate runs/a runs/b",
    )
    parser.add_argument(
        "paths",
        metavar="RUN|ARTIFACT",
        nargs="+",
        type=Path,
        help="such as runs/digits or saved_models/digits",
    )
    add_snapshots(parser)
    parser.add_argument("--split", default="test", help="train, validation or test (default: test)")
    add_data_overrides(parser)


def evaluate(options: argparse.Namespace) -> int:
    """Score a run or an artifact on a split of its data."""
    run = Run(options.paths[0])
    if len(options.paths) > 1 or options.snapshots:
        result, lines = _ensemble([Run(path) for path in options.paths], options)
    elif is_run(run.folder):
        result, lines = _run(run, options)
    else:
        result, lines = _artifact(options.paths[0], options)
    print_result(options, result, [*score_lines(result), *class_lines(result), *lines])
    return 0


def _run(run: Run, options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    prepare_process(run.config)
    from cvpipe.training.report import evaluate_run

    report = run.report(options.split)
    scores = evaluate_run(run, options.split, options.overrides)
    return {**scores, "run": str(run.folder), "report": str(report)}, [f"report  {report}"]


def _ensemble(runs: list[Run], options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    prepare_process(runs[0].config)
    from cvpipe.tasks import load_task
    from cvpipe.training.ensemble import evaluate_ensemble, find_members

    result = evaluate_ensemble(
        find_members(runs, options.snapshots), options.split, options.overrides
    )
    shown = load_task(runs[0].config, runs[0].facts).best_by.score
    return result, [
        f"member  {member['run']} ({member['checkpoint']})  {shown} {member[shown]:.4f}"
        for member in result["members"]
    ]


def _artifact(path: Path, options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    from cvpipe.export.about import artifact_config

    folder = artifact_folder(path)
    prepare_process(artifact_config(folder))
    from cvpipe.export.score import evaluate_artifact

    return {
        **evaluate_artifact(folder, options.split, options.overrides),
        "artifact": str(folder),
    }, [f"artifact  {folder}"]
