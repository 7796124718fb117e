"""Conversion to OpenVINO, for Intel processors."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from cvpipe.export.formats.plain import IMAGES, Plain
from cvpipe.export.formats.runtime import Runtime, Unconvertible

_LACKING = re.compile(r"(?:rule|translator) found for operations?(?:\(s\))?: (\w+)")


def convert(plain: Plain, file: Path) -> None:
    """Write a model, with its float32 weights in a second file.

    Raises:
        Unconvertible: OpenVINO can't read an operation.
    """
    # Block OpenVINO's telemetry package, so that it doesn't report its use to Intel.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "graph.pb"
        graph.write_bytes(plain.graph().SerializeToString())
        try:
            model = openvino.Core().read_model(graph)
        except Exception as error:  # OpenVINO raises several classes.
            lacking = _LACKING.search(str(error))
            if lacking is None:
                raise
            raise Unconvertible(lacking[1]) from error
        [image] = model.inputs
        image.get_tensor().set_names({IMAGES})
        for output in model.outputs:
            # Drop names that are internal to the graph, such as "network/add:0".
            answer_names = {name for name in plain.names if f"{name}:0" in output.get_names()}
            output.get_tensor().set_names(answer_names)
        openvino.save_model(model, file, compress_to_fp16=False)


RUNTIME = Runtime(
    title="OpenVINO",
    modules=("openvino",),
    package="openvino",
    file="model.xml",
    batch=None,
    convert=convert,
)
