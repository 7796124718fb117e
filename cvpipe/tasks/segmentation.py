"""Segmentation: the class of every pixel.

Dimensions: B images, H, W the largest height and width among them, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from cvpipe import drawing
from cvpipe.config import Segmentation
from cvpipe.data.prepare import prepare_mask, prepare_tile, restore_rows
from cvpipe.data.sources import Example
from cvpipe.geometry.masks import overlay, pad_to_room
from cvpipe.geometry.tiles import fold_rows, join_row, tiles_along
from cvpipe.losses import segmentation as losses
from cvpipe.metrics.segmentation import SegmentationMetrics
from cvpipe.models.build import make_style
from cvpipe.models.segmentation import segmentation_network

BEST_BY = "mean_iou"
"""The validation score whose highest value marks the best checkpoint."""
STRIP = 256
"""Rows of an image that are answered at once: what bounds memory."""
Network = Callable[[tf.Tensor], Mapping[str, tf.Tensor]]


def build_model(
    config: Segmentation, classes: tuple[str, ...], synchronized: bool = False
) -> keras.Model:
    """The network: float32 [B, H, W, C] to {"logits": float32 [B, h, w, K]}, see
    `models.segmenters`.

    `synchronized` lets BatchNorm's statistics span all replicas, so that a result doesn't depend on
    their number.
    """
    return segmentation_network(config, len(classes), make_style(config.model, synchronized))


def encode(example: Example, config: Segmentation) -> dict[str, tf.Tensor]:
    """Return the mask that training compares answers with: {"mask": uint8 [h, w]}."""
    stride = config.model.head.output_stride
    height, width = config.prepare.size
    size = (-(-height // stride), -(-width // stride))
    return {"mask": prepare_mask(example["mask"], config.prepare, size)[..., 0]}


def truth(example: Example, config: Segmentation) -> dict[str, tf.Tensor]:
    """An example's mask as it stands, for evaluation: {"mask": uint8 [its height, its width]}."""
    return {"mask": example["mask"][..., 0]}


def loss_names(config: Segmentation) -> tuple[str, ...]:
    """The names of what `loss` returns."""
    return losses.part_names(config.loss)


def loss(
    outputs: dict[str, tf.Tensor], targets: dict[str, tf.Tensor], config: Segmentation
) -> dict[str, tf.Tensor]:
    """Return the parts of the loss, float32 [B] each; the train step weighs and sums them."""
    return losses.segmentation_loss(outputs["logits"], targets["mask"], config.loss)


def average(outputs: dict[str, tf.Tensor], config: Segmentation) -> dict[str, tf.Tensor]:
    """What several networks answer together: {"logits": float32 [M, B, h, w, K]} to the logits of
    their mean probabilities.
    """
    logits = outputs["logits"]
    members = tf.cast(tf.shape(logits)[0], logits.dtype)
    return {"logits": tf.reduce_logsumexp(tf.nn.log_softmax(logits), axis=0) - tf.math.log(members)}


def settings(config: Segmentation) -> dict[str, float | int]:
    """What whoever asks an artefact may choose: nothing."""
    return {}


def predict(
    outputs: dict[str, tf.Tensor],
    config: Segmentation,
    classes: tuple[str, ...],
    extent: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """The answer, the same in evaluation and in the artefact.

    Args:
        extent: int32 [B, 2], height and width of the images before they were resized; None where it
            was to the network's input.

    Returns:
        "mask" uint8 [B, H, W], the most probable class of each pixel of those images, and 255
        beyond a smaller one's edges;
        "image_size" int32 [B, 2]; "class_names" string [B, K]; "shares" float32 [B, K], each
        class's share of the image's pixels, and
        "mean_probabilities" float32 [B, K], its probability's mean over them.
    """
    logits = outputs["logits"]
    if extent is None:
        size = tf.tile([config.prepare.size], [tf.shape(logits)[0], 1])
        masks, sums = _finish(tf.nn.softmax(tf.image.resize(logits, config.prepare.size)))
        return _answers(masks, sums, size, classes)
    # An image that can't be read has no pixels; no layer can work with none.
    extent = tf.maximum(extent, 1)
    room = tf.reduce_max(extent, 0)

    def answer(one: tuple[tf.Tensor, tf.Tensor]) -> Any:
        values, size = one
        rows = min(STRIP, config.prepare.size[0])
        mask, sums = fold_rows(
            lambda number: tf.nn.softmax(
                restore_rows(values, size, number * rows, rows, config.prepare)
            ),
            size,
            len(classes),
            rows,
            0,
            _finish,
        )
        return pad_to_room(mask, room), sums

    masks, sums = tf.map_fn(
        answer, (logits, extent), parallel_iterations=1, fn_output_signature=_signature(classes)
    )
    return _answers(masks, sums, extent, classes)


def predict_in_tiles(
    network: Network,
    images: tf.Tensor,
    config: Segmentation,
    classes: tuple[str, ...],
    extent: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """The answer to images of any size, where `prepare.resize` is tile.

    Args:
        network: from prepared images, float32 [1, …], to its outputs.
        images: uint8 [B, H, W, C].
        extent: int32 [B, 2], how much of each, from its upper left corner, is image; None for all
            of it.

    Returns:
        As `predict` does.
    """
    if extent is None:
        extent = tf.tile(tf.shape(images)[tf.newaxis, 1:3], [tf.shape(images)[0], 1])
    extent = tf.maximum(extent, 1)
    (height, width), overlap = config.prepare.size, config.prepare.overlap

    def answer(one: tuple[tf.Tensor, tf.Tensor]) -> Any:
        image, size = one
        image = image[: size[0], : size[1]]

        def tile(corner: tf.Tensor) -> tf.Tensor:
            logits = network(prepare_tile(image, corner, config.prepare)[tf.newaxis])["logits"]
            return tf.nn.softmax(tf.image.resize(logits, config.prepare.size))[0]

        def row(number: tf.Tensor) -> tf.Tensor:
            left = tf.range(tiles_along(size[1], width, overlap)) * (width - overlap)
            corners = tf.stack([tf.fill(tf.shape(left), number * (height - overlap)), left], 1)
            spec = tf.TensorSpec([height, width, len(classes)])
            return join_row(
                tf.map_fn(tile, corners, parallel_iterations=1, fn_output_signature=spec), overlap
            )

        mask, sums = fold_rows(row, size, len(classes), height, overlap, _finish)
        return pad_to_room(mask, tf.shape(images)[1:3]), sums

    if images.shape[0] == 1:
        # A loop would copy the image, which may be most of the memory there is.
        masks, sums = tf.nest.map_structure(
            lambda only: only[tf.newaxis], answer((images[0], extent[0]))
        )
    else:
        masks, sums = tf.map_fn(
            answer, (images, extent), parallel_iterations=1, fn_output_signature=_signature(classes)
        )
    return _answers(masks, sums, extent, classes)


def metrics(config: Segmentation, classes: tuple[str, ...]) -> SegmentationMetrics:
    """What evaluation accumulates."""
    return SegmentationMetrics(classes)


def draw_targets(
    pixels: np.ndarray,
    targets: Mapping[str, np.ndarray],
    config: Segmentation,
    classes: tuple[str, ...],
) -> Figure:
    """Prepared images uint8 [N, H, W, C] beside their masks."""
    rows = [
        (image, _placed(mask, mask.shape, image, config))
        for image, mask in zip(pixels, targets["mask"], strict=True)
    ]
    return drawing.masks_table(
        [[image, overlay(image, mask).numpy()] for image, mask in rows], ["image", "truth"], classes
    )


def draw_answers(
    pixels: np.ndarray,
    targets: Mapping[str, np.ndarray],
    predictions: Mapping[str, np.ndarray],
    config: Segmentation,
    classes: tuple[str, ...],
) -> Figure:
    """Prepared images uint8 [N, H, W, C] beside their masks and the answers."""
    rows = []
    for image, true, answer, size in zip(
        pixels, targets["mask"], predictions["mask"], predictions["image_size"], strict=True
    ):
        shown = image[: size[0], : size[1]] if config.prepare.resize == "tile" else image
        rows.append(
            [
                shown,
                *(
                    overlay(shown, _placed(mask, size, shown, config)).numpy()
                    for mask in (true, answer)
                ),
            ]
        )
    return drawing.masks_table(rows, ["image", "truth", "answer"], classes)


def draw_scores(scores: Mapping[str, Any]) -> dict[str, Figure]:
    """Pictures of what `metrics` counted: which classes are taken for which, and each one's IoU."""
    counts = np.array(scores["confusion_matrix"])
    shares = np.round(100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)).astype(int)
    ious = {name: float(np.nan_to_num(own["iou"])) for name, own in scores["per_class"].items()}
    return {
        "confusion_matrix": drawing.confusion_matrix(shares, list(ious)),
        "class_iou": drawing.bars(ious, "IoU"),
    }


def to_answer(predictions: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """The nth of a batch of answers for people and programs.

    "image_size" [height, width]; "shares" {class name: its share of the pixels}, falling, without
    those that don't occur; "mask", the label of every pixel as runs along the rows, {"labels": a
    label each, "lengths": pixels each}.
    """
    height, width = predictions["image_size"][n].tolist()
    pixels = predictions["mask"][n][:height, :width].ravel()
    starts = np.flatnonzero(np.diff(pixels, prepend=-1))
    named = zip(
        (name.decode() for name in predictions["class_names"][n]),
        predictions["shares"][n].tolist(),
        strict=True,
    )
    shares = {name: share for name, share in sorted(named, key=lambda pair: -pair[1]) if share > 0}
    runs = {
        "labels": pixels[starts].tolist(),
        "lengths": np.diff(starts, append=len(pixels)).tolist(),
    }
    return {"image_size": [height, width], "shares": shares, "mask": runs}


def draw_answer(pixels: np.ndarray, answer: Mapping[str, Any]) -> Figure:
    """One image uint8 [H, W, C] under one answer of `to_answer`."""
    runs = answer["mask"]
    mask = np.repeat(np.array(runs["labels"], np.uint8), runs["lengths"]).reshape(
        answer["image_size"]
    )
    title = ", ".join(f"{name} {share:.0%}" for name, share in answer["shares"].items())
    return drawing.image_grid(overlay(pixels, mask).numpy()[np.newaxis], [title])


def expected_initial_loss(config: Segmentation, classes: int) -> float | None:
    """What an untrained network should lose; without what l1 and l2 add."""
    return losses.expected_initial_loss(config.loss, classes)


def _finish(probabilities: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Of pixels [..., rows, W, K] the best class, uint8 [..., rows, W], and each class's pixels and
    probability, float64 [..., K].
    """
    best = tf.argmax(probabilities, -1, output_type=tf.int32)
    pixels = [
        tf.math.count_nonzero(best == label, [-2, -1]) for label in range(probabilities.shape[-1])
    ]
    # Sums of strips in float32, of whole images in float64: a hundred million pixels are more than
    # float32 can count.
    sums = {"pixels": tf.stack(pixels, -1), "probability": tf.reduce_sum(probabilities, [-3, -2])}
    return tf.cast(best, tf.uint8), tf.nest.map_structure(
        lambda total: tf.cast(total, tf.float64), sums
    )


def _signature(classes: tuple[str, ...]) -> Any:
    total = tf.TensorSpec([len(classes)], tf.float64)
    return tf.TensorSpec([None, None], tf.uint8), {"pixels": total, "probability": total}


def _answers(
    masks: tf.Tensor, sums: Mapping[str, tf.Tensor], extent: tf.Tensor, classes: tuple[str, ...]
) -> dict[str, tf.Tensor]:
    pixels = tf.cast(tf.maximum(tf.reduce_prod(extent, 1, keepdims=True), 1), tf.float64)
    return {
        "mask": masks,
        "image_size": extent,
        "class_names": tf.tile([classes], [tf.shape(extent)[0], 1]),
        "shares": tf.cast(sums["pixels"] / pixels, tf.float32),
        "mean_probabilities": tf.cast(sums["probability"] / pixels, tf.float32),
    }


def _placed(
    mask: np.ndarray, size: np.ndarray | tuple[int, ...], image: np.ndarray, config: Segmentation
) -> np.ndarray:
    """The part of a mask that is `size`, uint8 [H, W], where its prepared image shows it."""
    part = tf.constant(mask[: size[0], : size[1], np.newaxis])
    if config.prepare.resize == "tile" or part.shape[:2] == image.shape[:2]:
        return tf.image.resize(part, image.shape[:2], "nearest")[..., 0].numpy()
    return prepare_mask(part, config.prepare)[..., 0].numpy()
