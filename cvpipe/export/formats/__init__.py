"""Files for runtimes other than TensorFlow.

Each runtime has a module here with a `RUNTIME`: its requirements and its converter.
`replay_file.py` runs the files. They are stored in the version's `assets.extra`, so its manifest
covers them, and TensorFlow, TF Serving and `cvpipe serve` ignore them.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path("assets.extra") / "formats"
# Choices of `cvpipe export --format`, listed here to avoid importing TensorFlow.
NAMES = ("litert", "onnx", "openvino")
