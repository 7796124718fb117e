"""Files for TensorBoard: figures, and features of images for the embedding projector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.plugins import projector

from cvpipe.pictures.drawing.render import to_cards
from cvpipe.pictures.inside import sprite

FEATURES, METADATA, SPRITE = "features.tsv", "images.tsv", "sprite.png"


def write_tensorboard(folder: Path, figures: Mapping[str, Figure]) -> None:
    """Write figures by name as images of step 0."""
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(0):
        for name, figure in figures.items():
            cards = to_cards(figure)
            tf.summary.image(name, cards, max_outputs=len(cards))
    writer.close()


def write_projector(
    folder: Path,
    layer: str,
    features: np.ndarray,
    thumbnails: np.ndarray,
    names: Sequence[str],
    labels: Sequence[str],
) -> None:
    """Write features and thumbnails of images for TensorBoard's embedding projector.

    Args:
        folder: an existing folder, which TensorBoard treats as a run.
        layer: title of the features.
        features: float [N, F].
        thumbnails: uint8 [N, h, w, C], shown at the positions of the images.
        names: names of the images.
        labels: the class of each image; empty without classes.
    """
    np.savetxt(folder / FEATURES, features, fmt="%.6g", delimiter="\t")
    rows = [["image", "class"], *map(list, zip(names, labels or [""] * len(names), strict=True))]
    lines = ["\t".join(" ".join(cell.split()) for cell in row) for row in rows]
    (folder / METADATA).write_text("\n".join(lines) + "\n", encoding="utf-8")
    Image.fromarray(sprite(thumbnails)).save(folder / SPRITE)
    config = projector.ProjectorConfig()
    embedding = config.embeddings.add()
    embedding.tensor_name, embedding.tensor_path = layer, FEATURES
    embedding.metadata_path, embedding.sprite.image_path = METADATA, SPRITE
    embedding.sprite.single_image_dim.extend([thumbnails.shape[2], thumbnails.shape[1]])
    projector.visualize_embeddings(str(folder), config)
