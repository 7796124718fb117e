"""`cvpipe export`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cvpipe.commands.command import (
    add_command,
    add_data_overrides,
    add_examples,
    add_snapshots,
    print_result,
)
from cvpipe.errors import ConfigError
from cvpipe.export.formats import NAMES


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands, "export", export, "export a run, or an ensemble of runs, as one SavedModel"
    )
    add_examples(
        parser,
        "cvpipe export runs/digits",
        "cvpipe export runs/digits --to saved_models/digits --format litert",
        "cvpipe export runs/objects --threshold best",
    )
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        type=Path,
        help="such as runs/digits; the predictions of several runs are averaged",
    )
    add_snapshots(parser)
    add_data_overrides(parser, ", or a key of export, such as --set 'export.png=[mask]'")
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        help=(
            "the model's folder, which gets a new version (default: saved_models/NAME, or"
            " NAME-ensemble)"
        ),
    )
    target.add_argument(
        "--keras",
        metavar="FILE",
        type=Path,
        help=(
            "write the network of one run as a .keras file instead, which keras.saving.load_model"
            " reads after import cvpipe.models.layers"
        ),
    )
    parser.add_argument(
        "--format",
        action="append",
        default=[],
        choices=NAMES,
        dest="formats",
        help=(
            "also write a file for this runtime, with the artifact's signature `tensor`, which"
            " takes prepared images; can be repeated"
        ),
    )
    parser.add_argument(
        "--threshold",
        choices=["best"],
        help=(
            "leave out answers whose score is below a threshold; each class has the threshold with"
            " its best F1 on the validation split"
        ),
    )


def export(options: argparse.Namespace) -> int:
    """Export, check the artifact, and print its folder."""
    from cvpipe.runtime import prepare_process
    from cvpipe.training.run import Run

    runs = [Run(folder) for folder in options.runs]
    prepare_process(runs[0].config)
    from cvpipe.export.export import export_members
    from cvpipe.training.ensemble import find_members

    members = find_members(runs, options.snapshots)
    if options.keras is not None:
        if options.formats or options.threshold:
            option = f"--format {options.formats[0]}" if options.formats else "--threshold best"
            raise ConfigError(f"{option}: is only for SavedModels; leave --keras out")
        return _export_keras(members, options)
    name = runs[0].config.name + ("-ensemble" if len(members) > 1 else "")
    result = export_members(
        members,
        options.to or Path("saved_models") / name,
        options.overrides,
        tuple(dict.fromkeys(options.formats)),
        best_threshold=options.threshold == "best",
    )
    checked = (
        f"checked: {result['images']} encoded images, with both loaders in a new process; largest"
        f" difference {result['max_difference']:.1e}"
    )
    files = [
        f"{name:<8}  {check['file']}, largest difference {check['max_difference']:.1e}"
        for name, check in result["formats"].items()
    ]
    if cost := result["precision"]:
        files.append(
            f"precision costs: {cost['score']} {cost['exported']:.4f}, {cost['trained']:.4f} as"
            " trained"
        )
    files += [f"threshold  {override}" for override in result["thresholds"]]
    print_result(options, result, [f"artifact  {result['artifact']}", checked, *files])
    return 0


def _export_keras(members: list[Any], options: argparse.Namespace) -> int:
    from cvpipe.export.keras_file import export_keras

    if len(members) > 1:
        raise ConfigError(
            f"--keras {options.keras}: a .keras file has one network, not {len(members)}; give one"
            " run without --snapshots, or export a SavedModel with --to"
        )
    result = export_keras(members[0], options.keras)
    lines = [f"network     {result['file']}", f"checkpoint  {result['checkpoint']}"]
    print_result(options, result, lines)
    return 0
