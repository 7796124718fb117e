"""The input pipelines that `input_pipeline.py` compares, each in its own process: from JPEG files
to batches of flipped and normalized random resized crops.

All pipelines do the same work: read and decode a file, crop a random area (8 to 100 %) and aspect
ratio (3/4 to 4/3), resize bilinearly to 224×224, flip with probability 1/2, subtract ImageNet's
mean and divide by its standard deviation, batch 64 images as float32. The docstring of each
function states differences. Every function takes the folder of files and returns an endless
iterator of batches.
"""

from __future__ import annotations

import collections
import itertools
import math
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from turns import answer, timed

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# cvpipe's setting, here for all contestants that use TensorFlow. It also selects an allocator that
# reuses the memory of batches, which saves a fifth of the time.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

SIZE, BATCH, WORKERS = 224, 64, os.cpu_count()
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def cvpipe(folder: Path) -> Iterator[Any]:
    """Use the input pipeline of `cvpipe train`, which also handles Exif orientation, checks images,
    returns labels, and returns the same bits for the same seed.
    """
    from cvpipe.config import Classification
    from cvpipe.runtime import prepare_process

    config = Classification.model_validate(
        {
            "name": "input",
            "task": "classification",
            "data": {"source": {"kind": "folder", "path": str(folder)}},
            "augment": [
                {"op": "random_resized_crop", "area": AREA, "aspect": ASPECT},
                {"op": "flip"},
            ],
            "prepare": {"size": [SIZE, SIZE], "mean": MEAN, "std": STD},
            "model": {"backbone": "resnet50"},
            "optimizer": {"kind": "sgd", "learning_rate": 0.1},
            "train": {"epochs": 1, "batch_size": BATCH},
        }
    )
    prepare_process(config)
    from cvpipe.config.label_sources import Folder
    from cvpipe.data.sources.folder import folder as open_folder
    from cvpipe.data.stream import training_batches
    from cvpipe.tasks.classification import encode

    assert isinstance(config.data.source, Folder)
    source = open_folder(config.data.source)["all"]
    return iter(training_batches(source, config, encode, None, first_step=0, last_step=10**9))


def model_garden(folder: Path) -> Iterator[Any]:
    """Use `official.vision.dataloaders.classification_input.Parser` with its defaults. The parser
    decodes only the crop, and resizes without antialiasing.
    """
    from official.vision.dataloaders.classification_input import Parser

    parse = Parser([SIZE, SIZE], num_classes=2).parse_fn(is_training=True)
    return _in_tensorflow(
        folder, lambda encoded: parse({"image/encoded": encoded, "image/class/label": 0})[0]
    )


def keras_layers(folder: Path) -> Iterator[Any]:
    """Use Keras's Resizing, RandomFlip and Normalization in `Dataset.map`. Keras has no layer for
    random resized crops, so TensorFlow operations crop the images.
    """
    import keras
    import tensorflow as tf

    resize, normalize = (
        keras.layers.Resizing(SIZE, SIZE),
        keras.layers.Normalization(mean=MEAN, variance=[std**2 for std in STD]),
    )
    flip = keras.layers.RandomFlip("horizontal")

    def load(encoded: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_jpeg(encoded, channels=3)
        image = tf.slice(image, *_tensorflow_window(tf.shape(image)))
        return normalize(flip(resize(image), training=True) / 255)

    return _in_tensorflow(folder, load)


def plain_tensorflow(folder: Path) -> Iterator[Any]:
    """Use plain TensorFlow operations: read the image's size from the header, draw a window, and
    decode only the window. No antialiasing, Exif orientation or checks.
    """
    import tensorflow as tf

    def load(encoded: tf.Tensor) -> tf.Tensor:
        begin, size = _tensorflow_window(tf.io.extract_jpeg_shape(encoded))
        image = tf.io.decode_and_crop_jpeg(encoded, tf.concat([begin[:2], size[:2]], 0), channels=3)
        image = tf.image.resize(tf.image.random_flip_left_right(image), [SIZE, SIZE])
        return (image / 255 - MEAN) / STD

    return _in_tensorflow(folder, load)


def decode_alone(folder: Path) -> Iterator[Any]:
    """Only decode: `tf.io.decode_jpeg` of the whole image, of which one pixel goes into the batch.
    An upper bound for contestants that decode whole images.
    """
    import tensorflow as tf

    return _in_tensorflow(folder, lambda encoded: tf.io.decode_jpeg(encoded, channels=3)[0, 0])


def window_alone(folder: Path) -> Iterator[Any]:
    """Do only the first part of cvpipe's work: decode the window of the crop, of which one pixel
    goes into the batch.
    """
    return _in_tensorflow(folder, lambda encoded: _decoded_window(encoded)[0, 0])


def window_resized(folder: Path) -> Iterator[Any]:
    """Do only the first two parts of cvpipe's work: decode and resize the window. The rest of
    cvpipe's time goes into order, labels, checks, flips, normalization and float32 batches.
    """
    from cvpipe.data.augment.geometry import resize_window

    return _in_tensorflow(
        folder, lambda encoded: resize_window(_decoded_window(encoded), (SIZE, SIZE))[0, 0]
    )


def pytorch_opencv(folder: Path) -> Iterator[Any]:
    """Use a PyTorch `DataLoader` with OpenCV, without antialiasing."""
    import cv2
    import numpy as np
    import torch

    cv2.setNumThreads(0)
    # Division by 255 and normalization, as one multiplication and one addition.
    factor = np.tile(1 / (255 * np.array(STD, np.float32)), SIZE)
    offset = np.tile(np.array(MEAN, np.float32) / np.array(STD, np.float32), SIZE)

    def load(file: str) -> Any:
        image: Any = cv2.imread(file, cv2.IMREAD_COLOR_RGB)
        top, left, height, width = _window(*image.shape[:2])
        image = cv2.resize(
            image[top : top + height, left : left + width],
            (SIZE, SIZE),
            interpolation=cv2.INTER_LINEAR,
        )
        if random.random() < 0.5:
            image = cv2.flip(image, 1)
        normalized = image.reshape(SIZE, SIZE * 3) * factor - offset
        return torch.from_numpy(normalized.reshape(SIZE, SIZE, 3)).permute(2, 0, 1)

    return _in_pytorch(folder, load)


def pytorch_pil(folder: Path) -> Iterator[Any]:
    """Use a PyTorch `DataLoader` with Pillow, as torchvision's transforms do. Pillow resizes with
    antialiasing.
    """
    import numpy as np
    import torch
    from PIL import Image

    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))

    def load(file: str) -> Any:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        top, left, height, width = _window(image.height, image.width)
        image = image.crop((left, top, left + width, top + height)).resize(
            (SIZE, SIZE), Image.Resampling.BILINEAR
        )
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().to(torch.float32)
        return pixels.div_(255).sub_(mean).div_(std)

    return _in_pytorch(folder, load)


CONTESTANTS = {
    "cvpipe": cvpipe,
    "Model Garden": model_garden,
    "Keras layers": keras_layers,
    "PyTorch, OpenCV": pytorch_opencv,
    "PyTorch, PIL": pytorch_pil,
    "plain TensorFlow, by hand": plain_tensorflow,
    "decode alone": decode_alone,
    "the window decoded": window_alone,
    "the window decoded and resized": window_resized,
}


def _files(folder: Path) -> list[str]:
    return sorted(str(file) for file in folder.rglob("*.jpg"))


def _in_tensorflow(folder: Path, load: Any) -> Iterator[Any]:
    """Read files with tf.data, and return batches of what `load` returns for the bytes of a
    file.
    """
    import tensorflow as tf

    files = _files(folder)
    shuffled = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files)).repeat()
    loaded = shuffled.map(lambda file: load(tf.io.read_file(file)), tf.data.AUTOTUNE)
    return iter(loaded.batch(BATCH).prefetch(tf.data.AUTOTUNE))


def _decoded_window(encoded: Any) -> Any:
    """Return a random window of a JPEG, uint8, decoded as in cvpipe."""
    import tensorflow as tf

    from cvpipe.config.augment.crops import RandomResizedCrop
    from cvpipe.data.augment.geometry import random_window
    from cvpipe.data.crop import decode_window, reduction_of

    op = RandomResizedCrop(op="random_resized_crop", area=AREA, aspect=ASPECT)
    seed = tf.stack([tf.strings.to_hash_bucket_fast(encoded, 10**9), 0])
    window = random_window(tf.io.extract_jpeg_shape(encoded)[:2], seed, op)
    is_cmyk = tf.constant(False)
    return decode_window(encoded, window, reduction_of(window, (SIZE, SIZE)), is_cmyk, 3)


def _tensorflow_window(shape: Any) -> tuple[Any, Any]:
    """Return the begin and the size of a random crop, int32 [3] each."""
    import tensorflow as tf

    whole = tf.constant([0, 0, 1, 1], tf.float32, [1, 1, 4])
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        shape,
        whole,
        aspect_ratio_range=ASPECT,
        area_range=AREA,
        max_attempts=10,
        min_object_covered=0.08,
    )
    return begin, tf.concat([size[:2], [3]], 0)


def _in_pytorch(folder: Path, load: Any) -> Iterator[Any]:
    """Return batches of what `load` returns for a file name, from one worker process per core."""
    import torch

    class Photos(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 10**6

        def __getitem__(self, index: int) -> Any:
            return load(random.choice(files))

    files = _files(folder)
    return iter(
        torch.utils.data.DataLoader(
            Photos(), BATCH, num_workers=WORKERS, multiprocessing_context="fork"
        )
    )


def _window(height: int, width: int) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a random crop, drawn as in torchvision."""
    for _ in range(10):
        area = height * width * random.uniform(*AREA)
        aspect = math.exp(random.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            return random.randint(0, height - h), random.randint(0, width - w), h, w
    return 0, 0, height, width


def run(name: str, folder: Path, warm_up: int, count: int) -> None:
    """For each request, read `warm_up` batches, and time the next `count` batches."""

    def measure() -> float:
        # Make a new iterator each time: an idle iterator prefetches batches that would cost no
        # measured time.
        batches = CONTESTANTS[name](folder)
        for batch in itertools.islice(batches, warm_up):
            _check(batch, name)
        return timed(lambda: collections.deque(itertools.islice(batches, count), maxlen=0))()

    answer(measure)


def _check(batch: Any, name: str) -> None:
    if "decode" in name:
        return
    image = batch["image"] if isinstance(batch, dict) else batch
    assert tuple(image.shape) in {(BATCH, SIZE, SIZE, 3), (BATCH, 3, SIZE, SIZE)}, image.shape
    assert "float32" in str(image.dtype) and 0.2 < float(abs(image.numpy()).mean()) < 3, image.dtype


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
