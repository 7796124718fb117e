"""`cvpipe predict`."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

from cvpipe.commands.command import add_command, add_examples, print_result
from cvpipe.console import print_message
from cvpipe.errors import ConfigError, DataError
from cvpipe.prediction.answers import DRAWN, MASK, Outputs, Settings, answer_images
from cvpipe.prediction.images import ImageFile, find_images
from cvpipe.prediction.ray_workers import Job, answer_by_ray
from cvpipe.prediction.shards import SHARD, Answer, locked, write_shards
from cvpipe.runtime import import_ray

# Repeated here, because the parser must not import TensorFlow.
FORMATS = ("coco", "yolo", "voc", "csv", "labelme", "masks", "crops", "parquet", "pictures")

HELP = """\
Coordinates are in pixels of the original image. A box is
{"ymin": top, "xmin": left, "ymax": bottom, "xmax": right}.
A mask is {"b64": a gray PNG in base64}; the PNG's values are class ids.
An artifact may have further options, such as --score-threshold of a
detector; "cvpipe predict ARTIFACT --help" lists them.
"""


def add(commands: Any) -> None:
    """Declare the command."""
    # The output is always JSON, but all commands with results have the option --json.
    parser = add_command(
        commands, "predict", predict, "predict images with an artifact; one JSON line per image"
    )
    parser.add_argument(
        "artifact", metavar="ARTIFACT", type=Path, help="such as saved_models/digits"
    )
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help=(
            "image files, folders, zip archives, patterns such as 'photos/*.jpg', or - to read"
            " paths from stdin, one per line"
        ),
    )
    parser.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        help=(
            f"write the answers to files in DIR, {SHARD} per file, instead of stdout; after an"
            " interruption, the same command resumes"
        ),
    )
    parser.add_argument(
        "--draw",
        metavar="DIR",
        type=Path,
        help="also write a picture of each answer to DIR/<image>.prediction.png",
    )
    parser.add_argument(
        "--masks",
        metavar="DIR",
        type=Path,
        help=(
            "write each mask to DIR/<image>.mask.png; the answer then has the name of the file"
            " instead of the mask"
        ),
    )
    parser.add_argument(
        "--save",
        action="append",
        choices=FORMATS,
        default=[],
        help=(
            "with --to: also write the answers in a labeling tool's format, with copies of the"
            " images, to a folder of this name in DIR; can be repeated"
        ),
    )
    parser.add_argument(
        "--ray",
        action="store_true",
        help=(
            "predict by the workers of a Ray cluster, which RAY_ADDRESS names or which is started"
            " on this machine; all workers read the same paths; needs cvpipe[ray]"
        ),
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        help="number of workers for --ray (default: one per two cores of the cluster)",
    )
    parser.epilog = HELP
    add_examples(
        parser,
        "cvpipe predict saved_models/digits photo.png --draw drawn",
        "cvpipe predict saved_models/objects photos --to answers --save yolo",
        "cvpipe predict saved_models/objects photos --to answers --ray --workers 4",
    )


def add_settings(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Add an option for each setting of the first artifact among the words of a command line."""
    from cvpipe.export.about import find_artifact, read_about

    settings: dict[str, dict[str, Any]] = {}
    for word in words:
        # Opening the artifact later raises the error.
        with suppress(DataError, OSError):
            settings = _settings(read_about(find_artifact(word)))
            break
    group = parser.add_argument_group("options of the artifact")
    for name, setting in settings.items():
        default, meaning = setting["default"], setting["meaning"].replace("%", "%%")
        group.add_argument(
            f"--{name.replace('_', '-')}",
            metavar="NUMBER",
            type=type(default),
            dest=name,
            help=f"{meaning} (default: {default})",
        )


def _settings(about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the optional inputs of an artifact, with their defaults."""
    inputs = about["signatures"].get("serving_default", {"inputs": {}})["inputs"]
    return {name: entry for name, entry in inputs.items() if "default" in entry}


def predict(options: argparse.Namespace) -> int:
    """Print a line of JSON per image; return 1 if an image has an error."""
    from cvpipe.export.about import find_artifact, read_about, values_in_words
    from cvpipe.runtime import choose_kernels

    folder = find_artifact(options.artifact)
    about = read_about(folder)
    chosen = about["config"]["train"]
    choose_kernels(chosen["onednn"], chosen["deterministic"])
    known = _settings(about)
    given = {name: getattr(options, name, None) for name in known}
    settings = {name: value for name, value in given.items() if value is not None}
    for name, value in settings.items():
        if wanted := values_in_words(known[name], value):
            raise ConfigError(f"--{name.replace('_', '-')} {value:g}: give {wanted}")
    if options.save:
        _check_save(options, about["config"]["task"])
    _check_workers(options)
    written = [(options.to, ""), (options.draw, DRAWN), (options.masks, MASK)]
    images = find_images(options.images, [(folder, end) for folder, end in written if folder])
    if not images:
        raise ConfigError("no image is named; give files, folders, archives or patterns")
    from cvpipe.export.artifact import open_artifact

    outputs = Outputs(options.draw, options.masks)
    # Loading takes seconds, so the artifact is loaded when the first image is answered.
    artifact = cache(partial(open_artifact, folder))

    def answer(parts: Sequence[range]) -> Iterator[Iterator[dict[str, Any]]]:
        if options.ray:
            return answer_by_ray(Job(folder, images, settings, outputs), parts, options.workers)
        selected = (images[part.start : part.stop] for part in parts)
        return (answer_images(artifact(), part, settings, outputs) for part in selected)

    if options.to:
        return _predict_to(options, answer, images, folder, about["config"]["task"], settings)
    failed = 0
    for each in chain.from_iterable(answer([range(len(images))])):
        failed += "error" in each
        print(json.dumps(each), flush=True)
    return 1 if failed else 0


def _check_save(options: argparse.Namespace, task: str) -> None:
    """Refuse formats that can't be written, before predicting."""
    from cvpipe.prediction.saving import check_formats

    if not options.to:
        raise ConfigError("--save needs --to DIR, the folder to write to")
    if options.masks:
        raise ConfigError(
            "--save and --masks exclude each other: --masks removes the masks from the answers; use"
            " --save masks"
        )
    check_formats(options.save, task)


def _check_workers(options: argparse.Namespace) -> None:
    """Refuse an invalid number of workers, and --ray without Ray, before predicting."""
    if options.workers is not None and not options.ray:
        raise ConfigError(f"--workers {options.workers}: only --ray uses workers; add --ray")
    if options.workers is not None and options.workers < 1:
        raise ConfigError(f"--workers {options.workers}: give 1 or more")
    if options.ray:
        import_ray()


def _predict_to(
    options: argparse.Namespace,
    answer: Answer,
    images: Sequence[ImageFile],
    artifact: Path,
    task: str,
    settings: Settings,
) -> int:
    """Write answers to files, save them in other formats, and print their number."""
    outputs = {name: str(getattr(options, name) or "") for name in ("draw", "masks")}
    from cvpipe.export.manifest import MANIFEST

    digest = hashlib.sha256((artifact / MANIFEST).read_bytes()).hexdigest()
    about = {"artifact": digest, "settings": settings, **outputs}

    saved = {}
    with locked(options.to):
        counts = write_shards(answer, images, options.to, about, print_message)
        if options.save:
            from cvpipe.prediction.saving import save_answers

            saved = {
                name: save_answers(
                    name, options.to, artifact, task, settings, images, print_message
                )
                for name in dict.fromkeys(options.save)
            }
    result = {**counts, "folder": str(options.to), **({"saved": saved} if saved else {})}
    lines = [
        f"answers  {options.to}",
        *(f"saved    {options.to / name}" for name in saved),
        *(f"note     {name}: {text}" for name, notes in saved.items() for text in notes),
        f"images   {counts['images']}, of which {counts['errors']} can't be answered",
    ]
    print_result(options, result, lines)
    return 1 if counts["errors"] else 0
