"""Measure the time of the signature for encoded images, compared with decoding alone and with the
signature for prepared images.

    python benchmarks/bytes_signature.py

The networks are exported untrained. "decode alone" decodes and prepares the same batch in one
graph, in parallel. It doesn't check images, so an undecodable image makes it fail.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from record import record, row
from turns import median_seconds, timed

BATCH, ROUNDS, CALLS = 8, 11, 3
CASES = {
    "ResNet-20, PNG of 8×8": {"model": {"backbone": "resnet20"}, "size": 16, "file": ("PNG", 8)},
    "MobileNetV2, JPEG of 224×224": {
        "model": {"backbone": "mobilenet_v2"},
        "size": 224,
        "file": ("JPEG", 224),
    },
    "MobileNetV2, JPEG of 640×480": {
        "model": {"backbone": "mobilenet_v2"},
        "size": 224,
        "file": ("JPEG", 480),
    },
}


def main() -> None:
    """Measure all cases; the contestants of a case are measured alternately."""
    rows, worst = [], 0.0
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            seconds = median_seconds(_contestants(case, Path(scratch) / "1"), ROUNDS)
        limit = seconds["decode alone"] + seconds["tensor"]
        worst = max(worst, seconds["bytes"] / limit)
        for contestant, value in {**seconds, "decode alone + tensor": limit}.items():
            rows.append(
                row(
                    f"{name}, {contestant}",
                    value / CALLS * 1e3,
                    "ms",
                    contestant.startswith("bytes"),
                )
            )
    record("bytes_signature", rows, to_limit=worst)


def _contestants(case: dict[str, Any], folder: Path) -> dict[str, Callable[[], float]]:
    from cvpipe.config import Classification
    from cvpipe.runtime import prepare_process

    size, (kind, side) = case["size"], case["file"]
    config = Classification.model_validate(
        {
            "name": "bytes",
            "task": "classification",
            "data": {"source": {"kind": "digits"}},
            "prepare": {"size": [size, size]},
            "model": case["model"],
            "optimizer": {"kind": "sgd"},
            "train": {"epochs": 1, "batch_size": BATCH},
        }
    )
    prepare_process(config)
    import tensorflow as tf

    from cvpipe.data.decode import decode_image
    from cvpipe.data.facts import Facts
    from cvpipe.data.prepare import input_spec, prepare
    from cvpipe.evaluation import make_predict
    from cvpipe.export.saved_model import write_saved_model
    from cvpipe.tasks import load_task

    task = load_task(config, Facts(tuple("0123456789")))
    members = [task.build(False)]
    predict = make_predict(members, task, config)
    write_saved_model(folder, members, predict, task, config, {})
    loaded = tf.saved_model.load(str(folder))
    encoded = tf.constant([_file(kind, side, number) for number in range(BATCH)])
    broken = tf.concat([encoded[1:], [b"no image"]], 0)
    spec = tf.TensorSpec([size, size, 3])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def decode(batch: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(
            lambda content: prepare(decode_image(content, 3), config.prepare),
            batch,
            fn_output_signature=spec,
            parallel_iterations=16,
        )

    images = decode(encoded)
    assert images.shape[1:] == input_spec(config).shape[1:]
    signatures = loaded.signatures

    def repeated(call: Callable[[], object]) -> Callable[[], float]:
        return timed(lambda: [call() for _ in range(CALLS)])

    return {
        "bytes": repeated(lambda: signatures["serving_default"](image_bytes=encoded)),
        "bytes, one of them bad": repeated(
            lambda: signatures["serving_default"](image_bytes=broken)
        ),
        "decode alone": repeated(lambda: decode(encoded)),
        "tensor": repeated(lambda: (signatures["tensor"](image=images), loaded)),
    }


def _file(kind: str, side: int, seed: int) -> bytes:
    """Return an image file that resembles a photo: smooth colors and some noise."""
    import io

    import numpy as np
    from PIL import Image

    random = np.random.default_rng(seed)
    width = side if side < 300 else side * 4 // 3
    coarse = random.integers(0, 256, (max(side // 16, 2), max(width // 16, 2), 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, side), Image.Resampling.BICUBIC))
    noisy = np.clip(smooth + random.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noisy).save(stream, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return stream.getvalue()


if __name__ == "__main__":
    main()
