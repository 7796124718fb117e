"""An artifact's answers in files that other runtimes read.

Each runtime has a file here, whose `RUNTIME` says what it needs and how a file is made for it;
`replay_file.py` answers images with one. Files lie in `assets.extra` of the version: its manifest
covers them, they come and go with it, and TensorFlow, TF Serving and `cvpipe serve` pass them by.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path("assets.extra") / "formats"
# What `cvpipe export --format` offers, without importing TensorFlow.
NAMES = ("litert", "onnx", "openvino")
