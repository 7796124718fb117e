"""Guards weights of PyTorch, torchvision, timm and Keras: every variable gets its tensor, and
logits equal the library's where it is installed.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Literal

import h5py
import keras
import numpy as np
import pytest

from conftest import small_config
from cvpipe.errors import ConfigError, DataError
from cvpipe.models.abstract import without_weights
from cvpipe.models.backbones import AUXILIARY
from cvpipe.models.blocks import Style
from cvpipe.models.build import backbone, classification_network, make_style
from cvpipe.models.catalog import NETWORKS, Conventions
from cvpipe.models.inception_module import Pool, steps
from cvpipe.models.weights.convert import OF_NORM, convert
from cvpipe.models.weights.hdf5_file import read_hdf5_file
from cvpipe.models.weights.names import DIFFERENT, TABLES, tables_of
from cvpipe.models.weights.names.layers import SLIM, Layer, Table
from cvpipe.models.weights.packages import packaged_weights
from cvpipe.models.weights.safetensors_file import read_safetensors_file
from cvpipe.models.weights.torch_file import read_torch_file
from cvpipe.training.start import UNPUBLISHED, take_over
from torch_peer import ask_peer

SOAK = pytest.mark.soak
LONG = (
    *("101", "152", "169", "201", "wide_", "_resnext50", "resnext50_"),
    *("_resnet_", "vgg11_", "vgg13_", "vgg19_", "_lite1", "_lite2", "_v3_large", "squeezenet1_0"),
    *(f"_b{number}" for number in range(1, 8)),
)
"""Parts of names of large networks, whose tests are marked soak."""
CASES = [
    pytest.param(name, number, marks=[SOAK] if any(part in name for part in LONG) else [])
    for name in TABLES
    for number in range(len(tables_of(name)))
]


@functools.cache
def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's variables by path, with auxiliary classifiers."""
    network = NETWORKS[name]
    with without_weights():
        model = classification_network(name, network.input_shape, 7, auxiliary=name in AUXILIARY)
    return {variable.path: tuple(variable.shape) for variable in model.variables}


BIASED = ("biased conv", "dense", "dense as 7×7", "dense as 6×6", "dense as 1×1", "conv as dense")


def theirs(layer: Layer, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Return random tensors with the shapes that another library has for a layer."""
    draw = np.random.default_rng(len(layer.theirs))
    kernel = shapes.get(f"{layer.ours}/kernel", ())
    match layer.kind:
        case "norm":
            size = {name: shapes[f"{layer.ours}/{ours}"] for name, ours in OF_NORM.items()}
            size["num_batches_tracked"] = ()
        case "conv" | "biased conv":
            size = {"weight": (kernel[3], kernel[2], *kernel[:2])}
        case "depthwise":
            size = {"weight": (kernel[2], 1, *kernel[:2])}
        case "dense":
            size = {"weight": kernel[::-1]}
        case "dense as 7×7" | "dense as 6×6" | "dense as 1×1":
            size = {"weight": (kernel[3], int(np.prod(kernel[:3])))}
        case "conv as dense":
            size = {"weight": (*kernel[::-1], 1, 1)}
        case "keras dense as 7×7" | "keras dense as 1×1":
            size = {"0": (int(np.prod(kernel[:3])), kernel[3]), "1": kernel[3:]}
        case _:
            size = {"0": kernel, "1": kernel[-1:]}
    if layer.kind in BIASED:
        size["bias"] = kernel[-1:]
    # Broadcast to save memory, as VGG's fully connected layers have 119 million numbers.
    return {
        f"{layer.theirs}.{name}": np.broadcast_to(np.float32(draw.uniform()), shape)
        for name, shape in size.items()
    }


def file_of(name: str, table: Table) -> dict[str, np.ndarray]:
    shapes = shapes_of(name)
    layers = [layer for layer in table.layers if f"{layer.ours}/kernel" in shapes]
    layers += [layer for layer in table.layers if layer.kind == "norm"]
    return {key: tensor for layer in layers for key, tensor in theirs(layer, shapes).items()}


@pytest.mark.parametrize("name, number", CASES)
def test_a_table_names_every_variable_of_its_network_with_its_shape(name: str, number: int) -> None:
    shapes, table = shapes_of(name), tables_of(name)[number]
    found = convert(file_of(name, table), [table], name, "a.pth", table.conventions[0])
    lacking = {path for path in shapes.keys() - found.keys() if "dropout" not in path}
    absent = set() if name.endswith("_fc") else {*UNPUBLISHED, "logits"}
    assert {path.split("/")[0] for path in lacking} <= absent
    assert {path: value.shape for path, value in found.items()} == {
        path: shapes[path] for path in found
    }


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_lite0"])
def test_a_file_without_its_last_layer_is_taken_over(name: str) -> None:
    table = tables_of(name)[0]
    head = next(layer.theirs for layer in table.layers if layer.ours == "logits")
    whole = file_of(name, table)
    without = {key: tensor for key, tensor in whole.items() if not key.startswith(f"{head}.")}
    assert len(without) == len(whole) - 2
    found = convert(without, tables_of(name), name, "a.pth", table.conventions[0])
    assert "stem/kernel" in found and "logits/kernel" not in found


def test_a_deeper_network_is_refused_though_it_has_every_name() -> None:
    file = file_of("resnet34", tables_of("resnet34")[0])
    sentence = (
        "a.pth: has layer1.2.bn1.bias, which fits no layer, according to torchvision's names for"
    )
    with pytest.raises(DataError, match=re.escape(sentence)):
        convert(file, tables_of("resnet18"), "resnet18", "a.pth")


def test_a_shallower_network_is_refused_with_the_tensor_that_is_missing() -> None:
    file = file_of("resnet18", tables_of("resnet18")[0])
    with pytest.raises(DataError, match=re.escape("a.pth: lacks layer1.2.bn1.bias")):
        convert(file, tables_of("resnet34"), "resnet34", "a.pth")


def test_a_tensor_of_another_rank_is_refused_by_name() -> None:
    file = file_of("resnet18", tables_of("resnet18")[0])
    file["conv1.weight"] = np.zeros([64], np.float32)
    with pytest.raises(DataError, match=r"conv1.weight has the shape \[64\]"):
        convert(file, tables_of("resnet18"), "resnet18", "a.pth")


# -- conventions and epsilon

LIBRARIES: tuple[Conventions, ...] = ("torch", "tensorflow")


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v3_small"])
def test_a_file_that_fits_two_networks_is_refused_without_conventions(name: str) -> None:
    table, _ = (table for table in tables_of(name) if table.library == "timm")
    file = file_of(name, table)
    sentence = (
        f"papers doesn't fit a.pth, which has weights of timm's {name}; set it to torch or tensor"
    )
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        convert(file, tables_of(name), name, "a.pth")
    variance = {}
    for library in LIBRARIES:
        for epsilon in (1e-5, 1e-3):
            found = convert(file, tables_of(name), name, "a.pth", library, epsilon)
            variance[library, epsilon] = found["stem_norm/moving_variance"]
    more = variance["tensorflow", 1e-5] - variance["torch", 1e-5]
    np.testing.assert_allclose(more, SLIM - 1e-5, rtol=1e-3)
    # EfficientNet-Lite has a fixed epsilon, whatever `model.norm_epsilon` is.
    less = variance["torch", 1e-5] - variance["torch", 1e-3]
    expected = SLIM - 1e-5 if name == "mobilenet_v3_small" else 0.0
    np.testing.assert_allclose(less, expected, rtol=1e-3)


@pytest.mark.parametrize(
    "name, conventions",
    [("mobilenet_v2", "tensorflow"), ("inception_v3", "papers"), ("resnet18", "model_garden")],
)
def test_weights_of_a_network_with_other_conventions_are_refused(
    name: str, conventions: Conventions
) -> None:
    table = tables_of(name)[0]
    sentence = f"{conventions} doesn't fit a.pth, which has weights of torchvision's {name}; set it"
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        convert(file_of(name, table), tables_of(name), name, "a.pth", conventions)


def test_packaged_weights_are_refused_for_other_conventions_before_they_are_read() -> None:
    with pytest.raises(ConfigError, match="torch doesn't fit .* set it to tensorflow"):
        packaged_weights("efficientnet_lite0", "torch")


def test_networks_that_differ_have_no_table_and_a_reason() -> None:
    assert not DIFFERENT.keys() & TABLES.keys()
    assert DIFFERENT.keys() <= NETWORKS.keys()


@pytest.mark.parametrize(
    "name, conventions, both_sides",
    [
        ("mobilenet_v2", "papers", True),
        ("mobilenet_v2", "tensorflow", False),
        ("efficientnet_lite0", "papers", False),
        ("efficientnet_lite0", "torch", True),
    ],
)
@without_weights()
def test_the_conventions_say_how_every_strided_convolution_pads(
    name: str, conventions: Conventions, both_sides: bool
) -> None:
    config = small_config(f"model={{backbone: {name}, conventions: {conventions}}}")
    model = classification_network(name, (64, 64, 3), 2, style=make_style(config.model, False))
    padded = [layer for layer in model.layers if isinstance(layer, keras.layers.ZeroPadding2D)]
    assert len(padded) == (5 if both_sides else 0)


@pytest.mark.parametrize("padding", [None, "tensorflow", "torch"])
def test_an_average_counts_the_zeros_around_the_map_as_the_library_does(
    padding: Literal["torch", "tensorflow"] | None,
) -> None:
    image = keras.Input((4, 5, 2))
    style = Style(padding=padding)
    model = keras.Model(image, steps(image, (Pool("avg"),), width=1, style=style, name="a"))
    pixels = np.random.default_rng(0).random((1, 4, 5, 2), np.float32)
    padded = np.pad(pixels, [(0, 0), (1, 1), (1, 1), (0, 0)])
    inside = np.pad(np.ones_like(pixels), [(0, 0), (1, 1), (1, 1), (0, 0)])
    windows = [(row, column) for row in range(3) for column in range(3)]
    total, count = (
        sum(values[:, row : row + 4, column : column + 5] for row, column in windows)
        for values in (padded, inside)
    )
    expected = total / (9 if padding == "torch" else count)
    np.testing.assert_allclose(model(pixels), expected, rtol=1e-5)


# -- Keras


def test_weights_of_kerass_vgg16_give_kerass_features(tmp_path: Path) -> None:
    published = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    published.save_weights(tmp_path / "new.weights.h5")
    with h5py.File(tmp_path / "old.h5", "w") as file:
        # In the layout of Keras 2, which is that of Keras's published files.
        layers = [layer for layer in published.layers if layer.weights]
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        for layer in layers:
            names = [f"{layer.name}_W_1:0", f"{layer.name}_b_1:0"]
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.weights, strict=True):
                group[name] = weight.numpy()
    weights = convert(read_hdf5_file(tmp_path / "old.h5"), tables_of("vgg16"), "vgg16", "old.h5")
    image = keras.Input((32, 32, 3))
    ours = keras.Model(image, backbone("vgg16")(image, width=1.0, style=Style())[32])
    take_over(ours, weights, "old.h5")
    pixels = 100 * np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    expected = np.asarray(published(pixels[..., ::-1]))
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(ours(pixels), expected, rtol=1e-4, atol=1e-4 * expected.max())


def test_numbers_of_another_file_are_not_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["a"] = np.zeros(3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["layers/dense/vars/0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "a")
        file["layers/dense/vars/1"] = np.zeros(3)
    assert list(read_hdf5_file(tmp_path / "a.h5")) == ["dense.1"]


@pytest.mark.parametrize("data", [b"", b"no HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_a_file_that_is_not_hdf5_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.h5: damaged, or not weights saved by Keras"):
        read_hdf5_file(tmp_path / "a.h5")


# -- PyTorch


PEERS: list[tuple[str, str, str, Conventions]] = [
    ("torchvision", "resnet18", "resnet18", "papers"),
    ("torchvision", "mobilenet_v2", "mobilenet_v2", "papers"),
    ("torchvision", "mobilenet_v3_small", "mobilenet_v3_small", "papers"),
    ("torchvision", "efficientnet_b0", "efficientnet_b0", "papers"),
    ("torchvision", "densenet121", "densenet121", "papers"),
    ("timm", "mobilenetv2_100", "mobilenet_v2", "papers"),
    ("timm", "mobilenetv1_100", "mobilenet_v1", "papers"),
    ("timm", "tf_efficientnet_lite0", "efficientnet_lite0", "tensorflow"),
]
SOAKED: list[tuple[str, str, str, Conventions]] = [
    ("torchvision", "alexnet", "alexnet_one_tower", "papers"),
    ("torchvision", "vgg11", "vgg11_fc", "papers"),
    ("torchvision", "resnet34", "resnet34", "papers"),
    ("torchvision", "resnet50", "resnet50", "papers"),
    ("torchvision", "resnet101", "resnet101", "papers"),
    ("torchvision", "wide_resnet50_2", "wide_resnet50_2", "papers"),
    ("torchvision", "resnext50_32x4d", "resnext50_32x4d", "papers"),
    ("torchvision", "densenet169", "densenet169", "papers"),
    ("torchvision", "inception_v3", "inception_v3", "torch"),
    ("torchvision", "mobilenet_v3_large", "mobilenet_v3_large", "papers"),
    ("torchvision", "efficientnet_b1", "efficientnet_b1", "papers"),
    ("timm", "resnet18", "resnet18", "papers"),
    ("timm", "resnet50", "resnet50", "papers"),
    ("timm", "seresnet50", "se_resnet50", "papers"),
    ("timm", "seresnext50_32x4d", "se_resnext50_32x4d", "papers"),
    ("timm", "densenet121", "densenet121", "papers"),
    ("timm", "inception_v3", "inception_v3", "torch"),
    ("timm", "inception_v4", "inception_v4", "papers"),
    ("timm", "inception_resnet_v2", "inception_resnet_v2", "papers"),
    ("timm", "mobilenetv3_small_100", "mobilenet_v3_small", "torch"),
    ("timm", "tf_mobilenetv3_small_100", "mobilenet_v3_small", "tensorflow"),
    ("timm", "mobilenetv3_large_100", "mobilenet_v3_large", "torch"),
    ("timm", "efficientnet_b0", "efficientnet_b0", "torch"),
    ("timm", "tf_efficientnet_b0", "efficientnet_b0", "tensorflow"),
    ("timm", "efficientnet_lite0", "efficientnet_lite0", "torch"),
    ("timm", "tf_efficientnet_lite1", "efficientnet_lite1", "tensorflow"),
    ("timm", "tf_efficientnet_lite2", "efficientnet_lite2", "tensorflow"),
]
SIZES = {"alexnet": (224, 224), "vgg11": (224, 224), "inception": (96, 107)}
"""Image sizes of networks that don't take 64×96 pixels, by the first part of their names."""


@pytest.mark.parametrize(
    "library, theirs, ours, conventions",
    [*PEERS, *(pytest.param(*case, marks=SOAK) for case in SOAKED)],
)
def test_logits_are_those_of_the_library(
    library: str, theirs: str, ours: str, conventions: Conventions, tmp_path: Path
) -> None:
    ending = "safetensors" if (theirs, library) in FORMATS else "pth"
    file = tmp_path / f"a.{ending}"
    rows, columns = SIZES.get(theirs.split("_")[0], (64, 96))
    peer = ask_peer(library, theirs, file, tmp_path / "a.npz", rows, columns)
    read = read_torch_file if ending == "pth" else read_safetensors_file
    config = small_config(f"model={{backbone: {ours}, conventions: {conventions}}}")
    style = make_style(config.model, False)
    network = classification_network(ours, (rows, columns, 3), 1000, style=style)
    weights = convert(read(file), tables_of(ours), ours, str(file), conventions)
    take_over(network, weights, str(file))
    expected = peer["logits"]
    size = np.abs(expected).max()
    assert np.ptp(expected) > 0.01
    found = network(peer["pixels"])["logits"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * size)


FORMATS = {("resnet18", "timm"), ("mobilenetv2_100", "timm"), ("tf_efficientnet_lite0", "timm")}
"""Networks whose weights are saved as a .safetensors file."""


@pytest.mark.parametrize("name", ["squeezenet1_1", pytest.param("squeezenet1_0", marks=SOAK)])
def test_the_features_of_squeezenet_are_torchvisions(name: str, tmp_path: Path) -> None:
    file = tmp_path / "a.pth"
    peer = ask_peer("torchvision", name, file, tmp_path / "a.npz", 64, 97)
    image = keras.Input((64, 97, 3))
    ours = keras.Model(image, backbone(name)(image, width=1.0, style=Style())[16])
    take_over(ours, convert(read_torch_file(file), tables_of(name), name, "a.pth"), "a.pth")
    expected = peer["hidden"].transpose(0, 2, 3, 1)
    assert np.ptp(expected) > 1e-3
    found = ours(peer["pixels"])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.soak
@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_fully_connected_layers_become_convolutions(library: str, tmp_path: Path) -> None:
    file = tmp_path / "a.pth"
    peer = ask_peer(library, "vgg16", file, tmp_path / "a.npz", 224, 224)
    image = keras.Input((224, 224, 3))
    ours = keras.Model(image, backbone("fcn_vgg16")(image, width=1.0, style=Style())[32])
    weights = convert(read_torch_file(file), tables_of("fcn_vgg16"), "fcn_vgg16", "a.pth")
    take_over(ours, weights, "a.pth")
    # The center of the 7×7 places sees the whole map, as PyTorch's layer does.
    found, expected = np.asarray(ours(peer["pixels"]))[:, 3, 3], peer["hidden"]
    assert np.ptp(expected) > 1e-4
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
