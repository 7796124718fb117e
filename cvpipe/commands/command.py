"""Declaration of commands and their common options, and printing of their results."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvpipe.errors import ConfigError, DataError, counted, instead_of_folder, refuse_file
from cvpipe.export.about import find_artifact
from cvpipe.json_files import jsonable

if TYPE_CHECKING:
    from cvpipe.config import Config

Run = Callable[[argparse.Namespace], int]
# Folders made by `make_output_folder`, each before its parents.
_made: list[Path] = []
# Output folders of this process without the file that marks them, and this file.
_unfinished: list[tuple[Path, str]] = []
# Number of classes listed on the console.
SHOWN_CLASSES = 20


def add_command(
    commands: Any, name: str, run: Run, text: str, as_json: bool = True
) -> argparse.ArgumentParser:
    """Declare a command. `run` takes the options and returns the exit code; `text` is the command's
    description.

    `as_json` adds the option --json; the command then prints by `print_result`.
    """
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    # The whole name, such as "data check", for messages.
    parser.set_defaults(command=run, name=parser.prog.partition(" ")[2])
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if as_json:
        parser.add_argument("--json", action="store_true", help="print only JSON on stdout")
    return parser


def add_examples(parser: argparse.ArgumentParser, *lines: str) -> None:
    """Add example command lines to the end of --help, after the epilog if there is one."""
    # The formatter that keeps the line breaks of the examples doesn't wrap the description.
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = textwrap.fill(parser.description or "", 78)
    text = "\n  ".join(["examples:", *lines])
    parser.epilog = f"{parser.epilog.rstrip()}\n\n{text}" if parser.epilog else text


def add_pipeline(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add the pipeline file, `options.pipeline`, and overrides of keys, `options.overrides`. `more`
    is appended to the help of the file.
    """
    parser.add_argument(
        "pipeline",
        metavar="PIPELINE.yaml",
        help=f"a pipeline file, such as pipelines/classification/digits.yaml{more}",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override a key of the pipeline, such as --set train.epochs=3; can be repeated",
    )


def add_data_overrides(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add overrides of a finished run's data settings, `options.overrides`. `more` is appended to
    the example in the help.
    """
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="data.KEY=VALUE",
        dest="overrides",
        help=(
            "override a key of data, if the data has moved, such as --set"
            f" data.source.path=/data/photos{more}; can be repeated"
        ),
    )


def add_snapshots(parser: argparse.ArgumentParser) -> None:
    """Add --snapshots, `options.snapshots`: use all snapshots of a run, not only its best
    checkpoint.
    """
    parser.add_argument(
        "--snapshots",
        action="store_true",
        help="use all snapshots of a run, kept by train.snapshots, instead of its best checkpoint",
    )


def add_output_folder(parser: argparse.ArgumentParser, default: str, purpose: str) -> None:
    """Add --to DIR, `options.to`. `purpose` begins its help, such as "folder of the pictures"."""
    parser.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        default=Path(default),
        help=f"{purpose} (default: %(default)s)",
    )


def is_run(path: Path) -> bool:
    """Return True if a folder holds a run, False if it may hold an artifact."""
    return (path / "config.json").exists()


def artifact_folder(path: Path) -> Path:
    """Return the folder of an artifact's version, for a command that accepts runs and artifacts.

    Raises:
        DataError: the path has neither a run nor an artifact.
    """
    try:
        return find_artifact(path)
    except DataError:
        missing = (
            "neither a run nor an exported model is there; train a run with: cvpipe train"
            " PIPELINE.yaml"
        )
        raise DataError(f"{path}: {instead_of_folder(path) or missing}") from None


def config_of(path: Path) -> Config:
    """Return the configuration of a run or of an artifact.

    Raises:
        DataError: there is neither a run nor an artifact.
    """
    if is_run(path):
        from cvpipe.training.run import Run

        return Run(path).config
    from cvpipe.export.about import artifact_config

    return artifact_config(artifact_folder(path))


def check_output_folder(folder: Path, mark: str, option: str) -> None:
    """Check that `make_output_folder` will succeed, before a long computation. The arguments and
    errors are the same.
    """
    refuse_file(folder, option)
    place = next(place for place in (folder, *folder.parents) if place.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"{place}: can't be written; choose another folder with {option}")
    marks = (folder / mark, _unfinished_mark(folder, mark))
    if folder.exists() and not any(map(Path.exists, marks)) and any(folder.iterdir()):
        raise ConfigError(
            f"{folder}: the folder is not empty and holds something else; choose another folder"
            f" with {option}"
        )


def make_output_folder(folder: Path, mark: str, option: str) -> None:
    """Make a command's output folder, or reuse one that it made before, marked by the file `mark`.

    Until the command has written `mark`, a hidden file marks the folder, so that the command can be
    repeated after an interruption.

    Args:
        option: the option that chooses the folder, for the error.

    Raises:
        ConfigError: the folder has other content, is a file, or can't be written.
    """
    check_output_folder(folder, mark, option)
    _made.extend(path for path in (folder, *folder.parents) if not path.exists())
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / mark).exists():
        _unfinished_mark(folder, mark).touch()
        _unfinished.append((folder, mark))


def _unfinished_mark(folder: Path, mark: str) -> Path:
    return folder / f".{mark}.unfinished"


def tidy_output_folders() -> None:
    """Remove the hidden marks of folders that are complete, and the output folders of a failed
    command in which it hasn't written anything.
    """
    while _unfinished:
        folder, mark = _unfinished.pop()
        hidden = _unfinished_mark(folder, mark)
        with contextlib.suppress(OSError):
            if (folder / mark).exists() or list(folder.iterdir()) == [hidden]:
                hidden.unlink()
    while _made:
        with contextlib.suppress(OSError):
            _made.pop(0).rmdir()


def print_result(options: argparse.Namespace, result: Any, lines: Sequence[str]) -> None:
    """Print the result as one JSON object, or as lines."""
    print(json.dumps(jsonable(result)) if options.json else "\n".join(lines))


def check_counts(options: argparse.Namespace, *names: str) -> None:
    """Check that options are at least 1. An omitted option is None.

    Raises:
        ConfigError: an option is below 1.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name}: must be at least 1")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Format rows of cells as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def class_lines(result: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table of scores by class; empty if the result has no such scores. The
    table has the first SHOWN_CLASSES classes; the report has all classes.
    """
    classes = result.get("per_class", {})
    if not classes:
        return []
    shown = list(classes.items())[:SHOWN_CLASSES]
    left = len(classes) - len(shown)
    more = [f"and {counted(left, 'more class', 'more classes')}"] if left else []
    head = ["class", *shown[0][1]]
    # A class name may contain line breaks.
    rows = [
        [" ".join(name.split()), *(_cell(value) for value in scores.values())]
        for name, scores in shown
    ]
    return ["", *aligned([head, *rows]), *more, ""]


def _cell(value: float) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3f}"
    return str(value)


def score_lines(result: Mapping[str, Any]) -> list[str]:
    """Return one line for each number in a result."""
    width = max(map(len, result))
    shown = {
        name: value
        for name, value in result.items()
        if isinstance(value, (int, float)) and name != "steps"
    }
    return [
        f"{name:<{width}}  {value:.4f}" if isinstance(value, float) else f"{name:<{width}}  {value}"
        for name, value in shown.items()
    ]
