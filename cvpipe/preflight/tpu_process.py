"""Script that compiles a program for a TPU, on a machine without a TPU: `python -m … HLO TOPOLOGY
TO`.

The compiler runs in a separate process, because a failure may end the process. This module needs
jax and libtpu, and no other module of cvpipe. Conversion and compilation without a device use
private functions of jax; the extra [preflight] pins a version that has them.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

STABLEHLO, EXECUTABLE = ".stablehlo", ".executable"
# Save in this version of StableHLO, so that older programs can read the file.
STABLEHLO_VERSION = "1.9.0"


def main() -> None:
    """Compile the file HLO for TOPOLOGY, write TO.stablehlo and TO.executable, and print the costs
    or the compiler's error as JSON.
    """
    source, topology, to = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    # Without these settings, libtpu queries the metadata server of a Cloud TPU VM.
    for name, value in {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
        # No TPU is used, so several processes may compile at once.
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }.items():
        os.environ.setdefault(name, value)
    print(json.dumps(_compile(source.read_bytes(), topology, to)))


def _compile(hlo: bytes, topology: str, to: Path) -> dict[str, Any]:
    from jax._src import compiler
    from jax._src.interpreters import mlir
    from jax._src.lib import _jax
    from jax._src.lib.mlir import ir
    from jax.experimental import topologies

    [device, *_] = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    began = time.monotonic()
    text = _jax.mlir.hlo_to_stablehlo(hlo)
    to.with_name(to.name + STABLEHLO).write_bytes(
        _jax.mlir.serialize_portable_artifact(text, STABLEHLO_VERSION)
    )
    result: dict[str, Any] = {"device": device.device_kind, "versions": versions()}
    with mlir.make_ir_context():
        try:
            compiled = device.client.compile(
                ir.Module.parse(text),
                _jax.DeviceList((device,)),
                compiler.get_compile_options(num_replicas=1, num_partitions=1),
            )
        except _jax.JaxRuntimeError as error:
            return {**result, "error": str(error), "seconds": time.monotonic() - began}
    to.with_name(to.name + EXECUTABLE).write_bytes(compiled.serialize())
    memory, cost = compiled.get_compiled_memory_stats(), compiled.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    return {
        **result,
        "seconds": time.monotonic() - began,
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "code": memory.generated_code_size_in_bytes,
        "flops": cost["flops"],
        "traffic": cost["bytes accessed"],
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages used for compiling."""
    return {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu")}


if __name__ == "__main__":
    main()
