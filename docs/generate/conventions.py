"""Parameters under conventions that differ from those of the catalog."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from lines import table

if TYPE_CHECKING:
    import keras

ROWS = (
    ("googlenet", "with both auxiliary classifiers", {"auxiliary": True}, "", 13_378_280, "C"),
    ("inception_v3", "with its auxiliary classifier", {"auxiliary": True}, "", 27_161_264, "T"),
    ("inception_v3", "all, BatchNorms without scales", {}, "gamma", 23_851_784, "K"),
    ("inception_resnet_v2", "all, BatchNorms without scales", {}, "gamma", 55_873_736, "K"),
    ("wrn28_10", "100 classes", {"classes": 100}, "", 36_536_884, "C"),
    ("se_resnet50", "gates without biases", {}, "bias", 28_071_976, "C"),
    ("fractalnet20", "biases before BatchNorms", {}, "beta", 33_734_922, "C"),
)
"""Network, convention, settings of the classifier, name of the variables that `_count` subtracts or
adds, published number of parameters, and its source.
"""


def conventions() -> str:
    """Return a table of computed and published numbers of parameters."""
    rows = []
    for name, said, settings, other, published, source in ROWS:
        found = _count(_built(name, **settings), said, other)
        mark = "**" if found == published else ""
        rows.append((said, f"`{name}`", f"{found:,}", f"{mark}{published:,}{mark} ({source})"))
    return table(("Convention", "Network", "Parameters", "Published"), rows)


def _built(name: str, classes: int | None = None, auxiliary: bool = False) -> keras.Model:
    from cvpipe.models.abstract import without_weights
    from cvpipe.models.build import classification_network, published

    network = published(name)
    with without_weights():
        return classification_network(
            name, network.input_shape, classes or network.classes, auxiliary=auxiliary
        )


def _count(model: Any, said: str, other: str) -> int:
    """Count parameters without the variables named `other`. If `other` is "beta", count these
    variables twice: biases before BatchNorms would have the same sizes.
    """
    variables = model.weights if said.startswith("all") else model.trainable_variables
    count = sum(prod(variable.shape) for variable in variables)
    named = [own for own in variables if own.name == other and "logits" not in own.path]
    more = sum(prod(variable.shape) for variable in named)
    return count + more if other == "beta" else count - more
