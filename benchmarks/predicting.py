"""Measure the throughput of `cvpipe predict --to` for many photos, compared with direct calls of
the artifact with batches in memory. The batches contain encoded images, or prepared images, which
need no decoding.

    python benchmarks/predicting.py ARTIFACT PHOTOS
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from record import record, row
from turns import median_seconds, timed

ROUNDS = 5
PREDICT = "cvpipe predict, from files to files"


def main() -> None:
    """Measure the command and the direct calls alternately, in one process."""
    from cvpipe.export.about import find_artifact
    from cvpipe.export.artifact import open_artifact
    from cvpipe.prediction.answers import BATCH, answer_images
    from cvpipe.prediction.images import find_images
    from cvpipe.prediction.shards import write_shards

    folder, images = find_artifact(Path(sys.argv[1])), find_images(sys.argv[2:3])
    artifact = open_artifact(folder)

    def predict() -> None:
        with tempfile.TemporaryDirectory() as to:
            write_shards(
                lambda parts: (answer_images(artifact, images[p.start : p.stop]) for p in parts),
                images,
                Path(to),
                {},
                lambda text: None,
            )

    contents = [image.read() for image in images]
    batches = [contents[n : n + BATCH] for n in range(0, len(contents), BATCH)]
    bare = {
        "the artifact, encoded images in memory": _calls(folder, "serving_default", batches),
        "the artifact, prepared images in memory": _calls(folder, "tensor", batches),
    }
    seconds = median_seconds({PREDICT: timed(predict), **bare}, ROUNDS)
    rates = {name: len(images) / taken for name, taken in seconds.items()}
    rows = [row(name, rate, "images/s", name == PREDICT) for name, rate in rates.items()]
    limit = max(rate for name, rate in rates.items() if name != PREDICT)
    record("predicting", rows, to_limit=rates[PREDICT] / limit)


def _calls(artifact: Path, signature: str, batches: Sequence[list[bytes]]) -> Callable[[], float]:
    """Return a function that calls a signature once for each batch and returns the seconds."""
    import numpy as np
    import tensorflow as tf

    from cvpipe.benchmark.requests import write_requests

    loaded = tf.saved_model.load(str(artifact))
    call = loaded.signatures[signature]
    inputs = []
    for contents in batches:
        with tempfile.TemporaryDirectory() as scratch:
            requests = write_requests(artifact, contents, Path(scratch))
            [file] = [request.file for request in requests if request.signature == signature]
            with np.load(file, allow_pickle=True) as arrays:
                inputs.append({name: tf.constant(arrays[name]) for name in arrays})

    def work() -> None:
        for batch in inputs:
            for answer in call(**batch).values():
                answer.numpy()

    # Without the artifact, its variables would be deleted.
    work.loaded = loaded  # type: ignore[attr-defined]
    return timed(work)


if __name__ == "__main__":
    main()
