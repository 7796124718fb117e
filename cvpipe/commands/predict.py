"""`cvpipe predict`."""

from __future__ import annotations

import argparse
import base64
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvpipe.commands.command import add_command
from cvpipe.errors import ConfigError, DataError

if TYPE_CHECKING:
    from cvpipe.export.artifact import Artifact

BATCH = 32
Answered = tuple[Path, bytes | str, dict[str, Any]]
Settings = Mapping[str, float | int]
HELP = """\
Coordinates are in pixels of the original image. A box is
{"ymin": top, "xmin": left, "ymax": bottom, "xmax": right}.
A mask is {"b64": a gray PNG in base64}; the PNG's values are class numbers.
An artifact may have options of its own, such as --score-threshold of a
detector; "cvpipe predict ARTIFACT --help" lists them.
"""


def add(commands: Any) -> None:
    """Declare the command."""
    # It prints nothing but JSON anyway; all commands that print answers take the option.
    parser = add_command(
        commands, "predict", predict, "answer images with an artifact, one JSON line each"
    )
    parser.add_argument(
        "artifact", metavar="ARTIFACT", type=Path, help="such as saved_models/digits"
    )
    parser.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="image files")
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
            "write each mask to DIR/<image>.mask.png; the answer then has the file's name in place"
            " of the mask"
        ),
    )
    parser.epilog = HELP
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def add_settings(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Add an option for each setting of the first artifact among the words of a command line."""
    from cvpipe.export.about import find_artifact, read_about

    settings: dict[str, dict[str, Any]] = {}
    for word in words:
        # What is wrong with it is said when it is opened.
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
    """Return the inputs of an artifact that may be left out, with their defaults."""
    inputs = about["signatures"].get("serving_default", {"inputs": {}})["inputs"]
    return {name: own for name, own in inputs.items() if "default" in own}


def predict(options: argparse.Namespace) -> int:
    """Print a line of JSON an image; 1 where one of them can't be answered."""
    from cvpipe.export.about import find_artifact, read_about
    from cvpipe.runtime import choose_kernels

    folder = find_artifact(options.artifact)
    about = read_about(folder)
    chosen = about["config"]["train"]
    choose_kernels(chosen["onednn"], chosen["deterministic"])
    given = {name: getattr(options, name, None) for name in _settings(about)}
    settings = {name: value for name, value in given.items() if value is not None}
    failed = 0
    for answer in answer_images(folder, options.images, settings, options.draw, options.masks):
        failed += "error" in answer
        print(json.dumps(answer), flush=True)
    return 1 if failed else 0


def answer_images(
    folder: Path,
    images: Sequence[Path],
    settings: Settings | None = None,
    draw: Path | None = None,
    masks: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Answer each image, in order, as soon as its batch is done.

    Args:
        folder: an artifact's version folder.
        images: image files; a missing or broken one gets an "error" and harms no other.
        settings: other values than the defaults of the artifact's settings.
        draw: where to write <image>.prediction.png for each answer; None draws nothing.
        masks: where to write <image>.mask.png for each answer, which then has the file's name as
            its "mask"; None leaves it as it is.

    Yields:
        {"image": path, …the task's answer, "picture": path if there is one} or {"image": path,
        "error": sentence}.

    Raises:
        ConfigError: masks are to be written, and the answers have none.
        DataError: a file can't be written.
    """
    from cvpipe.export.artifact import open_artifact

    artifact, settings = open_artifact(folder), settings or {}
    times: Counter[str] = Counter()
    for begin in range(0, len(images), BATCH):
        part = images[begin : begin + BATCH]
        for image, content, answer in _answer_batch(artifact, part, settings):
            if "error" not in answer:
                times[image.name] += 1
                # Images of one name from several folders each get files.
                number = f".{times[image.name]}" if times[image.name] > 1 else ""
                name = f"{image.name}{number}"
                if draw:
                    picture = draw / f"{name}.prediction.png"
                    if _draw(artifact, content, answer, settings, picture):
                        answer["picture"] = str(picture)
                if masks:
                    answer["mask"] = _write_mask(artifact, answer, masks / f"{name}.mask.png")
            yield {"image": str(image), **answer}


def _answer_batch(
    artifact: Artifact, images: Sequence[Path], settings: Settings
) -> Iterator[Answered]:
    """Yield each image with its content and its answer or error."""
    import tensorflow as tf

    from cvpipe.answers import UNREADABLE, to_answer

    read = [_read(image) for image in images]
    # What can't be read is sent as nothing, which is no image either.
    encoded = [content if isinstance(content, bytes) else b"" for content in read]
    chosen = {
        name: tf.constant(value, artifact.defaults[name].dtype) for name, value in settings.items()
    }
    answers = artifact(tf.constant(encoded), **chosen)
    predictions = {name: value.numpy() for name, value in answers.items()}
    for n, (image, content) in enumerate(zip(images, read, strict=True)):
        if isinstance(content, str):
            yield image, content, {"error": content}
        elif not predictions["valid"][n]:
            yield image, content, {"error": UNREADABLE}
        else:
            yield image, content, to_answer(artifact.task, predictions, n)


def _read(image: Path) -> bytes | str:
    """Return the file's content, or why there is none."""
    try:
        return image.read_bytes()
    except OSError as error:
        return f"{error.strerror or error}"


def _draw(
    artifact: Artifact,
    content: bytes | str,
    answer: Mapping[str, Any],
    settings: Settings,
    file: Path,
) -> bool:
    """Write the picture of an answer; False if the task has none, or it can't be drawn."""
    import tensorflow as tf

    from cvpipe.data.decode import decode_image
    from cvpipe.pictures import load_pictures
    from cvpipe.pictures.drawing import to_png, try_to_draw

    pictures = load_pictures(artifact.config, artifact.facts)
    if pictures is None:
        return False
    pixels = decode_image(tf.constant(content), 3).numpy()
    draw_answer = pictures.draw_answer

    def draw() -> bytes:
        figure = draw_answer(pixels, answer, settings)
        return to_png(figure, figure.dpi)

    picture = try_to_draw(str(file), draw)
    if picture is None:
        return False
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture)
    except OSError as error:
        raise DataError(
            f"{file}: the picture can't be written ({error.strerror}); choose another --draw folder"
        ) from None
    return True


def _write_mask(artifact: Artifact, answer: Mapping[str, Any], file: Path) -> str:
    """Write the mask of an answer; return the file's name."""
    if "mask" not in answer:
        raise ConfigError(
            f"--masks {file.parent}: {artifact.folder} was trained for task: {artifact.task}, whose"
            " answers have no masks; leave --masks out"
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(answer["mask"]["b64"]))
    except OSError as error:
        raise DataError(
            f"{file}: the mask can't be written ({error.strerror}); choose another --masks folder"
        ) from None
    return str(file)
