"""Answers image files with an artefact, on this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from cvpipe.data.decode import decode_image
from cvpipe.errors import DataError
from cvpipe.evaluation import ask
from cvpipe.export.artefact import Artefact, open_artefact
from cvpipe.tasks import task_module

BATCH = 32


def predict(
    folder: Path, images: Sequence[Path], draw: Path | None = None
) -> Iterator[dict[str, Any]]:
    """Answers each image, in order, as soon as its batch is done.

    Args:
        folder: an artefact's version folder.
        images: image files; a missing or broken one gets an "error" and harms no other.
        draw: where to write <image>.prediction.png for each answer; None draws nothing.

    Yields:
        {"image": path, …the task's answer} or {"image": path, "error": sentence}.
    """
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


def _answer_batch(
    artefact: Artefact, images: Sequence[Path]
) -> Iterator[tuple[Path, bytes | str, dict[str, Any]]]:
    """Each image with its content and its answer or error."""
    read = [_read(image) for image in images]
    # What can't be read is sent as nothing, which is no image either.
    encoded = [content if isinstance(content, bytes) else b"" for content in read]
    predictions = ask(artefact.answer, tf.constant(encoded))
    task = task_module(artefact.config.task)
    for n, (image, content) in enumerate(zip(images, read, strict=True)):
        if isinstance(content, str):
            yield image, content, {"error": content}
        elif not predictions["valid"][n]:
            yield (
                image,
                content,
                {"error": "not a JPEG, PNG, BMP or WebP image, damaged, or too large"},
            )
        else:
            yield image, content, task.to_answer(predictions, n)


def _read(image: Path) -> bytes | str:
    """The file's content, or why there is none."""
    try:
        return image.read_bytes()
    except OSError as error:
        return f"{error.strerror or error}"


def _draw(artefact: Artefact, content: bytes | str, answer: dict[str, Any], file: Path) -> None:
    pixels = decode_image(tf.constant(content), 3).numpy()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        task_module(artefact.config.task).draw_answer(pixels, answer).savefig(file, dpi=150)
    except OSError as error:
        raise DataError(
            f"{file}: the picture can't be written ({error.strerror}); choose another --draw folder"
        ) from None
