"""Measure the peak memory of training for several numbers of images and steps. Memory should depend
on neither number.

A small network is trained on synthetic photos. The source generates each photo when it is read, so
600,000 photos need no disk space. Every measurement runs in its own process; the result is the peak
resident memory reported by the operating system.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from record import record, row

IMAGES, STEPS = (10_000, 60_000, 600_000), (100, 1_000)
SIZE, BATCH, CLASSES = 32, 32, 10


def train(images: int, steps: int) -> float:
    """Train on `images` images for `steps` steps; return the peak resident memory in MiB."""
    from cvpipe.config import Classification
    from cvpipe.runtime import prepare_process

    config = Classification.model_validate(
        {
            "name": "memory",
            "task": "classification",
            "data": {"source": {"kind": "digits"}},
            "augment": [{"op": "random_resized_crop"}, {"op": "flip"}],
            "prepare": {"size": [SIZE, SIZE]},
            "model": {"backbone": "lenet5"},
            "optimizer": {"kind": "sgd", "learning_rate": 0.01},
            "train": {"epochs": 1, "batch_size": BATCH},
        }
    )
    prepare_process(config)
    import numpy as np
    import tensorflow as tf

    from cvpipe.data.sources.constructors import classification_source
    from cvpipe.data.stream import training_batches
    from cvpipe.tasks import load_task
    from cvpipe.training.build import build_state
    from cvpipe.training.step import make_run_steps

    def make_photo(record: tf.Tensor) -> dict[str, tf.Tensor]:
        seed = tf.stack([record, tf.constant(0, tf.int64)])
        coarse = tf.random.stateless_uniform([8, 8, 3], seed, 0, 256, tf.int32)
        return {"bytes": tf.io.encode_jpeg(tf.cast(tf.image.resize(coarse, [128, 160]), tf.uint8))}

    classes = tuple(map(str, range(CLASSES)))
    source = classification_source(
        classes,
        np.arange(images, dtype=np.int32) % CLASSES,
        make_photo,
        lambda record: f"train/{record:09}.jpg",
    )
    task = load_task(config, source.facts)
    state, _ = build_state(config, task, images)
    run_steps = make_run_steps(state, task, config, tf.distribute.get_strategy())
    batches = iter(
        training_batches(source, config, task.encode, None, first_step=0, last_step=steps)
    )
    for _ in range(steps // 50):
        run_steps(batches, tf.constant(50))
    assert int(state.step) == steps
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(images: int, steps: int) -> float:
    done = subprocess.run(
        [sys.executable, __file__, str(images), str(steps)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return round(float(done.stdout.split()[-1]), 1)


def main() -> None:
    by_images = {images: measure(images, STEPS[0]) for images in IMAGES}
    by_steps = {steps: measure(IMAGES[0], steps) for steps in STEPS[1:]}
    rows = [
        row(f"{images:,} images, {STEPS[0]} steps", value, "MiB", True)
        for images, value in by_images.items()
    ]
    rows += [
        row(f"{IMAGES[0]:,} images, {steps:,} steps", value, "MiB", True)
        for steps, value in by_steps.items()
    ]
    least = by_images[IMAGES[0]]
    rows += [
        row("most images / fewest", round(by_images[IMAGES[-1]] / least, 3), "", True),
        row("most steps / fewest", round(by_steps[STEPS[-1]] / least, 3), "", True),
    ]
    record("memory", rows)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(train(int(sys.argv[1]), int(sys.argv[2])))
    else:
        main()
