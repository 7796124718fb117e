"""Answers to images, in order, computed before they are asked for."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cvpipe.errors import ConfigError, DataError
from cvpipe.prediction.images import ImageFile

if TYPE_CHECKING:
    from cvpipe.export.artifact import Artifact

BATCH = 32
# Batches in progress, and finished batches in the queue.
THREADS, AHEAD = 2, 2
Settings = Mapping[str, float | int]


class Outputs(NamedTuple):
    """Folders of the files to write for each answer; None: no such files."""

    draw: Path | None = None
    """Folder of IMAGE.prediction.png, a picture of the answer."""
    masks: Path | None = None
    """Folder of IMAGE.mask.png, whose name replaces the mask in the answer."""


class _Answered(NamedTuple):
    image: ImageFile
    content: bytes
    answer: dict[str, Any]


def answer_images(
    artifact: Artifact,
    images: Sequence[ImageFile],
    settings: Settings | None = None,
    outputs: Outputs | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the answer to each image, in order, as soon as its batch is done.

    Args:
        artifact: the model.
        images: images to answer. A missing or broken image gets an "error" and doesn't affect
            others.
        settings: values that override the artifact's defaults.
        outputs: files to write.

    Yields:
        {"image": path, …the task's answer, "picture": path if there is one} or {"image": path,
        "error": sentence}.

    Raises:
        ConfigError: masks are requested, and the answers have none.
        DataError: a file can't be written.
    """
    settings, outputs = settings or {}, outputs or Outputs()
    batches = [images[begin : begin + BATCH] for begin in range(0, len(images), BATCH)]
    waiting: deque[Future[list[_Answered]]] = deque()
    with ThreadPoolExecutor(THREADS, "predict") as pool:
        try:
            for batch in batches:
                waiting.append(pool.submit(_answer_batch, artifact, batch, settings))
                if len(waiting) > THREADS + AHEAD:
                    yield from _written(waiting.popleft().result(), artifact, settings, outputs)
            while waiting:
                yield from _written(waiting.popleft().result(), artifact, settings, outputs)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _answer_batch(
    artifact: Artifact, images: Sequence[ImageFile], settings: Settings
) -> list[_Answered]:
    """Return each image with its content and its answer or error."""
    import tensorflow as tf

    from cvpipe.answers import UNREADABLE, to_answer

    read = [_read(image) for image in images]
    # Unreadable files are sent as empty bytes, which can't be decoded either.
    encoded = [content if isinstance(content, bytes) else b"" for content in read]
    chosen = {
        name: tf.constant(value, artifact.defaults[name].dtype) for name, value in settings.items()
    }
    answers = artifact(tf.constant(encoded), **chosen)
    predictions = {name: value.numpy() for name, value in answers.items()}

    def answer(n: int) -> dict[str, Any]:
        if isinstance(read[n], str):
            return {"error": read[n]}
        if not predictions["valid"][n]:
            return {"error": UNREADABLE}
        return dict(to_answer(artifact.task, predictions, n))

    return [_Answered(image, encoded[n], answer(n)) for n, image in enumerate(images)]


def _read(image: ImageFile) -> bytes | str:
    """Return the image's content, or the reason why it can't be read."""
    try:
        return image.read()
    except OSError as error:
        return f"{error.strerror or error}"
    except DataError as error:
        return str(error)


def _written(
    answered: Sequence[_Answered], artifact: Artifact, settings: Settings, outputs: Outputs
) -> Iterator[dict[str, Any]]:
    """Yield answers with the names of their written files."""
    for image, content, answer in answered:
        if "error" not in answer:
            if outputs.draw:
                picture = outputs.draw / f"{image.output}.prediction.png"
                if _draw(artifact, content, answer, settings, picture):
                    answer["picture"] = str(picture)
            if outputs.masks:
                mask = outputs.masks / f"{image.output}.mask.png"
                answer["mask"] = _write_mask(artifact, answer, mask)
        yield {"image": image.name, **answer}


def _draw(
    artifact: Artifact, content: bytes, answer: Mapping[str, Any], settings: Settings, file: Path
) -> bool:
    """Write the picture of an answer; False if the task has none, or it can't be drawn."""
    import tensorflow as tf

    from cvpipe.data.decode import decode_image
    from cvpipe.pictures import load_pictures
    from cvpipe.pictures.drawing.render import to_png, try_to_draw

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
    _write(file, picture, "picture", "--draw")
    return True


def _write_mask(artifact: Artifact, answer: Mapping[str, Any], file: Path) -> str:
    """Write the mask of an answer; return the file's name."""
    if "mask" not in answer:
        raise ConfigError(
            f"--masks {file.parent}: {artifact.folder} was trained for task: {artifact.task}, whose"
            " answers have no masks; leave --masks out"
        )
    _write(file, base64.b64decode(answer["mask"]["b64"]), "mask", "--masks")
    return str(file)


def _write(file: Path, content: bytes, what: str, option: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    except OSError as error:
        raise DataError(
            f"{file}: the {what} can't be written ({error.strerror}); choose another {option}"
            " folder"
        ) from None
