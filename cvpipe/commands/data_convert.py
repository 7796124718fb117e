"""`cvpipe data convert`: writes a data set in another tool's format."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cvpipe.commands.command import add_command, add_examples, add_pipeline, print_result
from cvpipe.commands.init import TASKS, check_kind, is_data
from cvpipe.errors import ConfigError, counted

# Repeated here, because the parser must not import TensorFlow.
TARGETS = ("coco", "yolo", "voc", "csv", "labelme", "masks", "crops", "parquet")
_SHOWN = 5


def add(commands: Any, watch: Callable[[int, int], None]) -> None:
    """Declare the command. `watch` is called with the number of written examples and the number of
    all examples.
    """
    parser = add_command(
        commands,
        "convert",
        partial(convert, watch=watch),
        "write a data set in another tool's format, with unchanged images, and report what the"
        " format can't represent",
    )
    add_examples(
        parser,
        "cvpipe data convert photos.zip --to yolo --out photos-yolo",
        "cvpipe data convert pipeline.yaml --to coco --out photos-coco --hold-out",
    )
    add_pipeline(parser, ", or a folder or zip archive of labeled images")
    parser.add_argument("--to", choices=TARGETS, required=True, help="format to write")
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        required=True,
        help="folder to write, which must not exist",
    )
    parser.add_argument(
        "--task",
        choices=TASKS,
        help="for a folder or archive: the task whose annotations are read (default: the first that"
        " fits)",
    )
    parser.add_argument(
        "--kind",
        metavar="KIND",
        help="for a folder or archive: kind of data.source, such as voc, if several formats fit",
    )
    parser.add_argument(
        "--hold-out",
        action="store_true",
        help="also hold out validation and test images, as the pipeline does (default: keep the"
        " splits of the files)",
    )
    parser.add_argument(
        "--link",
        action="store_true",
        help="write symbolic links to images in a folder instead of copies",
    )


def convert(options: argparse.Namespace, watch: Callable[[int, int], None]) -> int:
    """Write a data set in another tool's format; return 1 if images were left out."""
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise ConfigError(
            f"{options.out}: exists already; remove it, or choose another folder with --out"
        )
    data = _data(options)
    from cvpipe.data.sources import open_source, open_splits, warn_of_faults
    from cvpipe.data.writers import write_dataset
    from cvpipe.data.writers.reading import Unreadable, annotated_images

    if options.hold_out:
        splits = open_splits(data)
    else:
        splits = open_source(data.source, data)
        warn_of_faults(data.source.place, splits)
    unreadable: list[Unreadable] = []
    written = write_dataset(
        options.to,
        options.out,
        next(iter(splits.values())).facts,
        annotated_images(splits, unreadable, watch),
        "--to",
        options.link,
    )
    result = {
        "folder": str(options.out),
        "format": options.to,
        "images": written.images,
        "left_out": [each._asdict() for each in unreadable],
        "told": written.told,
    }
    print_result(
        options,
        result,
        [
            *(f"{split}: {counted(n, 'image')}" for split, n in written.images.items()),
            *(f"note: {text}" for text in written.told),
            *_left_out(unreadable),
            f"wrote {options.out}; read it with: cvpipe init {options.out}",
        ],
    )
    return 1 if unreadable else 0


def _data(options: argparse.Namespace) -> Any:
    """Return the section `data` of the pipeline file, or a section that reads the folder or
    archive.
    """
    if not is_data(options.pipeline):
        for option in ("task", "kind"):
            if getattr(options, option):
                raise ConfigError(
                    f"--{option} is for a folder or zip archive, not for {options.pipeline}; leave"
                    " it out"
                )
        from cvpipe import config_file
        from cvpipe.runtime import prepare_process

        config = config_file.load(options.pipeline, options.overrides, draft=True)
        prepare_process(config)
        return config.data
    if options.overrides:
        raise ConfigError(f"--set is for pipeline files, and {options.pipeline} isn't one")
    from cvpipe.runtime import quiet_tensorflow

    quiet_tensorflow()
    from cvpipe.data.formats import find_formats
    from cvpipe.init import data_of

    check_kind(options.kind)
    found = find_formats(options.pipeline, options.task, options.kind)[0]
    return data_of(found)


def _left_out(unreadable: list[Any]) -> list[str]:
    """Return a line for each of the first images that were left out."""
    if not unreadable:
        return []
    named = [f"left out: {each.name}: {each.reason}" for each in unreadable[:_SHOWN]]
    more = len(unreadable) - _SHOWN
    return [*named, *([f"left out: and {counted(more, 'more image')}"] if more > 0 else [])]
