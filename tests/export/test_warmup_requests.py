"""Guards warm-up requests: TF Serving reads them, and the artifact answers each."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from cvpipe.export.warmup_requests import WARMUP


def test_tf_serving_reads_requests_that_the_artifact_answers(artifact: Path) -> None:
    logs = [
        PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(artifact / WARMUP))
    ]
    signatures, sizes = tf.saved_model.load(str(artifact)).signatures, []
    for log in logs:
        request = log.predict_log.request
        assert request.model_spec.name == artifact.parent.name
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        signature = signatures[request.model_spec.signature_name]
        answers = signature(**{name: tf.constant(value) for name, value in inputs.items()})
        assert answers["valid"].numpy().all()
        sizes.append(len(inputs["image_bytes"]))
    assert sizes == [1, 2, 8]
