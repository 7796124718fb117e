"""`cvpipe corrupt`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cvpipe.commands.command import (
    add_command,
    add_data_overrides,
    add_examples,
    add_output_folder,
    aligned,
    check_counts,
    config_of,
    make_output_folder,
    print_result,
)
from cvpipe.console import print_message
from cvpipe.errors import ConfigError, unknown_value
from cvpipe.json_files import write_json
from cvpipe.markdown import interval_text

JSON, CURVES, EXAMPLE = "corruptions.json", "corruptions.png", "example.png"


def add(commands: Any) -> None:
    """Declare the command."""
    text = "measure errors of runs and artifacts on corrupted images: noise, blur, weather, JPEG"
    parser = add_command(commands, "corrupt", corrupt, text)
    add_examples(
        parser,
        "cvpipe corrupt runs/digits",
        "cvpipe corrupt runs/digits saved_models/robust --kind fog --kind snow --severity 1,5",
    )
    parser.add_argument(
        "sources",
        metavar="RUN|ARTIFACT",
        nargs="+",
        type=Path,
        help=(
            "runs or artifacts of the same task and data set; their errors are also compared with"
            " those of the first"
        ),
    )
    parser.add_argument(
        "--kind",
        action="append",
        metavar="NAME",
        help=(
            "gaussian_noise, shot_noise, impulse_noise, defocus_blur, glass_blur, motion_blur,"
            " zoom_blur, snow, frost, fog, brightness, contrast, elastic_transform, pixelate or"
            " jpeg_compression; can be repeated (default: all)"
        ),
    )
    parser.add_argument(
        "--severity",
        type=_severities,
        default=(1, 2, 3, 4, 5),
        metavar="N,N",
        help="severities from 1 to 5 (default: 1,2,3,4,5)",
    )
    parser.add_argument("--split", default="test", help="train, validation or test (default: test)")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="corrupt at most N images, evenly spaced"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="random seed (default: %(default)s)"
    )
    add_output_folder(parser, "corruptions", f"folder for {JSON}, {CURVES} and {EXAMPLE}")
    add_data_overrides(parser)


def corrupt(options: argparse.Namespace) -> int:
    """Measure errors, and write a table, curves and an example."""
    from cvpipe.runtime import prepare_process

    check_counts(options, "limit")
    if options.seed < 0:
        raise ConfigError("--seed: must be at least 0")
    config = config_of(options.sources[0])
    prepare_process(config)

    from cvpipe.commands.opened import open_path
    from cvpipe.data.facts import KnownData
    from cvpipe.data.samples import read_original
    from cvpipe.evaluation import Subject
    from cvpipe.explain.corruption import CORRUPTIONS
    from cvpipe.explain.corruption import corrupt as corrupt_image
    from cvpipe.explain.corruption_errors import check_scored, measure, summarize
    from cvpipe.mistakes.thresholds import validation_thresholds
    from cvpipe.pictures.corruption import draw_corruptions, error_curves
    from cvpipe.pictures.drawing.render import to_png

    kinds = list(dict.fromkeys(options.kind or CORRUPTIONS))
    for kind in kinds:
        if kind not in CORRUPTIONS:
            raise unknown_value("--kind", kind, CORRUPTIONS)
    check_scored(config)
    make_output_folder(options.to, JSON, "--to")
    opened = list[tuple[Path, Subject, KnownData]]()
    for path in options.sources:
        model = open_path(path, options.overrides)
        subject = model.subject(options.split)
        first = opened[0][1] if opened else subject
        if (
            subject.config.task != first.config.task
            or subject.source.digest() != first.source.digest()
        ):
            raise ConfigError(
                f"{path}: has another task or other images in the {options.split} split than"
                f" {options.sources[0]}"
            )
        opened.append((path, subject, model.known))
    measured = []
    for path, subject, known in opened:
        chosen = validation_thresholds(subject, known, options.split)
        subject = subject._replace(source=subject.source.sample(options.limit))

        def say(kind: str, path: Path = path) -> None:
            print_message(f"{path}  {kind} is done")

        measured.append(
            measure(subject, options.split, kinds, options.severity, options.seed, say, chosen)
        )
        last = subject
    rows = [
        {"source": str(path), **row}
        for path, row in zip(
            options.sources, summarize(measured, kinds, options.severity), strict=True
        )
    ]
    place = min(measured[0].clean.images)
    pixels = read_original(last.source, place, last.config.prepare.channels)
    record = int(last.source.records[place])
    drawn = {
        kind: [
            corrupt_image(pixels, kind, severity, (options.seed, record))
            for severity in options.severity
        ]
        for kind in kinds
    }
    (options.to / CURVES).write_bytes(to_png(error_curves(rows, kinds)))
    (options.to / EXAMPLE).write_bytes(to_png(draw_corruptions(pixels, drawn, options.severity)))
    head = {"split": options.split, "score": last.task.best_by.score, "models": rows}
    write_json(options.to / JSON, head)
    lines = [line for row in rows for line in _lines(row, options.severity)]
    files = [f"{name}  {options.to / name}" for name in (CURVES, EXAMPLE, JSON)]
    print_result(options, {**head, "folder": str(options.to)}, [*lines, *files])
    return 0


def _lines(row: Mapping[str, Any], severities: Sequence[int]) -> list[str]:
    table = [["error", *map(str, severities), "mean", "95 % interval"]]
    clean = row["clean"]
    blanks = [""] * len(severities)
    table.append(["clean", *blanks, f"{clean['error']:.4f}", interval_text(*clean["interval"])])
    for kind, errors in row["corruptions"].items():
        cells = [f"{severity['error']:.4f}" for severity in errors["severities"]]
        mean = f"{errors['error']:.4f}"
        table.append([kind, *cells, mean, interval_text(*errors["interval"])])
    for name in ("mean_error", "mce", "relative_mce"):
        if name in row:
            bounds = interval_text(*row[f"{name}_interval"])
            table.append([name.replace("_", " "), *blanks, f"{row[name]:.4f}", bounds])
    return [f"{row['source']}  {row['images']:,} images", *aligned(table), ""]


def _severities(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part in ("1", "2", "3", "4", "5") for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of severities, such as 1,3,5")
    return tuple(sorted(set(map(int, parts))))
