"""Inception-v3 of torchvision and timm; Inception-v4 and Inception-ResNet-v2 of timm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cvpipe.models import inception_v3 as v3
from cvpipe.models import inception_v4 as v4
from cvpipe.models.inception_module import Branch, Conv, Fork
from cvpipe.models.weights.names.layers import SLIM, Layer, Table, normed

# Names of each module's convolutions, in the order of its branches.
_SQUARE = "1x1 5x5_1 5x5_2 3x3dbl_1 3x3dbl_2 3x3dbl_3 _pool"
_FACTORED = "1x1 7x7_1 7x7_2 7x7_3 7x7dbl_1 7x7dbl_2 7x7dbl_3 7x7dbl_4 7x7dbl_5 _pool"
_EXPANDED = "1x1 3x3_1 3x3_2a 3x3_2b 3x3dbl_1 3x3dbl_2 3x3dbl_3a 3x3dbl_3b _pool"
V3 = (
    *((f"Mixed_5{letter}", _SQUARE) for letter in "bcd"),
    ("Mixed_6a", "3x3 3x3dbl_1 3x3dbl_2 3x3dbl_3"),
    *((f"Mixed_6{letter}", _FACTORED) for letter in "bcde"),
    ("Mixed_7a", "3x3_1 3x3_2 7x7x3_1 7x7x3_2 7x7x3_3 7x7x3_4"),
    *((f"Mixed_7{letter}", _EXPANDED) for letter in "bc"),
)
_C = "0 1_0 1_1a 1_1b 2_0 2_1 2_2 2_3a 2_3b 3.1"
V4 = (
    *("0 1.0 1.1 2.0 2.1 2.2 3.1",) * 4,
    "0 1.0 1.1 1.2",
    *("0 1.0 1.1 1.2 2.0 2.1 2.2 2.3 2.4 3.1",) * 7,
    "0.0 0.1 1.0 1.1 1.2 1.3",
    *(_C,) * 3,
)


def inception_v3() -> tuple[Table, ...]:
    """Return the table of torchvision's network; timm has the same names.

    Its average poolings include the zeros around the map, as cvpipe's do with `conventions: torch`.
    In the authors' code, they don't.
    """
    stem = ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")
    layers = [
        *_paired(_steps(v3.STEM, "stem"), [f"Conv2d_{name}" for name in stem]),
        *_normed("auxiliary1_conv1", "AuxLogits.conv0"),
        *_normed("auxiliary1_conv2", "AuxLogits.conv1"),
        Layer("auxiliary1_logits", "AuxLogits.fc", "dense"),
        Layer("logits", "fc", "dense"),
    ]
    modules = _modules(v3.STAGES)
    for (ours, branches), (theirs, names) in zip(modules, V3, strict=True):
        full = [f"{theirs}.branch{name}" for name in names.split()]
        layers += _paired(_convolutions(branches, ours), full)
    return (Table("torchvision", layers, conventions=("torch",), epsilon=SLIM),)


def inception_v4() -> tuple[Table, ...]:
    """Return the table of timm's network."""
    layers = [Layer("logits", "last_linear", "dense")]
    stem = (
        "",
        "",
        "",
        ".conv",
        ".branch0.0 .branch0.1 .branch1.0 .branch1.1 .branch1.2 .branch1.3",
    )
    for number, (step, names) in enumerate(zip(v4.STEM_V4, (*stem, ".conv"), strict=True)):
        ours = f"stem{number + 1}"
        convolutions = (
            _steps((step,), ours) if isinstance(step, Conv) else _convolutions(step, ours)
        )
        layers += _paired(
            convolutions, [f"features.{number}{name}" for name in names.split() or [""]]
        )
    first = len(v4.STEM_V4)
    for number, ((ours, branches), names) in enumerate(
        zip(_modules(v4.STAGES), V4, strict=True), first
    ):
        full = [f"features.{number}.branch{name}" for name in names.split()]
        layers += _paired(_convolutions(branches, ours), full)
    return (Table("timm", layers, conventions=("papers", "tensorflow"), epsilon=SLIM),)


def inception_resnet_v2() -> tuple[Table, ...]:
    """Return the table of timm's network."""
    stem = [f"conv2d_{name}" for name in ("1a", "2a", "2b", "3b", "4a")]
    layers = [
        *_paired(_steps(v3.STEM, "stem"), stem),
        *_normed("last_conv1", "conv2d_7b"),
        Layer("logits", "classif", "dense"),
    ]
    names = (
        ("mixed_5b", "0 1.0 1.1 2.0 2.1 2.2 3.1", "repeat", "0 1.0 1.1 2.0 2.1 2.2"),
        ("mixed_6a", "0 1.0 1.1 1.2", "repeat_1", "0 1.0 1.1 1.2"),
        ("mixed_7a", "0.0 0.1 1.0 1.1 2.0 2.1 2.2", "repeat_2", "0 1.0 1.1 1.2"),
    )
    for number, (first, block, count, _) in enumerate(v4.RESIDUAL_STAGES, 1):
        module, module_names, repeat, block_names = names[number - 1]
        full = [f"{module}.branch{name}" for name in module_names.split()]
        layers += _paired(_convolutions(first, f"stage{number}_module"), full)
        for index in range(count):
            last = number == len(names) and index == count - 1
            theirs = "block8" if last else f"{repeat}.{index}"
            ours = f"stage{number}_block{index + 1}"
            full = [f"{theirs}.branch{name}" for name in block_names.split()]
            layers += _paired(_convolutions(block, ours), full)
            layers.append(Layer(f"{ours}_up", f"{theirs}.conv2d", "biased conv"))
    return (Table("timm", layers, conventions=("papers", "tensorflow"), epsilon=SLIM),)


def _modules(
    stages: Sequence[Sequence[Sequence[Branch]]],
) -> Iterator[tuple[str, Sequence[Branch]]]:
    """Yield cvpipe's name of each module, and its branches."""
    for number, modules in enumerate(stages, 1):
        for index, branches in enumerate(modules, 1):
            yield f"stage{number}_module{index}", branches


def _convolutions(branches: Sequence[Branch], name: str) -> Iterator[str]:
    """Yield the names of a module's convolutions in the order of its branches."""
    for index, branch in enumerate(branches, 1):
        yield from _steps(branch, f"{name}_branch{index}")


def _steps(branch: Branch, name: str) -> Iterator[str]:
    for index, step in enumerate(branch, 1):
        if isinstance(step, Conv):
            yield f"{name}_conv{index}"
        elif isinstance(step, Fork):
            yield from _convolutions(step.branches, f"{name}_fork{index}")


def _paired(ours: Iterator[str], theirs: Sequence[str]) -> Iterator[Layer]:
    for our_name, their_name in zip(ours, theirs, strict=True):
        yield from _normed(our_name, their_name)


def _normed(ours: str, theirs: str) -> Iterator[Layer]:
    return normed(ours, f"{theirs}.conv", f"{theirs}.bn")
