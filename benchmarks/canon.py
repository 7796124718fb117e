"""Measure accuracy, CPU time and size of networks from twelve families of the catalog, of plain and
residual networks with two depths, and of networks trained on few images with dropout, stochastic
depth or drop-path.

Every network is trained on the same 6,000 images of Fashion-MNIST for two epochs, with the same
optimizer. Networks that were published for larger images are narrower here; the name of a row
states the width. Networks that are already in benchmarks/results/canon.json are skipped, so an
interrupted benchmark can be continued; `--fresh` measures all networks again, which takes about 20
minutes of CPU time.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cvpipe import config_file
from cvpipe.config import Config
from cvpipe.runtime import prepare_process
from record import RESULTS, record, row

PIPELINE = Path(__file__).parent.parent / "pipelines/classification/fashion_mnist.yaml"
SAME = (
    "data.limit=6000",
    "data.validation=0",
    "optimizer={kind: adam, learning_rate: 2e-3}",
    "train.batch_size=64",
    "train.epochs=2",
    "train.pictures=false",
    "train.checkpoint_minutes=60",
)
FAMILIES = (
    ("lenet5", 1.0, 32),
    ("vgg11_fc", 0.25, 32),
    ("nin_cifar", 0.33, 28),
    ("googlenet", 0.5, 32),
    ("resnet20", 0.5, 28),
    ("wrn28_10", 0.05, 28),
    ("se_resnet50", 0.25, 32),
    ("densenet40_12", 0.25, 28),
    ("fractalnet20", 0.125, 32),
    ("squeezenet1_1", 1.0, 32),
    ("mobilenet_v2", 0.5, 32),
    ("shufflenet_g3", 0.5, 32),
)
"""Network, width, and side in pixels to which images are resized."""
DEEP = ("plain20", "plain56", "resnet20", "resnet56")
"""Networks of section 4.2 of He et al. 2015, with half the channels, on images of 16×16 pixels."""
DEGRADATION = (
    "model.width=0.5",
    "prepare.size=[16, 16]",
    "optimizer={kind: sgd, learning_rate: 0.1, nesterov: true}",
    "train.epochs=2",
    "train.steps_per_call=20",
)
FEW = ("data.limit=1000", "prepare.size=[16, 16]", "train.epochs=20", "train.steps_per_call=15")
"""Overrides for 20 epochs on 1,000 images."""
SHALLOW = ("model.cells={stages: 2, repeats: 1}",)
DROPPED = (
    ("resnet20", 0.5, "nothing", ()),
    ("resnet20", 0.5, "dropout 0.5", ("model.dropout=0.5",)),
    ("resnet20", 0.5, "stochastic depth 0.5", ("model.stochastic_depth=0.5",)),
    ("cells", 0.5, "nothing", SHALLOW),
    ("cells", 0.5, "dropout 0.5", (*SHALLOW, "model.dropout=0.5")),
    ("cells", 0.5, "drop-path 0.3", (*SHALLOW, "model.drop_path=0.3")),
)
"""Network, width, name of the regularization, and the overrides that configure it."""
SEEDS = (0, 1, 2)


def measure(name: str, width: float, side: int) -> list[dict[str, Any]]:
    """Return accuracy on 10,000 test images, CPU time of training and evaluation, parameters,
    MACs.
    """
    config = _config(name, f"model.width={width}", f"prepare.size=[{side}, {side}]")
    scores, seconds, _ = _trained(config)
    title = name if width == 1 else f"{name}, width {width:g}"
    sizes = _sizes(config)
    return [
        row(f"{title}: test accuracy", scores["accuracy"], "", True),
        row(f"{title}: cvpipe train, CPU time", round(seconds, 1), "s", True),
        row(f"{title}: parameters", sizes["trainable_parameters"], "", True),
        row(f"{title}: multiply-adds", sizes["macs"], "", True),
    ]


def measure_depth(name: str) -> list[dict[str, Any]]:
    """Return accuracy on 10,000 test images, CPU time, and the training loss every 20 steps."""
    scores, seconds, losses = _trained(_config(name, *DEGRADATION))
    title = f"{name} at 16×16"
    return [
        row(f"{title}: test accuracy", scores["accuracy"], "", True),
        row(f"{title}: cvpipe train, CPU time", round(seconds, 1), "s", True),
        *(
            row(f"{title}: training loss, step {step}", round(loss, 4), "nats", True)
            for step, loss in losses.items()
        ),
    ]


def measure_dropped(name: str, width: float, dropped: str, overrides: Any) -> list[dict[str, Any]]:
    """Return the mean over SEEDS of the accuracy on 10,000 test images, its range, the last
    training loss, and CPU time.
    """
    accuracies, lasts, total = [], [], 0.0
    for seed in SEEDS:
        settings = (*FEW, f"model.width={width}", *overrides, f"seed={seed}")
        scores, seconds, losses = _trained(_config(name, *settings))
        accuracies.append(scores["accuracy"])
        lasts.append(losses[max(losses)])
        total += seconds
    title = dropped_title(name, dropped)
    mean, spread = statistics.fmean(accuracies), max(accuracies) - min(accuracies)
    return [
        row(f"{title}: test accuracy", round(mean, 4), "", True),
        row(f"{title}: range of test accuracies", round(spread, 4), "", True),
        row(f"{title}: last training loss", round(statistics.fmean(lasts), 4), "nats", True),
        row(f"{title}: cvpipe train, CPU time", round(total / len(SEEDS), 1), "s", True),
    ]


def dropped_title(name: str, dropped: str) -> str:
    """Return the beginning of a row's name."""
    return f"{name} on 1000 images, drops {dropped}"


def _config(name: str, *overrides: str) -> Config:
    return config_file.load(PIPELINE, [*SAME, f"model.backbone={name}", *overrides])


def _trained(config: Config) -> tuple[dict[str, Any], float, dict[int, float]]:
    """Train from scratch; return the scores, seconds of CPU time, and the loss by step."""
    from cvpipe.training.run import Run
    from cvpipe.training.train import train

    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        scores = train(config, Path(folder) / "run")
        seconds = time.process_time() - began
        measured = Run(Path(folder) / "run").metrics()
    return scores, seconds, {line["step"]: line["loss"] for line in measured if "loss" in line}


def _sizes(config: Config) -> dict[str, Any]:
    from cvpipe.data.facts import Facts
    from cvpipe.models.abstract import without_weights
    from cvpipe.models.describe import describe_model
    from cvpipe.tasks import load_task

    with without_weights():
        [network] = load_task(config, Facts(tuple("0123456789"))).build(False).values()
    return describe_model(network)


def _known(name: str) -> list[dict[str, Any]]:
    """Return the rows of an earlier or interrupted benchmark."""
    file = RESULTS / f"{name}.json"
    if "--fresh" in sys.argv or not file.exists():
        return []
    return json.loads(file.read_text(encoding="utf-8"))["rows"]


if __name__ == "__main__":
    rows = _known("canon")
    done = {entry["name"].split(":")[0].split(",")[0] for entry in rows}
    prepare_process(_config("lenet5", "prepare.size=[32, 32]"))
    for family in FAMILIES:
        if family[0] not in done:
            rows += measure(*family)
            record("canon", rows)
    for name in DEEP:
        if f"{name} at 16×16" not in done:
            rows += measure_depth(name)
            record("canon", rows)
    dropping = _known("canon_dropped")
    for dropped in DROPPED:
        title = dropped_title(dropped[0], dropped[2])
        if not any(entry["name"].startswith(f"{title}:") for entry in dropping):
            dropping += measure_dropped(*dropped)
            record("canon_dropped", dropping)
