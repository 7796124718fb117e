"""Answers to images, in the order of the images. Batches are computed ahead in threads."""

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
# Number of batches computed at once, and of finished batches that may wait to be consumed.
THREADS, AHEAD = 2, 2
Settings = Mapping[str, float | int]


DRAWN = ".prediction.png"
"""End of the names of drawn answers."""
MASK = ".mask.png"
"""End of the names of masks."""


class Outputs(NamedTuple):
    """Files to write for each answer."""

    draw: Path | None = None
    """Folder for IMAGE.prediction.png, a picture of the answer; None to draw nothing."""
    masks: Path | None = None
    """Folder for IMAGE.mask.png, whose path replaces the mask in the answer; None to keep masks in
    answers.
    """


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
        images: images to predict. The answer to a missing or broken image is an "error"; other
            images aren't affected.
        settings: values that override the artifact's defaults.
        outputs: files to write.

    Yields:
        {"image": path, …the task's answer, "picture": path if a picture was drawn}, or
        {"image": path, "error": sentence}.

    Raises:
        ConfigError: `outputs.masks` is set, but the task's answers have no masks.
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
    # Keep the batch complete: replace unreadable files by empty bytes, which can't be decoded.
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
    """Write the files of a batch, and yield its answers with the paths of the files."""
    for image, content, answer in answered:
        if "error" not in answer:
            if outputs.draw:
                picture = outputs.draw / f"{image.output}{DRAWN}"
                if _draw(artifact, content, answer, settings, picture):
                    answer["picture"] = str(picture)
            if outputs.masks:
                mask = outputs.masks / f"{image.output}{MASK}"
                answer["mask"] = _write_mask(artifact, answer, mask)
        yield {"image": image.name, **answer}


def _draw(
    artifact: Artifact, content: bytes, answer: Mapping[str, Any], settings: Settings, file: Path
) -> bool:
    """Write the picture of an answer. Return False if the task has no pictures, or if drawing
    fails.
    """
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
    """Write the mask of an answer; return the path of the file."""
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
