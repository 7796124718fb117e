"""Measure the wall time of `cvpipe predict` for one image, compared with a script that only imports
TensorFlow, loads the same artifact and predicts the same image.

    python benchmarks/answering.py [ARTIFACT]

ARTIFACT is by default saved_models/digits, which `make train` writes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from record import record, row
from turns import median_seconds, timed

ROUNDS, LIMIT = 15, 1.03
BARE = """
import sys
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
answer = loaded.signatures["serving_default"]
print(answer(image_bytes=tf.constant([open(sys.argv[2], "rb").read()])))
"""


def command(*words: str) -> Callable[[], float]:
    """Return a function that runs a command and returns its wall time in seconds."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}

    def work() -> None:
        subprocess.run(
            words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )

    return timed(work)


def main() -> None:
    """Measure both commands alternately."""
    from PIL import Image

    from cvpipe.export.about import find_artifact

    artifact = find_artifact(Path(sys.argv[1] if len(sys.argv) > 1 else "saved_models/digits"))
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "image.png"
        Image.new("RGB", (64, 64), (90, 120, 150)).save(image)
        seconds = median_seconds(
            {
                "cvpipe predict": command(
                    sys.executable, "-m", "cvpipe", "predict", str(artifact), str(image)
                ),
                "bare script": command(sys.executable, "-c", BARE, str(artifact), str(image)),
            },
            ROUNDS,
        )
    ratio = seconds["cvpipe predict"] / seconds["bare script"]
    rows = [row(name, value, "s", name != "bare script") for name, value in seconds.items()]
    record("answering", [*rows, row("limit", LIMIT, "×", False)], to_best_peer=ratio)


if __name__ == "__main__":
    main()
