"""Conversion to LiteRT, formerly TensorFlow Lite."""

from __future__ import annotations

import re
from pathlib import Path

import tensorflow as tf

from cvpipe.export.formats.plain import Plain
from cvpipe.export.formats.runtime import Runtime, Unconvertible

_LACKING = re.compile(r"'tf\.(\w+)' op is neither|(?:Flex|Custom) ops: (?:Flex)?(\w+)")


def convert(plain: Plain, file: Path) -> None:
    """Write a flatbuffer that contains only built-in operations of LiteRT.

    Raises:
        Unconvertible: LiteRT lacks an operation.
    """
    converter = tf.lite.TFLiteConverter.from_concrete_functions([plain.concrete], plain.loaded)
    try:
        content = converter.convert()
    except Exception as error:  # The class is private to TensorFlow.
        lacking = _LACKING.search(str(error))
        if lacking is None:
            raise
        raise Unconvertible(lacking[1] or lacking[2]) from error
    file.write_bytes(content)


RUNTIME = Runtime(
    title="LiteRT",
    modules=("ai_edge_litert",),
    package="ai-edge-litert",
    file="model.tflite",
    # The file fixes all shapes.
    batch=1,
    convert=convert,
)
