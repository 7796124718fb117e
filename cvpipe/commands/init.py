"""`cvpipe init`: a pipeline file for a folder or zip archive of labeled images."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from cvpipe.commands.command import add_command, add_examples, print_result
from cvpipe.errors import ConfigError, DataError, instead_of_pipeline

# Repeated here, because the parser must not import TensorFlow.
TASKS = ("classification", "detection", "segmentation", "pose", "anomaly")


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "init",
        init,
        "write a pipeline file for a folder or zip archive of labeled images, with defaults chosen"
        " for the data",
    )
    add_examples(
        parser,
        "cvpipe init photos.zip",
        "cvpipe init coco --task segmentation --to coco_masks.yaml",
        "cvpipe init mixed --kind voc",
        "cvpipe init --model-garden resnet_imagenet my_changes.yaml --images 50000",
    )
    parser.add_argument("data", metavar="DATA", nargs="?", help="a folder or a zip archive")
    parser.add_argument(
        "--model-garden",
        metavar="EXPERIMENT",
        nargs="+",
        help=(
            "translate an experiment of TensorFlow Model Garden instead: its YAML file, or the name"
            " of a registered experiment, then files that override its values"
        ),
    )
    parser.add_argument(
        "--images",
        metavar="N",
        type=int,
        help=(
            "for --model-garden: number of training images, to convert steps to epochs (default:"
            " assume that the experiment evaluates once per epoch)"
        ),
    )
    parser.add_argument(
        "--task", choices=TASKS, help="task to learn (default: the task of the annotations)"
    )
    parser.add_argument(
        "--kind", metavar="KIND", help="kind of data.source, such as voc, if several formats fit"
    )
    parser.add_argument(
        "--to", metavar="FILE", type=Path, help="the pipeline file (default: NAME.yaml)"
    )


def init(options: argparse.Namespace) -> int:
    """Write the pipeline file and print the choices."""
    if bool(options.data) == bool(options.model_garden):
        raise ConfigError(
            "cvpipe init needs a folder or zip archive of labeled images, or --model-garden with an"
            " experiment; give one of them"
        )
    if options.model_garden:
        return _translate(options)
    _refuse_data_yaml(options.data)
    file = options.to or pipeline_file_of(options.data)
    if file.exists():
        raise ConfigError(f"{file}: exists already; remove it, or choose another file with --to")
    task, source, lines = draft_to(file, options.data, options.task, options.kind)
    written = f"wrote     {file}; train it with: cvpipe train {file}"
    result = {"pipeline": str(file), "task": task, "source": source, "chosen": lines}
    print_result(options, result, [*lines, written])
    return 0


def _translate(options: argparse.Namespace) -> int:
    """Write the pipeline of an experiment of Model Garden, and print the differences."""
    file = options.to or pipeline_file_of(options.model_garden[-1])
    if file.exists():
        raise ConfigError(f"{file}: exists already; remove it, or choose another file with --to")
    if options.kind is not None:
        raise ConfigError("--kind is a kind of data set, not for --model-garden; leave --kind out")
    if options.task in ("pose", "anomaly"):
        raise ConfigError(
            f"--task {options.task}: Model Garden has no such experiments; choose another task"
        )
    if options.images is not None and options.images < 1:
        raise ConfigError(f"--images {options.images}: give the number of training images")
    from cvpipe.runtime import quiet_tensorflow

    quiet_tensorflow()
    from cvpipe.init.model_garden import translate

    translated = translate(options.model_garden, options.task, options.images, str(file))
    _write(file, translated.text)
    lines = [f"note      {note}" for note in translated.notes]
    wrong = _mistakes(file)
    lines += [f"correct   {mistake}" for mistake in wrong]
    written = f"wrote     {file}; look through its comments, then: cvpipe train {file}"
    result = {
        "pipeline": str(file),
        "task": translated.task,
        "notes": translated.notes,
        "mistakes": wrong,
    }
    print_result(options, result, [f"task      {translated.task}", *lines, written])
    return 0


def _mistakes(file: Path) -> list[str]:
    """Return the error of a pipeline file as a list of one sentence; empty if the file loads."""
    from cvpipe.config_file import load

    try:
        load(file)
    except ConfigError as error:
        return [str(error)]
    return []


def draft_to(
    file: Path, data: str, task: str | None = None, kind: str | None = None
) -> tuple[str, dict[str, Any], list[str]]:
    """Write the pipeline file of a data set. Return the task, the source, and the choices as lines
    of text.

    Raises:
        ConfigError: `kind` isn't a format, or the file can't be written.
        DataError: the format can't be detected, or the data can't be opened.
    """
    from cvpipe.runtime import quiet_tensorflow

    quiet_tensorflow()
    from cvpipe.init import draft_pipeline

    check_kind(kind)
    drafted = draft_pipeline(data, task, kind, str(file))
    _write(file, drafted.text)
    return drafted.task, drafted.source, drafted.lines


def _write(file: Path, text: str) -> None:
    from cvpipe.atomic_write import atomic_write

    if not file.parent.is_dir():
        raise ConfigError(
            f"{file}: there is no folder {file.parent}; make it, or choose another file"
        )
    with atomic_write(file) as stream:
        stream.write(text.encode())


def _refuse_data_yaml(data: str) -> None:
    """Raise ConfigError if a path is YOLO's data.yaml, not a folder or archive."""
    from cvpipe.user_paths import find_path
    from cvpipe.yaml_files import read_yaml_as_text

    path = find_path(data)
    if path.suffix.lower() not in (".yaml", ".yml") or not path.is_file():
        return
    try:
        values = read_yaml_as_text(path.read_text(encoding="utf-8"), data)
    except (OSError, UnicodeDecodeError, DataError):
        return  # The detection of formats says what is wrong.
    if isinstance(values, dict) and (said := instead_of_pipeline(path, values)):
        raise ConfigError(said)


def check_kind(kind: str | None) -> None:
    """Raise ConfigError if --kind isn't a format."""
    from cvpipe.data.formats import FORMATS
    from cvpipe.errors import suggest

    if kind is not None and kind not in FORMATS:
        raise ConfigError(f"--kind {kind}: no such format; {suggest(kind, FORMATS)}")


def pipeline_file_of(data: str) -> Path:
    """Return the default pipeline file for a data set, in the current folder."""
    from cvpipe.user_paths import find_path

    path = find_path(data).resolve()
    stem = path.stem if path.is_file() else path.name
    name = re.sub(r"[^A-Za-z0-9_.-]+|^[^A-Za-z0-9]+", "-", stem).strip("-.") or "pipeline"
    # The names of Roboflow's folders, such as fish.v1i.coco and fish.v1i.yolov8, have dots.
    return Path(f"{name}.yaml")


def is_data(path: str) -> bool:
    """Return True if a path is a folder or a zip archive, not a pipeline file."""
    from cvpipe.user_paths import find_path

    place = find_path(path)
    return place.is_dir() or place.suffix.lower() == ".zip"
