"""Requests of a benchmark: the same images encoded, and prepared for the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.data.decode import decode_image
from cvpipe.data.prepare import prepare_views
from cvpipe.errors import DataError
from cvpipe.export.about import artifact_config, read_about
from cvpipe.export.replay import default_inputs
from cvpipe.fields import Field, concatenate_padded
from cvpipe.prediction.images import ImageFile

# The signatures that are measured, with the input that has the images.
INPUTS = {"tensor": "image", "serving_default": "image_bytes"}
DRAWN = (480, 640)
"""Height and width of the synthetic photo."""


class Request(NamedTuple):
    """The inputs of a signature."""

    signature: str
    input: str
    """Name of the input that has the images."""
    file: Path
    """All inputs by name, npz."""


def synthetic_photo() -> bytes:
    """Return a JPEG file of waves and noise, with about as many bytes as a photo of the same
    size.
    """
    random = np.random.default_rng(0)
    y, x = np.mgrid[0 : 1 : DRAWN[0] * 1j, 0 : 1 : DRAWN[1] * 1j]
    waves = [np.sin(a * y + b * x + c) for a, b, c in random.uniform(2, 20, (3, 3))]
    pixels = 128 + 80 * np.stack(waves, -1) + random.normal(0, 8, (*DRAWN, 3))
    encoded: bytes = tf.io.encode_jpeg(pixels.clip(0, 255).astype(np.uint8), quality=90).numpy()
    return encoded


def read_images(images: Sequence[ImageFile], count: int) -> list[bytes]:
    """Return the contents of `count` images, evenly spaced; images are repeated if there are fewer.

    Raises:
        DataError: an image can't be read or decoded.
    """
    chosen = np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int).tolist()
    contents = []
    for image in (images[n] for n in chosen):
        try:
            content = image.read()
            decode_image(tf.constant(content), 3)
        except (OSError, tf.errors.OpError) as error:
            raise DataError(
                f"{image.name}: can't be read or decoded ({str(error)[:200]}); leave it out"
            ) from None
        contents.append(content)
    return [contents[n % len(contents)] for n in range(count)]


def write_requests(artifact: Path, contents: Sequence[bytes], folder: Path) -> list[Request]:
    """Write the inputs of an artifact's signatures, with the default values of the other inputs.

    Args:
        artifact: folder of the version.
        contents: encoded images.
        folder: folder of the files.

    Raises:
        DataError: the artifact has none of the signatures that take images.
    """
    defaults, described = default_inputs(str(artifact)), read_about(artifact)["signatures"]
    requests = []
    for signature, name in INPUTS.items():
        if name in described.get(signature, {"inputs": {}})["inputs"]:
            batch = _encoded(contents) if name == "image_bytes" else _prepared(artifact, contents)
            others = {key: value.numpy() for key, value in defaults[signature].items()}
            file = folder / f"{signature}.npz"
            np.savez(file, **{name: batch}, **others)  # type: ignore[arg-type]
            requests.append(Request(signature, name, file))
    if not requests:
        raise DataError(f"{artifact}: has no signature that takes images, so it can't be measured")
    return requests


def _encoded(contents: Sequence[bytes]) -> np.ndarray:
    # As objects, because NumPy's byte strings lose trailing zeros.
    return np.array(contents, dtype=object)


def _prepared(artifact: Path, contents: Sequence[bytes]) -> np.ndarray:
    """Prepare images for the signature `tensor`. Images of different sizes are padded."""
    config = artifact_config(artifact)
    prepared = {
        content: prepare_views(decode_image(tf.constant(content), config.prepare.channels), config)
        for content in dict.fromkeys(contents)
    }
    images = [prepared[content].numpy()[np.newaxis] for content in contents]
    return concatenate_padded(images, Field(padding=0))
