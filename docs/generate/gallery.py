"""Generate the augmentation gallery: each operation with its settings and example pictures.

The photos are from scikit-learn (CC BY 2.0). Scenes with boxes are drawn by the source
`digit_scenes`.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from cvpipe.config.augment import color, combined, crops, geometry, policies
from cvpipe.config.augment.augmentation import Augmentation

FOLDER = Path(__file__).parents[1] / "augmentations"
# Strong settings with a probability of 1, so that the effects are visible.
SETTINGS: dict[str, dict[str, Any]] = {
    "flip": {"probability": 1},
    "pad_crop": {"padding": 24},
    "random_resized_crop": {"area": [0.2, 0.8]},
    "short_side_crop": {"sides": [112, 180]},
    "scale_crop": {"scale": [0.5, 2.0]},
    "rotate": {"degrees": 30},
    "translate": {"share": 0.2},
    "shear": {"degrees": 25},
    "lens": {"strength": 0.4},
    "elastic": {"share": 0.03, "points": 5},
    "color_jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.6, "hue": 0.1},
    "pca_lighting": {"std": 0.3},
    "grayscale": {"probability": 1},
    "erase": {"probability": 1},
    "cutout": {"size": 0.5},
    "rand_augment": {"layers": 2, "magnitude": 9},
    "auto_augment": {"policy": "imagenet"},
    "expand": {"probability": 1, "ratio": 3},
    "iou_crop": {},
    "scale_jitter": {},
    "mosaic": {"probability": 1},
    "copy_paste": {"probability": 1},
    "object_mixup": {"probability": 1},
    "mixup": {"alpha": 1},
    "cutmix": {"alpha": 1},
}
WITH_BOXES = ("expand", "iou_crop", "scale_jitter", "mosaic", "copy_paste", "object_mixup")
HEIGHT, WIDTH, DRAWS = 112, 168, 3
QUALITY = 80


def section_of(op: str) -> type[Any]:
    """Return the section of an operation."""
    files = (geometry, crops, color, policies, combined)
    known = [value for file in files for value in vars(file).values() if isinstance(value, type)]
    return next(kind for kind in known if op in _ops(kind))


def _ops(kind: type[Any]) -> tuple[str, ...]:
    field = getattr(kind, "model_fields", {}).get("op")
    return get_args(field.annotation) if field else ()


def gallery() -> str:
    """Return a section for each operation: description, settings of the picture, and picture."""
    return "\n".join(
        f"### {op}\n\n{_meaning(op)}\n\n```yaml\n{_line(op, settings)}\n```\n\n"
        f"![{op}: an image and {DRAWS} results](augmentations/{op}.jpg)\n"
        for op, settings in SETTINGS.items()
    )


def _meaning(op: str) -> str:
    return textwrap.fill(" ".join(str(section_of(op).__doc__).split()), 100)


def _line(op: str, settings: Mapping[str, Any]) -> str:
    pairs = [f"op: {op}", *(f"{key}: {json.dumps(value)}" for key, value in settings.items())]
    key = "mix" if op in ("mixup", "cutmix") else "augment"
    return f"{key}: [{{{', '.join(pairs)}}}]".replace('"', "")


def draw_gallery() -> None:
    """Write the pictures, each with the original image and three augmented images."""
    import numpy as np
    import tensorflow as tf

    FOLDER.mkdir(exist_ok=True)
    for op, settings in SETTINGS.items():
        section = section_of(op)(op=op, **settings)
        strip = np.concatenate([_cell(example) for example in _examples(op, section)], axis=1)
        content = tf.io.encode_jpeg(strip, quality=QUALITY, optimize_size=True)
        (FOLDER / f"{op}.jpg").write_bytes(content.numpy())
        print(f"wrote docs/augmentations/{op}.jpg, {len(content.numpy()):,} bytes")


def _examples(op: str, section: Augmentation) -> list[dict[str, Any]]:
    """Return the original example, and the example augmented with three seeds."""
    import numpy as np
    import tensorflow as tf

    from cvpipe.data.augment import augment
    from cvpipe.data.order import example_seed

    if op in ("mixup", "cutmix"):
        return _mixed(section)
    photo = {"image": tf.constant(_photo("china.jpg")), "label": tf.constant(0)}
    pixels = np.reshape(photo["image"], [-1, 3]) / 255
    values, vectors = np.linalg.eigh(np.cov(pixels.T))
    read: Callable[[int], dict[str, Any]] = _scenes() if op in WITH_BOXES else lambda number: photo
    return [
        read(0),
        *(
            augment(
                read(0),
                example_seed(0, tf.constant(draw, tf.int64), tf.constant(0, tf.int64)),
                [section],
                (HEIGHT, WIDTH),
                colors=(values.astype(np.float32), vectors.astype(np.float32)),
                partner=lambda number, draw=draw: read(1 + 3 * draw + number),
            )
            for draw in range(DRAWS)
        ),
    ]


def _mixed(section: Any) -> list[dict[str, Any]]:
    import tensorflow as tf

    from cvpipe.data.augment.mix import mix

    pair = tf.stack([_photo("china.jpg"), _photo("flower.jpg")])
    images = tf.cast(tf.repeat(pair[tf.newaxis], DRAWS, 0), tf.float32)
    batch = {
        "image": tf.reshape(images, [2 * DRAWS, HEIGHT, WIDTH, 3]),
        "targets": {},
        "weight": tf.ones([2 * DRAWS]),
    }
    seeds = tf.stack([tf.range(2 * DRAWS, dtype=tf.int64), tf.zeros([2 * DRAWS], tf.int64)], 1)
    return [
        {"image": _photo("china.jpg")},
        *({"image": image} for image in mix(batch, seeds, [section])["image"][::2]),
    ]


def _photo(name: str) -> Any:
    """Return a photo from scikit-learn, uint8 [HEIGHT, WIDTH, 3]."""
    import tensorflow as tf
    from sklearn.datasets import load_sample_image

    small = tf.image.resize(load_sample_image(name), (HEIGHT, WIDTH), antialias=True)
    return tf.cast(tf.round(small), tf.uint8).numpy()


def _scenes() -> Callable[[int], dict[str, Any]]:
    """Return scenes with boxes by number."""
    import tensorflow as tf

    from cvpipe.config.digits import DigitScenes
    from cvpipe.data.sources.digit_scenes import digit_scenes

    section = DigitScenes(kind="digit_scenes", size=(HEIGHT, WIDTH), train=12, test=1, validation=1)
    source = digit_scenes(section)["train"]
    return lambda number: source.read(tf.constant(number, tf.int64))


def _cell(example: Mapping[str, Any]) -> Any:
    """Return an example as pixels of the gallery, uint8 [HEIGHT, WIDTH + 4, 3], with its boxes."""
    import numpy as np
    import tensorflow as tf

    image = tf.cast(tf.clip_by_value(example["image"], 0, 255), tf.float32)[tf.newaxis] / 255
    small = tf.image.resize_with_pad(image, HEIGHT, WIDTH, antialias=True)
    if "boxes" in example:
        height, width = (float(side) for side in image.shape[1:3])
        scale = min(HEIGHT / height, WIDTH / width)
        share = np.array([height * scale / HEIGHT, width * scale / WIDTH] * 2)
        boxes = np.asarray(example["boxes"]) * share + np.tile((1 - share[:2]) / 2, 2)
        small = tf.image.draw_bounding_boxes(small, boxes[np.newaxis], [[1.0, 1.0, 0.0]])
    pixels = np.round(small[0].numpy() * 255).astype(np.uint8)
    return np.pad(pixels, ((0, 0), (0, 4), (0, 0)), constant_values=255)
