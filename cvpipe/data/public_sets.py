"""Public data sets of the pipelines: origin and checksum of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cvpipe.user_paths import DATA

GROCERY_CLASSES = 16
GROCERY_IMAGES = {"train": 40, "test": 20}


class Installed(NamedTuple):
    """A copy installed by a package of the operating system."""

    package: str
    folder: str
    digest: str
    """Checksum of the files, computed like `PublicSet.digest`."""


class PublicSet(NamedTuple):
    """A data set in a public git repository, pinned by commit."""

    title: str
    size: str
    license: str
    url: str
    commit: str
    paths: tuple[str, ...]
    """Files and folders of the repository that are fetched."""
    digest: str
    """SHA-256 of the output of `sha256sum` for the data set's files, by sorted path."""
    folder: str = ""
    """Folder of the repository that becomes the data set; files outside it keep their paths."""
    choose: Callable[[Path], Iterator[str]] | None = None
    """Writes lists into a folder with `paths`, and yields further files to fetch."""
    installed: Installed | None = None

    @property
    def about(self) -> dict[str, str]:
        """Return facts for the documentation."""
        return {
            key: getattr(self, key)
            for key in ("title", "size", "license", "url", "commit", "digest")
        }


def grocery_subset(root: Path) -> Iterator[str]:
    """Write the lists of a subset of the Grocery Store data set; yield the files in them.

    The subset has the 16 classes with the most training images (in ties, the lower id), and the
    first 40 training and 20 test images of each by sorted path.
    """
    lines = {
        split: (root / f"dataset/{split}.txt").read_text(encoding="utf-8").splitlines()
        for split in GROCERY_IMAGES
    }
    counts = Counter(_label(line) for line in lines["train"])
    classes = sorted(counts, key=lambda label: (-counts[label], label))[:GROCERY_CLASSES]
    for split, most in GROCERY_IMAGES.items():
        kept = {
            line
            for label in classes
            for line in sorted(line for line in lines[split] if _label(line) == label)[:most]
        }
        chosen = [line for line in lines[split] if line in kept]
        text = "".join(f"{line}\n" for line in chosen)
        (root / f"dataset/{split}_subset.txt").write_text(text, encoding="utf-8")
        yield from (f"dataset/{line.split(',')[0]}" for line in chosen)


def _label(line: str) -> int:
    """Return the class of "path, class, coarse class"."""
    return int(line.split(",")[1])


PUBLIC_SETS = {
    "fashion-mnist": PublicSet(
        title="Fashion-MNIST: 70,000 gray images of clothes, 28×28, 10 classes",
        size="31 MB",
        license="MIT, © 2017 Zalando SE",
        url="https://github.com/zalandoresearch/fashion-mnist",
        commit="b2617bb6d3ffa2e429640350f613e3291e10b141",
        paths=(
            "LICENSE",
            "data/fashion/t10k-images-idx3-ubyte.gz",
            "data/fashion/t10k-labels-idx1-ubyte.gz",
            "data/fashion/train-images-idx3-ubyte.gz",
            "data/fashion/train-labels-idx1-ubyte.gz",
        ),
        digest="b6ab71ad1deb783769d40055a08e56094826d36c390cd544b659d2fc37aa1cb8",
        folder="data/fashion",
        installed=Installed(
            package="dataset-fashion-mnist",
            folder="/usr/share/datasets/fashion-mnist",
            digest="8022246e14a1222242477ef141c667b407090e0e3ad861bed175082859706719",
        ),
    ),
    "grocery16": PublicSet(
        title="Grocery Store (Klasson et al. 2019): 960 photos of groceries, 16 of 81 classes",
        size="22 MB",
        license="MIT, © 2019 Marcus Klasson",
        url="https://github.com/marcusklasson/GroceryStoreDataset",
        commit="fc80ba90f803d79d0383df52c5a4ac5de99ff6fc",
        paths=(
            "LICENSE",
            "dataset/classes.csv",
            "dataset/train.txt",
            "dataset/val.txt",
            "dataset/test.txt",
        ),
        digest="737770d4537e208fd8e5645d53096fcdad8f901f8c3f19953fa8ee6005994037",
        choose=grocery_subset,
    ),
    "bccd": PublicSet(
        title="BCCD: 364 photos of blood cells under the microscope, 4,888 boxes, 3 classes",
        size="9 MB",
        license="MIT, © 2017 shenggan",
        url="https://github.com/Shenggan/BCCD_Dataset",
        commit="d272fb14cdff6e473fafeeeba32aba5f560e9e43",
        paths=("BCCD", "LICENSE", "README.md"),
        digest="7b37490ea23fc7caa61d37c51e44f4439144140f0cd164074312c92c89c52eb7",
    ),
    "aerial-tiles1-6": PublicSet(
        title="Aerial imagery of Dubai (Humans in the Loop): tiles 1 to 6, 54 images with masks",
        size="11 MB",
        license="CC0 1.0, as its Kaggle page says; the repository has no license file",
        url="https://github.com/Kaarti22/satellite-imagery",
        commit="4943c52893442a9547e0f36fc69c354bd3244e95",
        paths=tuple(
            f"Semantic segmentation dataset/{name}"
            for name in ("classes.json", *(f"Tile {n}" for n in range(1, 7)))
        ),
        digest="c328c4fb44fd93faf4103e7093d5e9f51733043247ae399b8ba0bc45d8c7f189",
        folder="Semantic segmentation dataset",
    ),
}


def how_to_fetch(path: str) -> str:
    """Return advice on fetching the data set of a path such as data/bccd; "" for other paths."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    name = parts[1].removesuffix(".zip") if len(parts) > 1 and parts[0] == DATA else ""
    return f"fetch it by 'make data NAME={name}', or " if name in PUBLIC_SETS else ""
