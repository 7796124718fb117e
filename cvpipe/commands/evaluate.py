"""`cvpipe evaluate`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvpipe.commands.command import (
    add_command,
    add_data_overrides,
    add_examples,
    add_snapshots,
    aligned,
    artifact_folder,
    class_lines,
    config_of,
    is_run,
    make_output_folder,
    print_result,
    score_lines,
)
from cvpipe.errors import ConfigError
from cvpipe.markdown import number
from cvpipe.runtime import prepare_process
from cvpipe.training.run import Run

if TYPE_CHECKING:
    from cvpipe.evaluation import Begin


def add(commands: Any) -> None:
    """Declare the command."""
    text = "score a run, an ensemble of runs, or an exported artifact on the encoded images"
    parser = add_command(commands, "evaluate", evaluate, text)
    add_examples(
        parser,
        "cvpipe evaluate runs/digits",
        "cvpipe evaluate saved_models/digits --split validation",
        "cvpipe evaluate runs/a runs/b",
        "cvpipe evaluate runs/digits --mistakes digits-mistakes",
        "cvpipe evaluate runs/photos --mistakes photos-mistakes --slice camera --slice weather",
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
    parser.add_argument(
        "--mistakes",
        metavar="DIR",
        type=Path,
        help=(
            "also list all images, worst first, in DIR/mistakes.csv, and draw the worst in"
            " DIR/mistakes.html, beside confused classes and scores by size and number of objects"
        ),
    )
    parser.add_argument(
        "--slice",
        action="append",
        default=[],
        metavar="COLUMN",
        dest="slices",
        help=(
            "with --mistakes: also score the images of each value of a column of the data's files,"
            " such as camera; a column with many numbers is divided into ranges; can be repeated"
        ),
    )
    parser.add_argument(
        "--drawn",
        metavar="N",
        type=int,
        default=200,
        help="number of images on the page of --mistakes (default: %(default)s)",
    )


def evaluate(options: argparse.Namespace) -> int:
    """Score a run or an artifact on a split of its data."""
    together = len(options.paths) > 1 or options.snapshots
    if options.slices and not options.mistakes:
        raise ConfigError(f"--slice {options.slices[0]}: add --mistakes DIR")
    if options.mistakes:
        if together:
            raise ConfigError("--mistakes: give one run or artifact, without --snapshots")
        if options.drawn < 0:
            raise ConfigError(f"--drawn {options.drawn}: give 0 or more")
        make_output_folder(options.mistakes, "mistakes.csv", "--mistakes")
    if together:
        result, lines = _ensemble([Run(path) for path in options.paths], options)
    else:
        result, lines = _single(options.paths[0], options)
    print_result(options, result, [*score_lines(result), *class_lines(result), *lines])
    return 0


def _single(path: Path, options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Score a run and rewrite its report, or score an artifact."""
    config = config_of(path)
    prepare_process(config)
    if is_run(path):
        result, lines = _with_mistakes(options, config.name, partial(_of_run, Run(path), options))
        return result, [f"report  {result['report'] or 'none'}", *lines]
    score = partial(_of_artifact, artifact_folder(path), options)
    result, lines = _with_mistakes(options, config.name, score)
    return result, [f"artifact  {result['artifact']}", *lines]


def _of_run(run: Run, options: argparse.Namespace, begin: Begin | None = None) -> dict[str, Any]:
    from cvpipe.training.report import score_run

    scores, report = score_run(run, options.split, options.overrides, begin)
    return {**scores, "run": str(run.folder), "report": report and str(report)}


def _of_artifact(
    folder: Path, options: argparse.Namespace, begin: Begin | None = None
) -> dict[str, Any]:
    from cvpipe.export.score import evaluate_artifact

    scores = evaluate_artifact(folder, options.split, options.overrides, begin)
    return {**scores, "artifact": str(folder)}


def _with_mistakes(
    options: argparse.Namespace, name: str, score: Callable[..., dict[str, Any]]
) -> tuple[dict[str, Any], list[str]]:
    """Evaluate by calling `score`. With --mistakes, also write the list of mistakes."""
    if not options.mistakes:
        return score(), []
    from cvpipe.evaluation import Subject, Watch
    from cvpipe.mistakes.report import Mistakes

    begun: list[Mistakes] = []

    def begin(subject: Subject) -> Watch:
        begun.append(Mistakes(subject, options.slices))
        return begun[0].watch

    result = score(begin=begin)
    title = f"{name}: mistakes on the {options.split} split"
    listed = begun[0].write(options.mistakes, title, result, options.drawn)
    summary = f"mistakes  {listed['page']}: {listed['wrong']:,} of {listed['images']:,} images"
    return {**result, "listed": listed}, [*_slice_lines(listed["slices"]), summary]


def _slice_lines(slices: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return a table of the groups of each column."""
    lines = list[str]()
    for column, groups in slices.items():
        # A value may contain anything, such as a line break.
        rows = [
            [" ".join(group["name"].split()), f"{group['images']:,}", number(group["score"])]
            for group in groups
        ]
        lines += ["", *aligned([[column, "images", "score"], *rows])]
    return [*lines, ""] if lines else []


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
