"""Guards weights of PyTorch, torchvision, timm and Keras: every variable gets its own, and where
the library is installed the logits are the same.
"""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from cvpipe.errors import DataError
from cvpipe.models.abstract import without_weights
from cvpipe.models.blocks import Style
from cvpipe.models.build import backbone, classification_network
from cvpipe.models.catalog import NETWORKS
from cvpipe.models.weights.convert import OF_NORM, convert
from cvpipe.models.weights.hdf5_file import read_hdf5_file
from cvpipe.models.weights.names import TABLES, Layer, Table, tables_of
from cvpipe.models.weights.safetensors_file import read_safetensors_file
from cvpipe.models.weights.torch_file import read_torch_file
from cvpipe.training.start import UNPUBLISHED, take_over
from torch_peer import ask_peer

SOAK = pytest.mark.soak
CASES = [(name, number) for name in TABLES for number in range(len(tables_of(name)))]


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's variables by path."""
    network = NETWORKS[name]
    with without_weights():
        model = classification_network(name, network.input_shape, 7)
    return {variable.path: tuple(variable.shape) for variable in model.variables}


def theirs(layer: Layer, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Random numbers of the shapes that another library has for a layer."""
    draw = np.random.default_rng(len(layer.theirs))
    kernel = shapes.get(f"{layer.ours}/kernel", ())
    match layer.kind:
        case "norm":
            size = {own: shapes[f"{layer.ours}/{ours}"] for own, ours in OF_NORM.items()}
            size["num_batches_tracked"] = ()
        case "conv" | "biased conv":
            size = {"weight": (kernel[3], kernel[2], *kernel[:2])}
        case "depthwise":
            size = {"weight": (kernel[2], 1, *kernel[:2])}
        case "dense":
            size = {"weight": kernel[::-1]}
        case "dense as 7×7" | "dense as 1×1":
            size = {"weight": (kernel[3], int(np.prod(kernel[:3])))}
        case _:
            size = {"0": kernel, "1": kernel[-1:]}
    if layer.kind in ("biased conv", "dense", "dense as 7×7", "dense as 1×1"):
        size["bias"] = kernel[-1:]
    # Sparse in memory: VGG's fully connected layers have 119 million numbers.
    return {
        f"{layer.theirs}.{own}": np.broadcast_to(np.float32(draw.uniform()), shape)
        for own, shape in size.items()
    }


def file_of(name: str, table: Table) -> dict[str, np.ndarray]:
    shapes = shapes_of(name)
    layers = [layer for layer in table.layers if f"{layer.ours}/kernel" in shapes]
    layers += [layer for layer in table.layers if layer.kind == "norm"]
    return {key: own for layer in layers for key, own in theirs(layer, shapes).items()}


@pytest.mark.parametrize("name, number", CASES)
def test_a_table_names_every_variable_of_its_network_and_gives_it_its_shape(
    name: str, number: int
) -> None:
    shapes, table = shapes_of(name), tables_of(name)[number]
    found = convert(file_of(name, table), [table], name, "a.pth")
    lacking = shapes.keys() - found.keys()
    assert {path.split("/")[0] for path in lacking} <= {*UNPUBLISHED, "logits"}
    assert {path: own.shape for path, own in found.items()} == {
        path: shapes[path] for path in found
    }


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_lite0"])
def test_a_file_without_its_last_layer_is_taken_over(name: str) -> None:
    table = tables_of(name)[0]
    head = next(layer.theirs for layer in table.layers if layer.ours == "logits")
    whole = file_of(name, table)
    without = {key: own for key, own in whole.items() if not key.startswith(f"{head}.")}
    assert len(without) == len(whole) - 2
    found = convert(without, tables_of(name), name, "a.pth")
    assert "stem/kernel" in found and "logits/kernel" not in found


def test_a_deeper_network_is_refused_though_it_has_every_name() -> None:
    file = file_of("resnet34", tables_of("resnet34")[0])
    sentence = "a.pth: has layer1.2.bn1.bias, which no layer takes, by torchvision's names of"
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


# -- Keras


def test_kerass_vgg16_gives_the_features_that_it_has_there(tmp_path: Path) -> None:
    published = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    published.save_weights(tmp_path / "new.weights.h5")
    with h5py.File(tmp_path / "old.h5", "w") as file:
        # As Keras 2 saved them, and as the files are that Keras publishes.
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
def test_what_is_no_hdf5_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.h5: damaged, or no weights that Keras saved"):
        read_hdf5_file(tmp_path / "a.h5")


# -- PyTorch


@pytest.mark.parametrize(
    "library, theirs, ours, ending",
    [
        ("torchvision", "resnet18", "resnet18", "pth"),
        ("torchvision", "mobilenet_v2", "mobilenet_v2", "pth"),
        ("timm", "tf_efficientnet_lite0", "efficientnet_lite0", "safetensors"),
        ("timm", "mobilenetv2_100", "mobilenet_v2", "safetensors"),
        pytest.param("timm", "resnet18", "resnet18", "safetensors", marks=SOAK),
        pytest.param("torchvision", "resnet34", "resnet34", "pth", marks=SOAK),
        pytest.param("torchvision", "resnet50", "resnet50", "pth", marks=SOAK),
        pytest.param("timm", "resnet50", "resnet50", "pth", marks=SOAK),
        pytest.param("timm", "tf_efficientnet_lite1", "efficientnet_lite1", "pth", marks=SOAK),
        pytest.param("timm", "tf_efficientnet_lite2", "efficientnet_lite2", "pth", marks=SOAK),
    ],
)
def test_logits_are_those_of_the_library(
    library: str, theirs: str, ours: str, ending: str, tmp_path: Path
) -> None:
    file = tmp_path / f"a.{ending}"
    peer = ask_peer(library, theirs, file, tmp_path / "a.npz", 64, 96)
    read = read_torch_file if ending == "pth" else read_safetensors_file
    network = classification_network(ours, (64, 96, 3), 1000)
    take_over(network, convert(read(file), tables_of(ours), ours, str(file)), str(file))
    expected = peer["logits"]
    size = np.abs(expected).max()
    assert np.ptp(expected) > 0.01
    found = network(peer["pixels"])["logits"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * size)


@pytest.mark.soak
@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_fully_connected_layers_become_convolutions(library: str, tmp_path: Path) -> None:
    file = tmp_path / "a.pth"
    peer = ask_peer(library, "vgg16", file, tmp_path / "a.npz", 224, 224)
    image = keras.Input((224, 224, 3))
    ours = keras.Model(image, backbone("fcn_vgg16")(image, width=1.0, style=Style())[32])
    weights = convert(read_torch_file(file), tables_of("fcn_vgg16"), "fcn_vgg16", "a.pth")
    take_over(ours, weights, "a.pth")
    # Of the 7×7 places the middle one sees all of the map, as PyTorch's layer does.
    found, expected = np.asarray(ours(peer["pixels"]))[:, 3, 3], peer["hidden"]
    assert np.ptp(expected) > 1e-4
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
