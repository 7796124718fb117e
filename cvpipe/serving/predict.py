"""Answers image files with an artefact, on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Union

import tensorflow as tf

from cvpipe.data.decode import decode_image
from cvpipe.errors import DataError
from cvpipe.export.artefact import Artefact, open_artefact
from cvpipe.tasks import task_module

BATCH = 32


def predict(folder: Path, images: Sequence[Path], draw: Union[Path, None] = None) -> Iterator[dict[str, Any]]:
    """Answers each image, in order, as soon as its batch is done.

    Args:
        folder: an artefact's version folder.
        images: image files; a missing or broken one gets an "error" and harms no other.
        draw: where to write <image>.prediction.png for each answer; None draws nothing.

    Yields:
        {"image": path, …the task's answer} or {"image": path, "error": sentence}.
    """
    artefact = open_artefact(folder)
    for begin in range(0, len(images), BATCH):
        yield from _answer_batch(artefact, images[begin: begin + BATCH], draw)


def _answer_batch(artefact: Artefact, images: Sequence[Path], draw: Union[Path, None]) -> Iterator[dict[str, Any]]:
    read = [_read(image) for image in images]
    # What can't be read is sent as nothing, which is no image either.
    encoded = [content if isinstance(content, bytes) else b"" for content in read]
    predictions = {name: value.numpy() for name, value in artefact.answer(tf.constant(encoded)).items()}
    task = task_module(artefact.config.task)
    for n, (image, content) in enumerate(zip(images, read)):
        if isinstance(content, str):
            yield {"image": str(image), "error": content}
        elif not predictions["valid"][n]:
            yield {"image": str(image), "error": "not a JPEG, PNG, BMP or WebP image, damaged, or too large"}
        else:
            answer = task.to_answer(predictions, n)
            if draw:
                pixels = decode_image(tf.constant(content), 3).numpy()
                _save(task.draw_answer(pixels, answer), image, draw)
            yield {"image": str(image), **answer}


def _read(image: Path) -> Union[bytes, str]:
    """The file's content, or why there is none."""
    try:
        return image.read_bytes()
    except OSError as error:
        return f"{error.strerror or error}"


def _save(figure: Any, image: Path, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / f"{image.name}.prediction.png", dpi=150)
    except OSError as error:
        why = f"the picture of {image.name} can't be written there ({error.strerror})"
        raise DataError(f"{folder}: {why}; choose another --draw folder") from None
