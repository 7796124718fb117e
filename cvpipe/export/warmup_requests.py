"""Requests that TensorFlow Serving answers while it loads a version, so that no client waits for
the first, slow answers.

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
# Sizes of batches; TensorFlow prepares itself for some of them anew.
BATCHES = (1, 2, 8)


def write_warmup_requests(folder: Path, model: str) -> None:
    """Write the requests into an artifact; none where it doesn't answer images.

    Args:
        folder: the artifact.
        model: its name for those who ask it.
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
