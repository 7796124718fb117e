"""Measure a training step of cvpipe's ResNet-50 on a GPU, compared with PyTorch's.

NOT RUN YET, because no GPU was available. This script needs a CUDA GPU, jax with its CUDA plugin
(`pip install "jax[cuda12]==0.10.2"`), PyTorch and torchvision, but not TensorFlow. Its argument is
cvpipe's training step as StableHLO, which any machine with the extra [preflight] can write:

    python benchmarks/preflight.py resnet50@v5e-1 --save preflight
    python benchmarks/gpu_step.py preflight/resnet50/train-256.stablehlo

PyTorch's step is compiled, channels last, in bfloat16, with SGD and Nesterov momentum. Both steps
use random images that are already on the GPU.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from record import record, row

STEPS, ROUNDS = 20, 5


def measure(step: Callable[[], None], wait: Callable[[], None]) -> float:
    """Return the median time of a step in seconds, after five steps for compilation and warm-up."""
    for _ in range(5):
        step()
    wait()
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(STEPS):
            step()
        wait()
        seconds.append((time.perf_counter() - began) / STEPS)
    return statistics.median(seconds)


def measure_lowered(file: Path) -> tuple[float, int]:
    """Return the seconds that a step of the saved program takes, and the number of its images.

    As in training, each step takes the variables that the previous step returned.
    """
    import jax
    import numpy as np
    from jax._src import compiler
    from jax._src.interpreters import mlir
    from jax._src.lib import _jax
    from jax._src.lib.mlir import ir

    [device, *_] = jax.devices("gpu")
    with mlir.make_ir_context():
        module = ir.Module.parse(_jax.mlir.deserialize_portable_artifact(file.read_bytes()))
        main = next(
            op for op in module.body.operations if op.attributes["sym_name"].value == "main"
        )
        types = [ir.RankedTensorType(kind) for kind in main.type.inputs]
        shapes = [(tuple(kind.shape), str(kind.element_type)) for kind in types]
        aliases = dict(_aliases(str(module.operation.attributes["mhlo.input_output_alias"])))
        program = device.client.compile_and_load(
            module,
            _jax.DeviceList((device,)),
            compiler.get_compile_options(num_replicas=1, num_partitions=1),
        )
    random = np.random.default_rng(0)
    numbers = {"f32": np.float32, "i32": np.int32, "i64": np.int64, "ui32": np.uint32}

    def value(shape: tuple[int, ...], kind: str) -> np.ndarray:
        if kind == "f32":
            return (0.02 * random.normal(size=shape)).astype(np.float32)
        return np.zeros(shape, numbers.get(kind, np.int32))

    arguments = [jax.device_put(value(*shape), device) for shape in shapes]
    results: list[jax.Array] = []

    def step() -> None:
        results[:] = [
            shards[0]
            for shards in program.execute_sharded(arguments).disassemble_into_single_device_arrays()
        ]
        for output, argument in aliases.items():
            arguments[argument] = results[output]

    return measure(step, lambda: jax.block_until_ready(results)), shapes[0][0][0]


def _aliases(text: str) -> list[tuple[int, int]]:
    """Return pairs of an output's index and the index of the argument that it replaces."""
    argument = r"parameter_number = (\d+)"
    output = r"output_index = array<i64: (\d+)>"
    return [(int(b), int(a)) for a, b in re.findall(f"{argument}.*?{output}", text)]


def measure_pytorch(images: int) -> float:
    """Return the seconds that a training step of ResNet-50 takes in PyTorch."""
    import torch
    import torchvision

    torch.backends.cudnn.benchmark = True
    model = torchvision.models.resnet50(num_classes=10).cuda()
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
    pixels = torch.randn(images, 3, 224, 224, device="cuda")
    pixels = pixels.to(memory_format=torch.channels_last)
    labels = torch.randint(10, (images,), device="cuda")

    @torch.compile(mode="max-autotune")
    def loss_of(pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(pixels)
        return torch.nn.functional.cross_entropy(logits.float(), labels, label_smoothing=0.1)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of(pixels, labels).backward()
        optimizer.step()

    return measure(step, torch.cuda.synchronize)


def main() -> None:
    """Measure both steps in this process, one after the other."""
    ours, images = measure_lowered(Path(sys.argv[1]))
    peer = measure_pytorch(images)
    speeds = {"cvpipe, StableHLO": images / ours, "PyTorch, compiled": images / peer}
    record(
        "gpu_step",
        [
            row(
                f"ResNet-50, 224, batch {images}: {name}", round(speed, 1), "images/s", "cv" in name
            )
            for name, speed in speeds.items()
        ],
        to_best_peer=round(peer / ours, 3),
    )


if __name__ == "__main__":
    main()
