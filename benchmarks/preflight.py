"""Compile the training steps of five networks for TPUs on a machine without a TPU, and record
memory, arithmetic, memory traffic, largest batch and roofline.

    python benchmarks/preflight.py [NETWORK@TARGET …] [--search] [--save DIR]

Each network has ten classes, RGB images of the paper's input size, SGD or AdamW, and bfloat16. No
data is downloaded. A compilation takes minutes; programs in the folder of --save aren't compiled
again. Without the extra [preflight], all figures are estimates, and the results file marks them.
Networks that the command line doesn't name keep their rows in the results file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from record import RESULTS, record, row

ROOT = Path(__file__).parent.parent
NAME = "preflight"
# In this order, the search for the largest batch on v5e-1 can use the program compiled for v5e-4.
TARGETS = ("v5e-4", "v5e-1")
SCENES = ("data.source.train=16", "data.source.validation=4", "data.source.test=4")
PHOTOS = "prepare={size: [224, 224], channels: 3}"
ANCHORS = (
    "[[0.02, 0.02], [0.04, 0.07], [0.08, 0.06], [0.07, 0.15], [0.15, 0.11], [0.14, 0.29],"
    " [0.28, 0.22], [0.38, 0.48], [0.9, 0.78]]"
)


class Network(NamedTuple):
    """A network in a pipeline."""

    title: str
    pipeline: str
    batch: int
    """Images per step of all chips."""
    overrides: tuple[str, ...]


NETWORKS = {
    "resnet50": Network(
        "ResNet-50, 224", "classification/digits.yaml", 256, ("model.backbone=resnet50", PHOTOS)
    ),
    "mobilenet_v2": Network(
        "MobileNetV2, 224",
        "classification/digits.yaml",
        256,
        ("model.backbone=mobilenet_v2", PHOTOS),
    ),
    "ssd300": Network(
        "SSD300-VGG16",
        "detection/digit_scenes_ssd.yaml",
        32,
        (
            "data.source.size=[300, 300]",
            *SCENES,
            "prepare.size=[300, 300]",
            "model={backbone: ssd_vgg16, norm: none, head: {kind: ssd, layout: ssd300}}",
        ),
    ),
    "yolo_v3": Network(
        "YOLOv3, 416",
        "detection/digit_scenes_yolo.yaml",
        64,
        (
            "data.source.size=[416, 416]",
            *SCENES,
            "prepare.size=[416, 416]",
            "model={backbone: darknet53, head: {kind: yolo_v3, strides: [8, 16, 32], anchors:"
            f" {ANCHORS}}}}}",
        ),
    ),
    "fcn8s": Network(
        "FCN-8s-VGG16, 512",
        "segmentation/digit_scenes_fcn.yaml",
        16,
        (
            "data.source.size=[512, 512]",
            *SCENES,
            "augment=[]",
            "prepare.size=[512, 512]",
            "model={backbone: fcn_vgg16, norm: none, head: {kind: fcn, stride: 8}}",
            "loss={kind: softmax}",
        ),
    ),
}


def check(network: Network, target: str, save: Path, search: bool) -> dict[str, Any]:
    """Return the output of `cvpipe preflight --json` for a training step."""
    sets = [*network.overrides, "train.precision=mixed_bfloat16"]
    sets.append(f"train.batch_size={network.batch}")
    command = [sys.executable, "-m", "cvpipe", "preflight"]
    command.append(str(ROOT / "pipelines" / network.pipeline))
    command += [part for pair in sets for part in ("--set", pair)]
    command += ["--target", target, "--what", "train", "--json", "--save", str(save)]
    done = subprocess.run(
        [*command, *(["--largest-batch"] if search else [])],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        cwd=ROOT,
    )
    if not done.stdout:
        raise SystemExit(f"{network.title} on {target}: failed")
    return dict(json.loads(done.stdout))


def rows_of(network: Network, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of one network on one target, per chip unless the name says otherwise."""
    part, target = found["parts"]["train"], found["target"]
    cost, limits, compiler = part["cost"], part["roofline"], part["compiler"]
    largest = part["largest_batch"]
    values = {
        "images a chip": (part["batch"], "images"),
        "fits": (int(part["fits"]), "1 = yes"),
        "arguments": (cost["arguments"] / 1e9, "GB"),
        "temporaries": (cost["temporaries"] / 1e9, "GB"),
        "memory": (cost["total"] / 1e9, "GB"),
        "memory, estimated": (part["estimate"]["total"] / 1e9, "GB"),
        "arithmetic": (cost["flops"] / 1e12, "TFLOP"),
        "arithmetic, estimated": (part["estimate"]["flops"] / 1e12, "TFLOP"),
        "traffic": (cost["traffic"] / 1e9, "GB"),
        "traffic, estimated": (part["estimate"]["traffic"] / 1e9, "GB"),
        "roofline, all chips": (limits["images_per_second"], "images/s"),
        "padding": (100 * part["padding"]["share"], "%"),
        **({"largest batch": (largest["batch"], "images")} if largest else {}),
        **({"compilation": (compiler["seconds"], "s")} if compiler else {}),
    }
    compiled = not part["cost_is_estimated"]
    return [
        {
            **row(f"{network.title}, {target}: {name}", float(f"{value:.4g}"), unit, True),
            "compiled": compiled,
        }
        for name, (value, unit) in values.items()
    ]


def main() -> None:
    """Check the named networks, and write each result as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    everything = [f"{name}@{target}" for name in NETWORKS for target in TARGETS]
    parser.add_argument("jobs", nargs="*", metavar="NETWORK@TARGET", default=everything)
    parser.add_argument("--search", action="store_true", help="confirm the largest batch on v5e-1")
    parser.add_argument("--save", type=Path, default=Path("preflight"))
    options = parser.parse_args()
    file = RESULTS / f"{NAME}.json"
    known = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    for job in options.jobs:
        name, _, target = job.partition("@")
        network = NETWORKS[name]
        search = options.search and target == TARGETS[-1]
        found = check(network, target, options.save.resolve() / name, search)
        prefix = f"{network.title}, {target}: "
        known = [entry for entry in known if not entry["name"].startswith(prefix)]
        known += rows_of(network, found)
        record(NAME, known)


if __name__ == "__main__":
    main()
