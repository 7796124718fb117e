"""`cvpipe data check`, `data anchors`, `data fetch`, `data pack` and `data convert`."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cvpipe.commands import data_convert
from cvpipe.commands.command import (
    add_command,
    add_examples,
    add_pipeline,
    aligned,
    make_output_folder,
    print_result,
)
from cvpipe.console import print_message


def add(commands: Any) -> None:
    """Declare the commands about data."""
    text = "check, convert, download and pack data; find anchors"
    parser = commands.add_parser("data", help=text, description=text[0].upper() + text[1:] + ".")
    checks = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="name")
    command = add_command(
        checks,
        "check",
        check,
        "read all data once and report broken files, leaks between splits, near-duplicates, odd"
        " images such as dark or blurry ones, sizes and classes",
    )
    add_examples(
        command,
        "cvpipe data check pipelines/classification/digits.yaml",
        "cvpipe data check photos.yaml --to photos-check",
    )
    add_pipeline(command)
    command.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        help="folder for the report and the contact sheet (default: NAME-check)",
    )
    command = add_command(
        checks,
        "anchors",
        anchors,
        "find anchors for a YOLO head, [height, width] each, by k-means on the sizes of the"
        " training objects",
    )
    add_examples(command, "cvpipe data anchors yolo.yaml --anchors 9")
    add_pipeline(command)
    command.add_argument(
        "--anchors", metavar="K", type=int, default=6, help="number of anchors (default: 6)"
    )
    command = add_command(
        checks,
        "fetch",
        fetch,
        "download a public data set into data/, or into the folder in CVPIPE_DATA; without a name,"
        " list the data sets",
    )
    add_examples(command, "cvpipe data fetch", "cvpipe data fetch bccd")
    command.add_argument("set", metavar="NAME", nargs="?", help="a data set, such as bccd")
    command = add_command(
        checks,
        "pack",
        pack,
        "pack a data set into a few large files (ArrayRecord) with random access, for many images"
        " or remote storage; after an interruption, the same command resumes",
    )
    add_examples(
        command,
        "cvpipe data pack photos.yaml --to packed",
        "cvpipe data pack photos.yaml --to gs://bucket/data --longest-side 512",
    )
    add_pipeline(command)
    command.add_argument(
        "--to",
        metavar="DIR",
        required=True,
        help="folder for the files, or its address such as gs://bucket/data",
    )
    command.add_argument(
        "--longest-side",
        metavar="N",
        type=int,
        help="scale down images whose longer side exceeds N pixels, and their annotations",
    )
    command.add_argument(
        "--quality",
        metavar="Q",
        type=int,
        help=(
            "re-encode all images as JPEG of this quality, 1 to 100 (default: keep files unchanged;"
            " reduced JPEG files become JPEG of quality 95, other reduced files PNG)"
        ),
    )
    command.add_argument(
        "--shard-size",
        metavar="MB",
        type=float,
        default=256.0,
        help="approximate size of each file (default: 256)",
    )
    command.add_argument(
        "--workers",
        metavar="N",
        type=int,
        default=os.cpu_count() or 1,
        help="files that are written in parallel (default: the number of cores)",
    )
    data_convert.add(checks, _progress("written"))


def anchors(options: argparse.Namespace) -> int:
    """Print anchors for the training objects of a detector. The pipeline may lack
    model.head.anchors.
    """
    from cvpipe import config_file
    from cvpipe.errors import ConfigError
    from cvpipe.runtime import prepare_process

    config = config_file.load(options.pipeline, options.overrides, draft=True)
    if config.task != "detection":
        raise ConfigError(
            f"{options.pipeline}: anchors are sizes of objects, and task: {config.task} has none;"
            " give a detection pipeline"
        )
    if options.anchors < 1:
        raise ConfigError(f"--anchors {options.anchors}: give at least 1")
    prepare_process(config)
    from cvpipe.data.object_sizes import object_sizes
    from cvpipe.data.quarantine import Quarantine
    from cvpipe.data.sources import open_splits
    from cvpipe.geometry.anchors import find_anchors, rounded_anchors
    from cvpipe.tasks import load_task

    train = open_splits(config.data)["train"]
    sizes = object_sizes(
        train,
        config,
        load_task(config, train.facts).encode,
        Quarantine(train, "train", config.data.max_bad_share),
    )
    found, fit = find_anchors(sizes, options.anchors, config.seed)
    rounded = rounded_anchors(found, 4)
    print_result(
        options,
        {"anchors": rounded, "mean_iou": fit, "objects": len(sizes)},
        [
            f"anchors: {rounded}",
            f"mean IoU of {len(sizes)} objects with their best anchor: {fit:.3f}",
        ],
    )
    return 0


def fetch(options: argparse.Namespace) -> int:
    """Download a public data set, or list all."""
    from cvpipe.data.fetch import fetch as fetch_set
    from cvpipe.data.public_sets import PUBLIC_SETS

    if options.set is None:
        sets = [{"name": name, **known.about} for name, known in PUBLIC_SETS.items()]
        rows = [[row["name"], row["size"], row["title"]] for row in sets]
        print_result(options, sets, aligned(rows))
        return 0
    place = fetch_set(options.set)
    print_result(options, {"name": options.set, "path": str(place)}, [f"{place} is ready"])
    return 0


def check(options: argparse.Namespace) -> int:
    """Check the data of a pipeline; return 1 if there are problems."""
    from cvpipe import config_file
    from cvpipe.runtime import prepare_process

    config = config_file.load(options.pipeline, options.overrides, draft=True)
    prepare_process(config)
    from cvpipe.data.check import check as check_splits
    from cvpipe.data.check_report import contact_sheet, summary, write_report
    from cvpipe.data.check_sheet import write_sheet
    from cvpipe.data.mirroring import warn_of_mirroring
    from cvpipe.data.sources import damaged_files, open_splits
    from cvpipe.pictures import load_pictures
    from cvpipe.tasks import load_task

    splits = open_splits(config.data)
    folder = options.to or Path(f"{config.name}-check")
    make_output_folder(folder, "broken.jsonl", "--to")
    files = dict(damaged_files(config.data.source))
    channels, group = config.prepare.channels, config.data.group
    result = check_splits(
        splits, channels, _progress("read"), group, _progress("pairs of images compared:")
    )
    result["damaged"] = [name for name, is_bad in files.items() if is_bad]
    result["clean"] &= not result["damaged"]
    train = splits["train"]
    warn_of_mirroring(config, train)
    pictures = load_pictures(config, train.facts)
    sheet = (
        contact_sheet(train, config, load_task(config, train.facts).encode, pictures.draw_targets)
        if pictures
        else None
    )
    write_report(result, sheet, folder)
    page = write_sheet(result, splits, folder)
    print_result(
        options,
        {**result, "folder": str(folder)},
        [
            *summary(result),
            *(f"damaged  {name}: restore it, or pack the data again" for name in result["damaged"]),
            f"report   {folder / 'report.md'}",
            f"sheet    {page}",
        ],
    )
    return 0 if result["clean"] else 1


def pack(options: argparse.Namespace) -> int:
    """Pack the data of a pipeline."""
    from cvpipe import config_file
    from cvpipe.errors import ConfigError, counted
    from cvpipe.runtime import prepare_process

    for option, least, most in (
        ("longest_side", 1, None),
        ("quality", 1, 100),
        ("workers", 1, None),
        ("shard_size", 1e-6, None),
    ):
        value = getattr(options, option)
        if value is not None and not least <= value <= (most or value):
            allowed = f"from {least:g} to {most}" if most else f"of at least {least:g}"
            raise ConfigError(f"--{option.replace('_', '-')} {value}: give a number {allowed}")
    config = config_file.load(options.pipeline, options.overrides, draft=True)
    prepare_process(config)
    from cvpipe.data.packed.pack import pack as pack_splits
    from cvpipe.data.packed.reduce import Reduction
    from cvpipe.data.packed.source_files import fingerprint
    from cvpipe.data.sources import open_source

    section = config.data.source
    manifest = pack_splits(
        open_source(section, config.data),
        options.to,
        {"kind": section.kind, "place": section.place, "files": fingerprint(section)},
        Reduction(options.longest_side, options.quality),
        shard_bytes=int(options.shard_size * 2**20),
        workers=options.workers,
        watch=_progress("packed"),
    )
    splits = {
        name: {
            "examples": split.examples,
            "shards": len(split.shards),
            "bytes": sum(shard.bytes for shard in split.shards),
        }
        for name, split in manifest.splits.items()
    }
    print_result(
        options,
        {"place": options.to, "splits": splits},
        [
            *(
                f"{name}: {counted(split['examples'], 'image')} in"
                f" {counted(split['shards'], 'file')}, {split['bytes'] / 1e6:,.1f} MB"
                for name, split in splits.items()
            ),
            f"read the packed data by data.source: {{kind: packed, path: {options.to}}}",
        ],
    )
    return 0


def _progress(verb: str) -> Callable[[int, int], None]:
    """Return a function that prints the progress every ten seconds."""
    shown_at = time.monotonic()

    def show(done: int, examples: int) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at >= 10:
            shown_at = time.monotonic()
            print_message(f"{verb} {done:,} of {examples:,}")

    return show
