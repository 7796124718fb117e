"""`cvpipe predict`."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvpipe.commands.command import add_command
from cvpipe.errors import DataError

if TYPE_CHECKING:
    from cvpipe.export.artefact import Artefact

BATCH = 32
Answered = tuple[Path, bytes | str, dict[str, Any]]


def add(commands: Any) -> None:
    """Declare the command."""
    # It prints nothing but JSON anyway; all commands that print answers take the option.
    parser = add_command(
        commands, "predict", predict, "answer images with an artefact, one JSON line each"
    )
    parser.add_argument(
        "artefact", metavar="ARTEFACT", type=Path, help="such as saved_models/digits"
    )
    parser.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="image files")
    parser.add_argument(
        "--draw",
        metavar="DIR",
        type=Path,
        help="also write a picture of each answer to DIR/<image>.prediction.png",
    )


def predict(options: argparse.Namespace) -> int:
    """Print a line of JSON an image; 1 where one of them can't be answered."""
    from cvpipe.export.about import find_artefact, read_about
    from cvpipe.runtime import choose_kernels

    folder = find_artefact(options.artefact)
    chosen = read_about(folder)["config"]["train"]
    choose_kernels(chosen["onednn"], chosen["deterministic"])
    failed = 0
    for answer in answer_images(folder, options.images, options.draw):
        failed += "error" in answer
        print(json.dumps(answer), flush=True)
    return 1 if failed else 0


def answer_images(
    folder: Path, images: Sequence[Path], draw: Path | None = None
) -> Iterator[dict[str, Any]]:
    """Answer each image, in order, as soon as its batch is done.

    Args:
        folder: an artefact's version folder.
        images: image files; a missing or broken one gets an "error" and harms no other.
        draw: where to write <image>.prediction.png for each answer; None draws nothing.

    Yields:
        {"image": path, …the task's answer} or {"image": path, "error": sentence}.
    """
    from cvpipe.export.artefact import open_artefact

    artefact = open_artefact(folder)
    times: Counter[str] = Counter()
    for begin in range(0, len(images), BATCH):
        for image, content, answer in _answer_batch(artefact, images[begin : begin + BATCH]):
            if draw and "error" not in answer:
                times[image.name] += 1
                # Images of one name from several folders each get a picture.
                number = f".{times[image.name]}" if times[image.name] > 1 else ""
                _draw(artefact, content, answer, draw / f"{image.name}{number}.prediction.png")
            yield {"image": str(image), **answer}


def _answer_batch(artefact: Artefact, images: Sequence[Path]) -> Iterator[Answered]:
    """Yield each image with its content and its answer or error."""
    import tensorflow as tf

    from cvpipe.answers import to_answer

    read = [_read(image) for image in images]
    # What can't be read is sent as nothing, which is no image either.
    encoded = [content if isinstance(content, bytes) else b"" for content in read]
    answers = artefact(tf.constant(encoded))
    predictions = {name: value.numpy() for name, value in answers.items()}
    for n, (image, content) in enumerate(zip(images, read, strict=True)):
        if isinstance(content, str):
            yield image, content, {"error": content}
        elif not predictions["valid"][n]:
            error = "not a JPEG, PNG, BMP or WebP image, damaged, or too large"
            yield image, content, {"error": error}
        else:
            yield image, content, to_answer(artefact.task, predictions, n)


def _read(image: Path) -> bytes | str:
    """Return the file's content, or why there is none."""
    try:
        return image.read_bytes()
    except OSError as error:
        return f"{error.strerror or error}"


def _draw(artefact: Artefact, content: bytes | str, answer: dict[str, Any], file: Path) -> None:
    import tensorflow as tf

    from cvpipe.data.decode import decode_image
    from cvpipe.pictures import load_pictures
    from cvpipe.pictures.drawing import to_png, try_to_draw

    pictures = load_pictures(artefact.config, artefact.facts)
    if pictures is None:
        return
    pixels = decode_image(tf.constant(content), 3).numpy()
    draw = pictures.draw_answer
    picture = try_to_draw(str(file), lambda: to_png(draw(pixels, answer), dpi=150))
    if picture is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture)
    except OSError as error:
        raise DataError(
            f"{file}: the picture can't be written ({error.strerror}); choose another --draw folder"
        ) from None
