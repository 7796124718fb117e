"""Conversion of finished predictions to the formats of labeling tools.

Formats are written one after another, after all images have been predicted. The folder of a format
appears when it is complete, so an interrupted command can be continued.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cvpipe.answers import answered_kinds, to_annotations
from cvpipe.atomic_write import atomic_folder
from cvpipe.data.annotated import Annotated
from cvpipe.errors import ConfigError, DataError
from cvpipe.export.about import artifact_config, artifact_facts
from cvpipe.prediction.images import ImageFile

PICTURES = "pictures"
Pair = tuple[ImageFile, bytes, dict[str, Any]]


def check_formats(formats: Sequence[str], task: str) -> None:
    """Check that all formats can represent the answers of a task.

    Raises:
        ConfigError: a format can't represent them.
    """
    from cvpipe.data.writers import check_target

    for name in formats:
        if name != PICTURES:
            check_target(name, answered_kinds(task), "--save")


def save_answers(
    name: str,
    folder: Path,
    artifact: Path,
    task: str,
    settings: Mapping[str, float | int],
    images: Sequence[ImageFile],
    note: Callable[[str], None],
) -> list[str]:
    """Convert the answers in `folder` to a format, in a subfolder with the format's name.

    Args:
        name: PICTURES, or one of `cvpipe.data.writers.TARGETS`.
        folder: folder with the answers to all images, written by `write_shards`.
        artifact: folder of the artifact.
        task: the artifact's task.
        settings: the settings with which the images were predicted.
        images: all images, in order.
        note: called with a message if the subfolder exists already.

    Returns:
        Sentences about parts of the answers that the format can't represent.

    Raises:
        ConfigError: the format can't represent the answers.
        DataError: all answers are errors, an image is missing, or a file can't be written.
    """
    from cvpipe.data.writers import write_dataset

    to = folder / name
    if to.exists():
        note(f"{to} exists already")
        return []
    pairs = _pairs(folder, images)
    if name == PICTURES:
        return _draw(to, artifact, settings, pairs)
    annotated = (_annotated(task, *pair) for pair in pairs)
    return write_dataset(name, to, artifact_facts(artifact), annotated, "--save").told


def _pairs(folder: Path, images: Sequence[ImageFile]) -> Iterator[Pair]:
    """Yield each image whose answer isn't an error, with its content and its answer."""
    answers = (
        json.loads(line)
        for file in sorted(folder.glob("answers-*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    )
    for image, answer in zip(images, answers, strict=True):
        if "error" in answer:
            continue
        try:
            yield image, image.read(), answer
        except (OSError, DataError) as error:
            raise DataError(
                f"{image.name}: was answered, but can't be read any more ({error}); put it back, or"
                " predict into another folder"
            ) from None


def _annotated(task: str, image: ImageFile, content: bytes, answer: Mapping[str, Any]) -> Annotated:
    import tensorflow as tf

    from cvpipe.data.decode import upright_extent
    from cvpipe.data.exif import stored_orientation

    encoded = tf.constant(content)
    height, width = upright_extent(encoded).numpy().tolist()
    orientation = int(stored_orientation(encoded))
    annotations = to_annotations(task, answer)
    return Annotated("train", image.name, content, (height, width), orientation, annotations)


def _draw(
    to: Path, artifact: Path, settings: Mapping[str, float | int], pairs: Iterator[Pair]
) -> list[str]:
    """Write a picture of each answer, IMAGE.png. Return a sentence that counts the answers that
    can't be drawn, if there are any.
    """
    import tensorflow as tf

    from cvpipe.data.decode import decode_image
    from cvpipe.pictures import load_pictures
    from cvpipe.pictures.drawing.render import to_png, try_to_draw

    config = artifact_config(artifact)
    pictures = load_pictures(config, artifact_facts(artifact))
    if pictures is None:
        raise ConfigError(f"--save {PICTURES}: task: {config.task} has no pictures; leave it out")

    def draw(content: bytes, answer: Mapping[str, Any]) -> bytes:
        figure = pictures.draw_answer(
            decode_image(tf.constant(content), 3).numpy(), answer, settings
        )
        return to_png(figure, figure.dpi)

    missing = 0
    try:
        with atomic_folder(to) as partial_folder:
            for image, content, answer in pairs:
                picture = try_to_draw(image.name, partial(draw, content, answer))
                if picture is None:
                    missing += 1
                else:
                    (partial_folder / f"{image.output}.png").write_bytes(picture)
    except OSError as error:
        raise DataError(f"{error.filename or to}: can't be written: {error.strerror}") from None
    return [f"answers that can't be drawn: {missing:,}"] if missing else []
