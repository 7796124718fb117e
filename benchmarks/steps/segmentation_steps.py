"""Measure training steps of a segmenter:
segmentation_steps.py (cvpipe NETWORK | keras [off] | model_garden) SIZE CLASSES BATCH STEPS.

NETWORK is unet, a U-Net of a quarter of the published width, or fcn, an FCN-32s on ResNet-18 with
bilinear upsampling. Keras trains the same U-Net, built from Keras layers; `off` turns jit_compile
off. Model Garden trains its own ResNet-18 with predictions from the coarsest map, which its loss
upsamples bilinearly. All three train by SGD with momentum on one batch in memory, and compute no
scores.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from turns import answer, timed

ROOT = Path(__file__).parent.parent.parent
WIDTHS = (16, 32, 64, 128, 256)


def cvpipe_steps(
    network: str, size: int, classes: int, batch_size: int, steps: int
) -> Callable[[], object]:
    """Make `steps` steps in one call of the graph, as in training."""
    from cvpipe import config_file
    from cvpipe.runtime import prepare_process

    model = {
        "unet": "model={backbone: unet, width: 0.25, head: {kind: unet}}",
        "fcn": "model={backbone: resnet18, head: {kind: fcn, stride: 32, upsampling: fixed}}",
    }
    config = config_file.load(
        ROOT / "pipelines" / "segmentation" / "digit_scenes_fcn.yaml",
        [
            model[network],
            f"prepare.size=[{size}, {size}]",
            f"train.batch_size={batch_size}",
            "loss={kind: softmax}",
            "optimizer={kind: sgd, learning_rate: 0.01, momentum: 0.9}",
            "schedule={kind: constant}",
        ],
    )
    prepare_process(config)
    import tensorflow as tf

    from cvpipe.data.facts import Facts
    from cvpipe.tasks import load_task
    from cvpipe.training.build import build_state
    from cvpipe.training.step import make_run_steps

    images, masks = _batch(size, classes, batch_size)
    weight, index = tf.ones([batch_size]), tf.range(batch_size, dtype=tf.int64)
    batch = {
        "image": images,
        "targets": {"mask": tf.cast(masks, tf.uint8)},
        "weight": weight,
        "index": index,
    }
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    task = load_task(config, Facts(tuple(map(str, range(classes)))))
    state, _ = build_state(config, task, examples=batch_size * 1000)
    print(f"{state.networks['network'].count_params():,} parameters", file=sys.stderr)
    run_steps = make_run_steps(state, task, config, tf.distribute.get_strategy())
    return lambda: float(run_steps(batches, tf.constant(steps))["losses"]["loss"])


def keras_steps(
    jit: str, size: int, classes: int, batch_size: int, steps: int
) -> Callable[[], object]:
    """Make `steps` steps in one epoch of `fit`."""
    import keras
    import tensorflow as tf

    layers = keras.layers

    def convolutions(x: Any, filters: int) -> Any:
        for _ in range(2):
            x = layers.ReLU()(
                layers.BatchNormalization()(
                    layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
                )
            )
        return x

    image = keras.Input((size, size, 3))
    x, skips = image, []
    for level, filters in enumerate(WIDTHS):
        x = convolutions(layers.MaxPooling2D(2)(x) if level else x, filters)
        skips.append(x)
    for filters, skip in zip(WIDTHS[-2::-1], skips[-2::-1], strict=True):
        x = convolutions(
            layers.Concatenate()([skip, layers.Conv2DTranspose(filters, 2, 2)(x)]), filters
        )
    model = keras.Model(image, layers.Conv2D(classes, 1)(x))
    print(f"{model.count_params():,} parameters", file=sys.stderr)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        loss,
        jit_compile={"auto": "auto", "off": False}[jit],
    )
    dataset = tf.data.Dataset.from_tensors(_batch(size, classes, batch_size)).repeat()
    return lambda: model.fit(dataset, steps_per_epoch=steps, verbose=0)


def model_garden_steps(
    size: int, classes: int, batch_size: int, steps: int
) -> Callable[[], object]:
    """Run the task's `train_step` `steps` times in a `tf.function`, as Model Garden's trainer."""
    import tensorflow as tf
    import tf_keras
    from official.vision.configs import semantic_segmentation as configs
    from official.vision.tasks.semantic_segmentation import SemanticSegmentationTask

    config = configs.SemanticSegmentationTask()
    config.model.num_classes, config.model.input_size = classes, [size, size, 3]
    config.model.backbone.type, config.model.decoder.type = "resnet", "identity"
    config.model.backbone.resnet.model_id = 18
    config.model.min_level, config.model.max_level = 5, 5
    config.model.head.level, config.model.head.num_convs = 5, 0
    task = SemanticSegmentationTask(config)
    model, optimizer = task.build_model(), tf_keras.optimizers.SGD(0.01, momentum=0.9)
    print(f"{model.count_params():,} parameters", file=sys.stderr)
    images, masks = _batch(size, classes, batch_size)
    labels = {"masks": masks[..., tf.newaxis]}
    batches = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())

    @tf.function
    def run_steps() -> None:
        for _ in tf.range(steps):
            task.train_step(next(batches), model, optimizer)

    return run_steps


def _batch(size: int, classes: int, batch_size: int) -> Any:
    import tensorflow as tf

    images = tf.random.stateless_normal([batch_size, size, size, 3], [0, 0])
    return images, tf.random.stateless_uniform(
        [batch_size, size, size], [0, 1], 0, classes, tf.int32
    )


if __name__ == "__main__":
    kind, *words = sys.argv[1:]
    *chosen, size, classes, batch_size, steps = words
    numbers = (int(size), int(classes), int(batch_size), int(steps))
    match kind:
        case "cvpipe":
            work = cvpipe_steps(chosen[0], *numbers)
        case "keras":
            work = keras_steps(chosen[0] if chosen else "auto", *numbers)
        case _:
            work = model_garden_steps(*numbers)
    answer(timed(work))
