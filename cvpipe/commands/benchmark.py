"""`cvpipe benchmark`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cvpipe.commands.command import (
    add_command,
    add_data_overrides,
    add_examples,
    aligned,
    make_output_folder,
    print_result,
)
from cvpipe.commands.info import machine_facts
from cvpipe.console import print_message
from cvpipe.errors import ConfigError

ALL = "all"


def add(commands: Any) -> None:
    """Declare the command."""
    text = "measure exported artifacts: score, latency, throughput, memory and size, side by side"
    parser = add_command(commands, "benchmark", benchmark, text)
    add_examples(
        parser,
        "cvpipe benchmark saved_models/digits",
        "cvpipe benchmark saved_models/small saved_models/large --to models-compared",
        "cvpipe benchmark saved_models/photos --images photos --batch 1,64 --threads 4",
        "cvpipe benchmark saved_models/photos --evaluate --set data.source.path=/data/photos",
    )
    parser.add_argument(
        "artifacts",
        metavar="ARTIFACT",
        nargs="+",
        type=Path,
        help="such as saved_models/digits, whose newest version is measured",
    )
    parser.add_argument(
        "--batch",
        metavar="N,N",
        type=_numbers,
        default=(1, 8, 32),
        help="batch sizes (default: 1,8,32)",
    )
    parser.add_argument(
        "--threads",
        metavar="N,N",
        type=_threads,
        default=_threads(f"1,{ALL}"),
        help=f"numbers of cores to use, each measured separately (default: 1,{ALL})",
    )
    parser.add_argument(
        "--images",
        metavar="IMAGE",
        nargs="+",
        default=[],
        help=(
            "answer these images: files, folders, zip archives or patterns (default: a synthetic"
            " photo of 640 x 480 pixels)"
        ),
    )
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=float,
        default=3.0,
        help="duration of each measurement (default: %(default)s)",
    )
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="measure the scores on the data (default: the scores measured at export)",
    )
    parser.add_argument("--split", default="test", help="split of the scores (default: test)")
    add_data_overrides(parser)
    parser.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        help="also write benchmark.json, benchmark.html and benchmark.png to this folder",
    )


def _numbers(text: str) -> tuple[int, ...]:
    numbers = text.split(",")
    if not all(number.isdecimal() and int(number) for number in numbers):
        raise argparse.ArgumentTypeError(f"'{text}': give whole numbers from 1 on, such as 1,8")
    return tuple(map(int, numbers))


def _threads(text: str) -> tuple[int, ...]:
    usable = str(len(os.sched_getaffinity(0)))
    return _numbers(",".join(usable if part == ALL else part for part in text.split(",")))


def benchmark(options: argparse.Namespace) -> int:
    """Measure artifacts, and print tables."""
    from cvpipe.export.about import find_artifact
    from cvpipe.prediction.images import find_images

    folders = list(dict.fromkeys(find_artifact(path) for path in options.artifacts))
    _check(options)
    images = find_images(options.images)
    if options.to:
        make_output_folder(options.to, "benchmark.json", "--to")
    # The measuring processes share a GPU with this process. TensorFlow reads the variable at
    # import.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    machine = machine_facts()
    from cvpipe.benchmark.benchmark import benchmark as measure
    from cvpipe.benchmark.report import artifact_table, machine_line, row_table, write_report

    measured = measure(
        folders,
        options.batch,
        options.threads,
        images,
        options.seconds,
        _score(options),
        print_message,
    )
    result: dict[str, Any] = {"machine": machine, "split": options.split, **measured}
    lines = [machine_line(machine), f"images: {result['images']}", ""]
    for table in (artifact_table(result), row_table(result)):
        lines += [*aligned([table.head, *table.rows]), ""]
    if options.to:
        result["files"] = [str(file) for file in write_report(result, options.to)]
        lines += [f"wrote  {file}" for file in result["files"]]
    print_result(options, result, lines)
    return 0


def _check(options: argparse.Namespace) -> None:
    usable = len(os.sched_getaffinity(0))
    if max(options.threads) > usable:
        raise ConfigError(
            f"--threads {max(options.threads)}: only {usable} cores can be used here; give fewer,"
            f" or '{ALL}'"
        )
    if not options.seconds > 0:
        raise ConfigError(f"--seconds {options.seconds}: give more than 0")
    if options.overrides and not options.evaluate:
        raise ConfigError(
            f"--set {options.overrides[0]}: data is only read for scores; add --evaluate"
        )


def _score(options: argparse.Namespace) -> Callable[[Path], dict[str, Any]]:
    """Return a function from an artifact's folder to its scores."""
    if options.evaluate:
        from cvpipe.export.score import evaluate_artifact

        return partial(evaluate_artifact, split=options.split, overrides=options.overrides)
    from cvpipe.benchmark.benchmark import recorded_scores

    return partial(recorded_scores, split=options.split)
