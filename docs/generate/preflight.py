"""Generate the tables of docs/preflight.md from the results of benchmarks/preflight.py."""

from __future__ import annotations

from lines import table
from results import caption, values_after

NETWORKS = (
    "ResNet-50, 224",
    "MobileNetV2, 224",
    "SSD300-VGG16",
    "YOLOv3, 416",
    "FCN-8s-VGG16, 512",
)
TARGETS = ("v5e-4", "v5e-1")
ESTIMATE = "estimate"
"""Stands for the compile time of a step that has not been compiled."""


def preflight() -> str:
    """Return the table of networks and targets."""
    rows = [_row(network, target) for network in NETWORKS for target in TARGETS]
    head = (
        *("Network", "Target", "Images per chip", "GB per chip", "TFLOP", "GB moved"),
        *("Images/s at most", "Padding", "Largest batch per chip", "Compiled in"),
    )
    return table(head, rows) + f"\n{caption('preflight')}\n"


def preflight_estimates() -> str:
    """Return the table of compiled and estimated figures of all compiled steps."""
    rows = [
        _compared(network, target)
        for network in NETWORKS
        for target in TARGETS
        if "compilation" in _values(network, target)
    ]
    head = ("Network, target", "Memory, GB: compiled, estimated", "TFLOP", "Traffic, GB")
    return table(head, rows)


def _values(network: str, target: str) -> dict[str, float]:
    return values_after("preflight", f"{network}, {target}: ")


def _row(network: str, target: str) -> tuple[str, ...]:
    values = _values(network, target)
    largest, seconds = values.get("largest batch"), values.get("compilation")
    return (
        network,
        target,
        f"{values['images a chip']:.0f}",
        f"{values['memory']:.2f}",
        f"{values['arithmetic']:.2f}",
        f"{values['traffic']:.1f}",
        f"{values['roofline, all chips']:,.0f}",
        f"{values['padding']:.0f}%",
        "" if largest is None else f"{largest:.0f}",
        ESTIMATE if seconds is None else f"{seconds:.0f} s",
    )


def _compared(network: str, target: str) -> tuple[str, ...]:
    values = _values(network, target)
    pairs = [
        f"{values[name]:{digits}}, {values[f'{name}, estimated']:{digits}}"
        for name, digits in (("memory", ".2f"), ("arithmetic", ".2f"), ("traffic", ".1f"))
    ]
    return (f"{network}, {target}", *pairs)


PREFLIGHT = {"preflight": preflight, "preflight-estimates": preflight_estimates}
