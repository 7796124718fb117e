"""Accuracy of plain and of adversarially trained networks under attack, transfer of attacks between
two architectures, and errors under common corruptions, on Fashion-MNIST and on digits.

Trains what isn't in runs/ yet, up to an hour on two cores. Rows of attacks have the name "DATA,
NETWORK, METHOD, ε = E: accuracy".
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from record import record, row

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "pipelines" / "classification"
EPSILONS = "0,0.02,0.05,0.1,0.15"
STRONGEST = 0.1
ATTACKED, CORRUPTED = 2000, 1000
"""Images for each attack, and for each corruption and severity."""


class Network(NamedTuple):
    """A network that is trained and attacked."""

    name: str
    run: str
    overrides: tuple[str, ...] = ()


class Data(NamedTuple):
    """A data set, its pipeline, and its networks, the robust one of the pipeline first."""

    name: str
    pipeline: str
    networks: tuple[Network, ...]


PLAIN = "train.adversarial=null"
LENET = (PLAIN, "model.backbone=lenet5")
SETS = (
    Data(
        "Fashion-MNIST",
        "fashion_mnist_robust",
        (
            Network("robust", "fashion_mnist_robust"),
            Network(
                "plain",
                "fashion_mnist_robust_plain",
                (PLAIN, "train.epochs=4", "train.evaluate_every=4"),
            ),
            Network(
                "plain LeNet-5",
                "fashion_mnist_lenet5",
                (*LENET, "train.epochs=4", "train.evaluate_every=4"),
            ),
        ),
    ),
    Data(
        "digits",
        "digits_robust",
        (
            Network("robust", "digits_robust"),
            Network("plain", "digits_robust_plain", (PLAIN,)),
            Network("plain LeNet-5", "digits_lenet5", LENET),
        ),
    ),
)


def cvpipe(*words: str) -> dict[str, Any]:
    """Run a command, and return what it prints as JSON."""
    command = [sys.executable, "-m", "cvpipe", *words, "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def train(data: Data, network: Network) -> str:
    """Train a network unless its run is there; return the run."""
    run = f"runs/{network.run}"
    if not (ROOT / run / "report.md").exists():
        settings = [word for own in network.overrides for word in ("--set", own)]
        cvpipe("train", str(FOLDER / f"{data.pipeline}.yaml"), "--run", run, *settings)
    return run


def measure(data: Data) -> list[dict[str, Any]]:
    """Return the rows of a data set."""
    runs = {network.name: train(data, network) for network in data.networks}
    names = {run: name for name, run in runs.items()}
    rows = []
    for name, run in runs.items():
        accuracy = cvpipe("evaluate", run)["accuracy"]
        rows.append(row(f"{data.name}, {name}: test accuracy", accuracy, "", True))
        if name == "robust":
            rows.append(row(f"{data.pipeline}: accuracy", accuracy, "", True))
    everything = ("--epsilon", f"{STRONGEST:g}", "--to", f"runs/attack_{data.pipeline}")
    [point] = cvpipe("attack", runs["robust"], *everything)["points"]
    name = f"{data.name}, robust, PGD-20, ε = {STRONGEST:g}, all images"
    rows.append(row(f"{name}: accuracy", point["accuracy"], "", True))
    for method in ("fgsm", "pgd"):
        found = cvpipe(
            *("attack", *runs.values(), "--method", method, "--epsilon", EPSILONS),
            *("--limit", str(ATTACKED), "--to", f"runs/attack_{data.pipeline}_{method}"),
        )
        for point in found["transfer"]:
            own, attacked = names[point["answered"]], names[point["attacked"]]
            title = f"{data.name}, {own}, {method.upper()}, ε = {point['epsilon']:g}"
            if own != attacked:
                title = f"{title}, attack on {attacked}"
            rows.append(row(f"{title}: accuracy", point["accuracy"], "", True))
    found = cvpipe(
        *("corrupt", runs["plain"], runs["robust"], "--limit", str(CORRUPTED)),
        *("--to", f"runs/corruptions_{data.pipeline}"),
    )
    for own in found["models"]:
        name = f"{data.name}, {names[own['source']]}"
        rows.append(row(f"{name}: mean corruption error", own["mean_error"], "", True))
        for kind, errors in own["corruptions"].items():
            rows.append(row(f"{name}, {kind}: error", errors["error"], "", True))
    return rows


if __name__ == "__main__":
    record("robustness", [own for data in SETS for own in measure(data)])
