"""Names of the layers of cvpipe's networks in checkpoints of TensorFlow Model Garden
(official.vision.modeling.backbones): a table for each family whose networks are the same there.

In a checkpoint, the layers and blocks of a backbone are numbered, and the layers in a block have
names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from cvpipe.models.catalog import NETWORKS
from cvpipe.models.efficientnet import SCALES, blocks_in_order
from cvpipe.models.mobilenet import BOTTLENECKS
from cvpipe.models.mobilenet_v3 import LARGE, SMALL, Row, names_of_blocks
from cvpipe.models.separable import MOBILENET
from cvpipe.models.weights.checkpoint_file import BACKBONE, HEAD
from cvpipe.models.weights.names.layers import Kind, Layer, Table


def model_garden_table(backbone: str) -> Table | None:
    """Return the table of a network of the catalog; None if Model Garden's network differs."""
    if backbone not in _CHAINS:
        return None
    layers = [*_CHAINS[backbone](), Layer("logits", HEAD, "tensorflow biased")]
    return Table("Model Garden", layers)


def _link(number: int) -> str:
    return f"{BACKBONE}.layer_with_weights-{number}"


def _normed(ours: str, conv: str, norm: str, kind: Kind = "tensorflow conv") -> Iterator[Layer]:
    yield Layer(ours, conv, kind)
    yield Layer(f"{ours}_norm", norm, "tensorflow norm")


def _resnet(blocks: Sequence[int], convolutions: int) -> Iterator[Layer]:
    yield from _normed("stem", _link(0), _link(1))
    number = 2
    for stage, count in enumerate(blocks, 1):
        for index in range(count):
            ours, theirs = f"stage{stage}_block{index + 1}", _link(number)
            for n in range(1, convolutions + 1):
                yield from _normed(f"{ours}_conv{n}", f"{theirs}._conv{n}", f"{theirs}._norm{n}")
            if index == 0:
                names = (f"{theirs}._shortcut", f"{theirs}._norm0")
                yield from _normed(f"{ours}_shortcut", *names)
            number += 1


def _inverted(ours: str, theirs: str, *, expanded: bool, gated: bool = False) -> Iterator[Layer]:
    """Yield the layers of an inverted bottleneck."""
    if expanded:
        yield from _normed(f"{ours}_expand", f"{theirs}._conv0", f"{theirs}._norm0")
    names = (f"{theirs}._conv1", f"{theirs}._norm1")
    yield from _normed(f"{ours}_depthwise", *names, "tensorflow depthwise")
    if gated:
        for part in ("reduce", "expand"):
            name = f"{theirs}._squeeze_excitation._se_{part}"
            yield Layer(f"{ours}_se_{part}", name, "tensorflow biased")
    yield from _normed(f"{ours}_project", f"{theirs}._conv2", f"{theirs}._norm2")


def _mobilenet_v1() -> Iterator[Layer]:
    yield from _normed("stem", f"{_link(0)}._conv0", f"{_link(0)}._norm0")
    names = [
        f"stage{stage}_block{index}"
        for stage, layers in enumerate(MOBILENET, 1)
        for index in range(1, len(layers) + 1)
    ]
    for number, ours in enumerate(names, 1):
        theirs = _link(number)
        depthwise = (f"{theirs}._dwconv0", f"{theirs}._norm0")
        yield from _normed(f"{ours}_depthwise", *depthwise, "tensorflow depthwise")
        yield from _normed(f"{ours}_point", f"{theirs}._conv1", f"{theirs}._norm1")


def _mobilenet_v2() -> Iterator[Layer]:
    yield from _normed("stem", f"{_link(0)}._conv0", f"{_link(0)}._norm0")
    number = 1
    for stage, (expansion, _, count, _) in enumerate(BOTTLENECKS, 1):
        for index in range(1, count + 1):
            ours = f"stage{stage}_block{index}"
            yield from _inverted(ours, _link(number), expanded=expansion > 1)
            number += 1
    yield from _normed("last", f"{_link(number)}._conv0", f"{_link(number)}._norm0")


def _mobilenet_v3(rows: Sequence[Row]) -> Iterator[Layer]:
    yield from _normed("stem", f"{_link(0)}._conv0", f"{_link(0)}._norm0")
    channels = 16
    for number, (ours, row) in enumerate(zip(names_of_blocks(rows), rows, strict=True), 1):
        _, expanded, after, gated, _, _ = row
        yield from _inverted(ours, _link(number), expanded=expanded != channels, gated=gated)
        channels = after
    last = _link(len(rows) + 1)
    yield from _normed("last", f"{last}._conv0", f"{last}._norm0")
    # The classifier's first layer is a convolution after the pooling in Model Garden.
    yield Layer("hidden1", f"{_link(len(rows) + 2)}._conv0", "tensorflow 1×1 as dense")


def _efficientnet(scale: tuple[float, float]) -> Iterator[Layer]:
    yield from _normed("stem", _link(0), _link(1))
    number = 2
    for ours, expansion in blocks_in_order(scale[1]):
        yield from _inverted(ours, _link(number), expanded=expansion > 1, gated=True)
        number += 1
    yield from _normed("last", _link(number), _link(number + 1))


_CHAINS: dict[str, Callable[[], Iterator[Layer]]] = {
    "resnet18": lambda: _resnet((2, 2, 2, 2), 2),
    "resnet34": lambda: _resnet((3, 4, 6, 3), 2),
    "resnet50": lambda: _resnet((3, 4, 6, 3), 3),
    "resnet101": lambda: _resnet((3, 4, 23, 3), 3),
    "resnet152": lambda: _resnet((3, 8, 36, 3), 3),
    "mobilenet_v1": _mobilenet_v1,
    "mobilenet_v2": _mobilenet_v2,
    "mobilenet_v3_large": lambda: _mobilenet_v3(LARGE),
    "mobilenet_v3_small": lambda: _mobilenet_v3(SMALL),
    **{name: partial(_efficientnet, scale) for name, scale in SCALES.items()},
}
GARDEN_NETWORKS = tuple(name for name in NETWORKS if name in _CHAINS)
"""Networks of the catalog that are also in Model Garden."""
