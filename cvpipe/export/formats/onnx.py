"""Conversion to ONNX."""

from __future__ import annotations

from pathlib import Path

from cvpipe.export.formats.plain import Plain
from cvpipe.export.formats.runtime import Runtime, Unconvertible

OPSET = 18


def convert(plain: Plain, file: Path) -> None:
    """Write a model that contains only standard ONNX operations.

    Raises:
        Unconvertible: an operation has no ONNX equivalent.
    """
    import onnx
    import tf2onnx

    model, _ = tf2onnx.convert.from_function(plain.function, [plain.image], opset=OPSET)
    # tf2onnx keeps operations that it can't convert.
    for node in model.graph.node:
        if not onnx.defs.has(node.op_type, node.domain):
            raise Unconvertible(node.op_type)
    onnx.save(model, file)


RUNTIME = Runtime(
    title="ONNX Runtime",
    modules=("tf2onnx", "onnxruntime"),
    package="onnxruntime",
    file="model.onnx",
    batch=None,
    convert=convert,
)
