"""Warm-up of newly loaded models.

TensorFlow prepares a graph at its first call, and on accelerators again for each new batch size.
After a warm-up, clients don't wait for this.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from cvpipe.errors import UserError
from cvpipe.serving.models import BYTES_SIGNATURE, Servable

_SIZES = ((24, 40), (40, 24), (24, 24))


def warm(servable: Servable, sizes: Iterable[int]) -> bool:
    """Run a batch of each size through the signature for encoded images, if the model has one.

    Returns:
        True if the shapes of an image's outputs depend on the other images of its batch.

    Raises:
        UserError: the model fails on valid images.
    """
    images = servable.images_input
    if images is None:
        return False
    files = [_noise(size) for size in _SIZES]
    try:
        for size in sizes:
            _ask(servable, images, [files[n % 2] for n in range(size)])
        return _varies(servable, images, files)
    except tf.errors.OpError as error:
        raise UserError(
            f"{servable.folder}: the model fails on a warm-up image: {error.message}; export it"
            " again"
        ) from error


def _varies(servable: Servable, images: str, files: list[bytes]) -> bool:
    tall = _ask(servable, images, files[:1])
    both = _ask(servable, images, [files[0], files[1]])
    return any(tall[name].shape[1:] != both[name].shape[1:] for name in tall)


def _ask(servable: Servable, images: str, files: list[bytes]) -> dict[str, tf.Tensor]:
    given = {**servable.defaults(BYTES_SIGNATURE), images: tf.constant(files)}
    return servable.signatures[BYTES_SIGNATURE](**given)


def _noise(size: tuple[int, int]) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    encoded: bytes = tf.io.encode_png(pixels).numpy()
    return encoded
