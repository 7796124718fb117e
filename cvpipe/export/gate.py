"""The gate, which refuses artifacts whose answers differ from those of evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.decode import decode_image
from cvpipe.data.prepare import input_spec
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source
from cvpipe.data.stream import encoded_batches, evaluation_batches
from cvpipe.errors import UserError
from cvpipe.evaluation import Predict, ask, batch_size_of
from cvpipe.export.about import VALID
from cvpipe.export.compare import STRICT, Refused, Tolerance
from cvpipe.export.explained import EXPLAIN
from cvpipe.export.fresh_process import FreshProcessError, run_script
from cvpipe.export.ranks import largest_difference
from cvpipe.fields import Field, concatenate_padded
from cvpipe.tasks.task import Networks, Request, Task

IMAGES = 64
# Number of images if images keep their own size. These images are large and cut into many tiles, so
# a few are enough.
IMAGES_OF_ANY_SIZE = 4
# Number of images with maps. Some methods of maps run the network hundreds of times per image.
EXPLAINED = 8
# Images that keep their own size are padded to form a batch; their extents give the sizes before
# padding.
IMAGE = Field(padding=0)
_REPLAY = Path(__file__).with_name("replay.py")
Measured = dict[str, int | float]


def check_artifact(
    artifact: Path,
    predict: Predict,
    sources: Sequence[Source],
    task: Task,
    config: Config,
    tolerance: Tolerance = STRICT,
    explained: Predict | None = None,
) -> Measured:
    """Run the artifact on real images in a fresh process and compare every answer with evaluation's
    by the rules of `Task.answers`.

    Args:
        artifact: the SavedModel's folder.
        predict: the prediction function of evaluation.
        sources: sources of up to 64 readable images, or of 4 if images keep their own size. Later
            sources are used only if earlier sources have too few. An undecodable image is added.
        task: the task, which defines the comparison of answers.
        tolerance: allowed differences.
        explained: from `with_maps`, if the artifact has the signature `explain`.

    Returns:
        "images", "tolerance" and "max_difference": the largest difference over both loaders and all
        answers compared as "close", relative for values above 1.

    Raises:
        UserError: an answer differs, a loader fails, or no image can be read.
    """
    encoded, images, extents = real_images(sources, task, config)
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
    many, worst = len(images), 0.0
    calls = [
        ("bytes:serving_default", whole, many),
        ("one:serving_default", whole, 1),
        ("prepared:tensor", prepared, many),
    ]
    if explained:
        few = min(EXPLAINED, many)
        requests[f"maps:{EXPLAIN}/image_bytes"] = np.array(
            [*encoded[:few], broken[-1]], dtype=object
        )
        maps = ask(explained, tf.constant(images[:few]), tf.constant(extents[:few]))
        calls.append((f"maps:{EXPLAIN}", maps, few))
    answers = _replay(artifact, requests)
    for loader in ("v2", "v1"):
        for call, expected, count in calls:
            first = {name: value[:count] for name, value in expected.items()}
            actual = {name: answers[f"{loader}/{call}/{name}"][:count] for name in expected}
            where = f"{loader} loader, {call}"
            worst = max(worst, _compared(artifact, task, where, first, actual, tolerance))
        call = f"{loader}/bytes:serving_default"
        valid = answers[f"{call}/{VALID}"]
        if not valid[:-1].all() or valid[-1]:
            raise UserError(
                f"{artifact}: refused, because '{VALID}' does not distinguish a damaged image"
                f" from good ones ({loader} loader)"
            )
        if task.decorate:
            actual = {name: answers[f"{call}/{name}"] for name in whole}
            added = _decorations(task.decorate, encoded, actual, config)
            found = {name: answers[f"{call}/{name}"][:many] for name in added}
            _compared(artifact, task, f"{loader} loader", added, found)
    return {"images": many, "tolerance": tolerance.close, "max_difference": worst}


def check_requests(
    artifact: Path, networks: Networks, requests: Sequence[Request], task: Task
) -> Measured:
    """Run a task's signatures on their samples in a fresh process and compare every answer with
    that of the networks.

    Results and errors are those of `check_artifact`; "images" is the number of samples.
    """
    inputs_by_name = {
        f"request:{request.name}/{key}": np.asarray(value)
        for request in requests
        for key, value in request.samples.items()
    }
    answers = _replay(artifact, inputs_by_name)
    worst = 0.0
    for request, loader in itertools.product(requests, ("v2", "v1")):
        inputs = {key: tf.constant(value) for key, value in request.samples.items()}
        expected = {name: value.numpy() for name, value in request.answer(**inputs).items()}
        call = f"request:{request.name}"
        actual = {name: answers[f"{loader}/{call}/{name}"] for name in expected}
        worst = max(worst, _compared(artifact, task, f"{loader} loader, {call}", expected, actual))
    samples = sum(len(value) for value in inputs_by_name.values() if np.ndim(value))
    return {"images": samples, "tolerance": STRICT.close, "max_difference": worst}


def _compared(
    artifact: Path,
    task: Task,
    call: str,
    expected: Mapping[str, np.ndarray],
    actual: Mapping[str, np.ndarray],
    tolerance: Tolerance = STRICT,
) -> float:
    """Return the largest difference of all answers. Raise UserError if one exceeds the
    tolerance.
    """
    try:
        return largest_difference(expected, actual, task.answers, tolerance, call)
    except Refused as reason:
        raise UserError(f"{artifact}: refused, because {reason}") from None


def _decorations(
    decorate: Callable[[tf.Tensor, dict[str, tf.Tensor]], dict[str, tf.Tensor]],
    encoded: Sequence[bytes],
    answers: Mapping[str, np.ndarray],
    config: Config,
) -> dict[str, np.ndarray]:
    """Compute the answers of `Task.decorate` for each image."""
    each = []
    for n, image in enumerate(encoded):
        pixels = decode_image(tf.constant(image), config.prepare.channels)
        of_image = {name: tf.constant(value[n]) for name, value in answers.items()}
        each.append({name: value.numpy() for name, value in decorate(pixels, of_image).items()})
    return {
        name: np.array([decorated[name] for decorated in each], dtype=object) for name in each[0]
    }


def real_images(
    sources: Sequence[Source], task: Task, config: Config
) -> tuple[list[bytes], np.ndarray, np.ndarray]:
    """Return images spread evenly over the splits: encoded bytes, the same images prepared, and
    their extents.
    """
    fixed_size = input_spec(config).shape[1:].is_fully_defined()
    count = IMAGES if fixed_size else IMAGES_OF_ANY_SIZE
    # Read twice as many images as needed from each split, in case some are unreadable.
    taken = list(itertools.islice(_readable(sources, task, config, 2 * count), count))
    if not taken:
        raise UserError(
            f"no image can be read to check the artifact, for example {sources[0].name(0)};"
            " check the data"
        )
    encoded, images, extents = zip(*taken, strict=True)
    return (
        list(encoded),
        concatenate_padded([image[np.newaxis] for image in images], IMAGE),
        np.stack(extents),
    )


def _readable(
    sources: Sequence[Source], task: Task, config: Config, most: int
) -> Iterator[tuple[bytes, np.ndarray, np.ndarray]]:
    """Yield the readable images among at most `most` of each source: encoded bytes, prepared image
    and extent.
    """
    size = batch_size_of(config)
    for source in sources:
        if not len(source):
            continue
        chosen = source.subset(np.unique(np.linspace(0, len(source) - 1, most).round().astype(int)))
        quarantine = Quarantine(chosen, "checked", 1.0)
        prepared = evaluation_batches(chosen, config, task.encode, quarantine, size)
        files = encoded_batches(chosen, config, task.encode, size)
        for batch, file in zip(prepared, files, strict=True):
            image, extent, encoded = (
                values.numpy() for values in (batch["image"], batch["extent"], file["bytes"])
            )
            for n in np.flatnonzero(batch["weight"]):
                yield encoded[n], image[n], extent[n]


def _replay(artifact: Path, requests: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    try:
        return run_script(_REPLAY, [str(artifact)], requests)
    except FreshProcessError as error:
        raise UserError(
            f"{artifact}: refused, because it can't be loaded and run in a fresh process:\n{error}"
        ) from None
