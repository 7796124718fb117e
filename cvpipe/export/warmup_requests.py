"""Warm-up requests, which TensorFlow Serving runs while it loads a version, so that the first
client does not wait for initialization.

Source: TF Serving, "SavedModel Warmup".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from cvpipe.export.replay import default_inputs
from cvpipe.grpc_messages import tf_serving

WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"
SIGNATURE, IMAGES = "serving_default", "image_bytes"
# Batch sizes. TensorFlow initializes some kernels per batch size.
BATCHES = (1, 2, 8)


def write_warmup_requests(folder: Path, model: str) -> None:
    """Write the requests into an artifact, unless it lacks the signature `serving_default`.

    Args:
        folder: the artifact.
        model: name of the model in requests.
    """
    signatures = default_inputs(str(folder))
    if SIGNATURE not in signatures:
        return
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    image = tf.io.encode_png(pixels).numpy()
    with tf.io.TFRecordWriter(str(folder / WARMUP)) as records:
        for batch in BATCHES:
            log = tf_serving().PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = model
            request.model_spec.signature_name = SIGNATURE
            inputs = {IMAGES: tf.constant([image] * batch), **signatures[SIGNATURE]}
            for name, value in inputs.items():
                request.inputs[name] = tf.make_tensor_proto(value).SerializeToString()
            records.write(log.SerializeToString())
