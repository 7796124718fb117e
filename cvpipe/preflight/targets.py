"""Accelerators for which a pipeline can be checked, with numbers from vendors' data sheets."""

from __future__ import annotations

from typing import NamedTuple

from cvpipe.errors import unknown_value

TERA, GIGA, GIB = 1e12, 1e9, 2**30
GPU_PREFIX = "gpu:"
# A TPU's vector unit has 8 × 128 lanes; a GPU's matrix instructions take multiples of 8 numbers.
TPU_LANES, GPU_LANES = 128, 8


class Chip(NamedTuple):
    """One accelerator, by its vendor's data sheet."""

    name: str
    memory: float
    """Bytes of high-bandwidth memory."""
    flops: dict[str, float]
    """Peak floating-point operations per second for dense data, by Keras's dtype policy."""
    bandwidth: float
    """Bytes per second between memory and chip."""
    link: float
    """Bytes per second that a chip exchanges with its neighbors, over all links."""
    lanes: int
    """Channels are padded to multiples of this number."""
    source: str
    """Page that states these numbers."""


class Target(NamedTuple):
    """Chips that train together on one host."""

    name: str
    chip: Chip
    chips: int
    host_cores: int | None = None
    """Virtual CPUs of the host; None if it depends on the machine."""
    topology: str | None = None
    """Name of the topology for libtpu; None for a GPU, whose costs are only estimated."""
    accelerator_type: str = ""
    """Name of the slice in Google Cloud."""


def _tpu(name: str, memory: int, tera: float, bandwidth: float, link: float) -> Chip:
    # Matrix units multiply bfloat16. On a TPU, TensorFlow by default rounds float32 to bfloat16.
    peak = tera * TERA
    flops = {"mixed_bfloat16": peak, "mixed_float16": peak, "float32": peak}
    page = f"https://cloud.google.com/tpu/docs/{name}"
    return Chip(f"TPU {name}", memory * GIB, flops, bandwidth * GIGA, link * GIGA, TPU_LANES, page)


def _gpu(
    name: str, memory: float, half: float, tf32: float, bandwidth: float, link: float, page: str
) -> Chip:
    # On these GPUs, TensorFlow multiplies float32 in TF32.
    flops = {"mixed_bfloat16": half * TERA, "mixed_float16": half * TERA, "float32": tf32 * TERA}
    return Chip(
        f"NVIDIA {name}",
        memory * GIGA,
        flops,
        bandwidth * GIGA,
        link * GIGA,
        GPU_LANES,
        f"https://www.nvidia.com/en-us/data-center/{page}/",
    )


V4 = _tpu("v4", 32, 275, 1228, 300)
V5E = _tpu("v5e", 16, 197, 819, 200)
V5P = _tpu("v5p", 95, 459, 2765, 600)
V6E = _tpu("v6e", 32, 918, 1638, 400)
A100 = _gpu("A100 SXM 80 GB", 80, 312, 156, 2039, 300, "a100")
H100 = _gpu("H100 SXM", 80, 989, 494, 3350, 450, "h100")
H200 = _gpu("H200 SXM", 141, 989, 494, 4800, 450, "h200")
L4 = _gpu("L4", 24, 121, 60, 300, 32, "l4")

# TPU slices with one host, and GPUs. The number in the names of v4 and v5p counts cores, of which a
# chip has two.
TARGETS = {
    target.name: target
    for target in (
        Target("v4-8", V4, 4, 240, "v4:2x2x1", "v4-8"),
        Target("v5e-1", V5E, 1, 24, "v5e:1x1", "v5litepod-1"),
        Target("v5e-4", V5E, 4, 112, "v5e:2x2", "v5litepod-4"),
        Target("v5e-8", V5E, 8, 224, "v5e:2x4", "v5litepod-8"),
        Target("v5p-8", V5P, 4, 208, "v5p:2x2x1", "v5p-8"),
        Target("v6e-1", V6E, 1, 44, "v6e:1x1", "v6e-1"),
        Target("v6e-4", V6E, 4, 180, "v6e:2x2", "v6e-4"),
        Target("v6e-8", V6E, 8, 180, "v6e:2x4", "v6e-8"),
        Target("gpu:a100", A100, 1),
        Target("gpu:h100", H100, 1),
        Target("gpu:h200", H200, 1),
        Target("gpu:l4", L4, 1),
    )
}


def find_target(name: str) -> Target:
    """Return the target called `name`, ignoring case; `v5litepod-4` is v5e-4.

    Raises:
        ConfigError: there is no such target.
    """
    wanted = name.casefold()
    for target in TARGETS.values():
        if wanted in (target.name, target.accelerator_type):
            return target
    raise unknown_value("--target", name, TARGETS)
