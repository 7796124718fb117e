"""Nothing leaves that answers differently from what was evaluated."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.config import Config, Segmentation
from cvpipe.data.decode import decode_image
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source
from cvpipe.data.stream import encoded_batches, evaluation_batches
from cvpipe.errors import UserError
from cvpipe.evaluation import Predict, ask, batch_size_of
from cvpipe.geometry.masks import IGNORED, concatenate_padded, overlay
from cvpipe.tasks import task_module

IMAGES = 64
# Whole images of any size, seen many times over: few show as much.
IMAGES_IN_TILES = 4
TOLERANCE = 1e-5
# The share of a mask's pixels that may differ, where two classes are all but equally probable.
PIXELS = 1e-4
_REPLAY = Path(__file__).with_name("replay.py")


def check_artefact(
    artefact: Path, predict: Predict, sources: Sequence[Source], config: Config
) -> dict[str, Any]:
    """Replays real images from bytes in a fresh process and compares every answer with
    evaluation's.

    Args:
        artefact: the SavedModel's folder.
        predict: what evaluation uses.
        sources: 64 readable images, or 4 that are answered in tiles, are taken, from the first
            source as long as it has any, then from
            the next; all there are where there are fewer. They are replayed together with one that
            can't be decoded.

    Returns:
        "images", "tolerance", "max_difference" over all floating-point answers but shares and both
        loaders, relative where an answer is
        above 1. Of the masks' pixels at least 99.99 % are the same, and shares are as near.

    Raises:
        UserError: an answer differs, a loader fails, or no image can be read.
    """
    encoded, images, extents = _real_images(sources, config)
    whole, prepared = (
        ask(predict, tf.constant(images), tf.constant(extents)),
        ask(predict, tf.constant(images)),
    )
    broken = np.array([*encoded, b"not an image"], dtype=object)
    requests = {
        "bytes:serving_default/image_bytes": broken,
        "one:serving_default/image_bytes": broken[:1],
        "prepared:tensor/image": images,
    }
    answers = _replay(artefact, requests)
    worst = 0.0
    for loader in ("v2", "v1"):
        many = len(images)
        for call, expected, count in (
            ("bytes:serving_default", whole, many),
            ("one:serving_default", whole, 1),
            ("prepared:tensor", prepared, many),
        ):
            for name, value in expected.items():
                given = answers[f"{loader}/{call}/{name}"][:count]
                worst = max(
                    worst,
                    _difference(artefact, name, f"{loader} loader, {call}", value[:count], given),
                )
        valid = answers[f"{loader}/bytes:serving_default/valid"]
        if not valid[:-1].all() or valid[-1]:
            raise UserError(
                f"{artefact}: refused, because 'valid' doesn't tell a broken image from good ones"
                f" ({loader} loader)"
            )
        if isinstance(config, Segmentation):
            _check_pictures(artefact, answers, f"{loader}/bytes:serving_default", encoded, config)
    return {"images": len(images), "tolerance": TOLERANCE, "max_difference": worst}


def _check_pictures(
    artefact: Path,
    answers: Mapping[str, np.ndarray],
    call: str,
    encoded: Sequence[bytes],
    config: Segmentation,
) -> None:
    """Check that PNG files show what the answer beside them says, to the last pixel."""
    for kind in config.export.png:
        for n, image in enumerate(encoded):
            height, width = answers[f"{call}/image_size"][n]
            mask = answers[f"{call}/mask"][n, :height, :width]
            expected = (
                mask[..., np.newaxis]
                if kind == "mask"
                else overlay(decode_image(tf.constant(image), config.prepare.channels), mask)
            )
            if not np.array_equal(tf.io.decode_png(answers[f"{call}/{kind}_bytes"][n]), expected):
                raise UserError(
                    f"{artefact}: refused, because {kind}_bytes of image {n} isn't its mask's"
                    " picture"
                )


def _real_images(
    sources: Sequence[Source], config: Config
) -> tuple[list[bytes], np.ndarray, np.ndarray]:
    """Encoded bytes, the same images as evaluation prepares them, and their extents, spread over
    whole splits.
    """
    wanted = IMAGES_IN_TILES if config.prepare.resize == "tile" else IMAGES
    # Of each split more than needed, in case some are bad.
    taken = list(itertools.islice(_readable(sources, config, 2 * wanted), wanted))
    if not taken:
        raise UserError(
            f"no image can be read to check the artefact with, such as {sources[0].name(0)}; mend"
            " the data"
        )
    encoded, images, extents = zip(*taken, strict=True)
    return (
        list(encoded),
        concatenate_padded([image[np.newaxis] for image in images]),
        np.stack(extents),
    )


def _readable(
    sources: Sequence[Source], config: Config, most: int
) -> Iterator[tuple[bytes, np.ndarray, np.ndarray]]:
    """The readable ones of at most `most` images of each source: a file's bytes, the prepared image
    and its extent.
    """
    encode, size = task_module(config.task).encode, batch_size_of(config)
    for source in sources:
        if not len(source):
            continue
        chosen = source.subset(np.unique(np.linspace(0, len(source) - 1, most).round().astype(int)))
        prepared = evaluation_batches(
            chosen, config, encode, Quarantine(chosen, "checked", 1.0), size
        )
        files = encoded_batches(chosen, config, encode, size)
        for batch, file in zip(
            prepared.as_numpy_iterator(), files.as_numpy_iterator(), strict=True
        ):
            for n in np.flatnonzero(batch["weight"]):
                yield file["bytes"][n], batch["image"][n], batch["extent"][n]


def _replay(artefact: Path, requests: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as scratch:
        requests_file, answers_file = Path(scratch) / "requests.npz", Path(scratch) / "answers.npz"
        np.savez(requests_file, **requests)  # type: ignore[arg-type]
        # -I: neither this folder nor the user's environment can lend the artefact any code.
        command = [
            sys.executable,
            "-I",
            str(_REPLAY),
            str(artefact),
            str(requests_file),
            str(answers_file),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ.copy(), check=False
        )
        if done.returncode:
            raise UserError(
                f"{artefact}: refused, because it can't be loaded and run in a fresh"
                f" process:\n{done.stderr[-2000:]}"
            )
        with np.load(answers_file, allow_pickle=True) as answers:
            return dict(answers)


def _difference(
    artefact: Path, name: str, call: str, expected: np.ndarray, given: np.ndarray
) -> float:
    """How far numbers are apart; what may differ in a few pixels, or not at all, is 0 apart.

    Raises UserError where it is too far.
    """
    what = f"{name} ({call})"
    if expected.dtype == np.uint8:
        expected = _cut(expected, given.shape)
    if expected.shape != given.shape:
        raise UserError(
            f"{artefact}: refused, because {what} has shape {given.shape}, evaluation's has"
            f" {expected.shape}"
        )
    if expected.dtype == np.uint8:
        # Of all images together: in a small one, a single pixel is more than the share that is
        # allowed. Padding is no pixel.
        share = float((expected != given).sum() / max((expected != IGNORED).sum(), 1))
        if share > PIXELS:
            raise UserError(
                f"{artefact}: refused, because {what} differs from evaluation in {share:.2%} of the"
                " pixels"
            )
        return 0.0
    if expected.dtype.kind != "f":
        # One value an image, or its size, is the answer itself. Lists of runners-up, which may
        # change places where they tie to the last bit, are compared by their probabilities.
        differs = (expected != given).reshape(len(expected), -1).any(1)
        if (expected.ndim == 1 or name == "image_size") and differs.any():
            raise UserError(
                f"{artefact}: refused, because {what} differs from evaluation for {differs.sum()}"
                " images"
            )
        return 0.0
    # Of numbers above 1, such as pixels, as a share: float32 has no more digits.
    apart = np.abs(expected - given) / np.maximum(np.abs(expected), 1)
    # Shares count a mask's pixels and differ where those do; of all images together, too.
    follows = name == "shares"
    difference, allowed = (
        (float(apart.mean(0).max()), PIXELS) if follows else (float(apart.max()), TOLERANCE)
    )
    if not difference <= allowed:
        raise UserError(
            f"{artefact}: refused, because {what} differs from evaluation by {difference:.2e};"
            f" allowed is {allowed:.0e}"
        )
    return 0.0 if follows else difference


def _cut(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The mask without padding: an image answered alone isn't padded to the size of others."""
    part = mask[tuple(slice(length) for length in shape)]
    return part if (part != IGNORED).sum() == (mask != IGNORED).sum() else mask
