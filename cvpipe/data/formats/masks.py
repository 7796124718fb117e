"""Masks named after their images, as CVAT, Roboflow and Supervisely write them.

Masks are in another folder than the images, or in the same folder with a suffix.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import json
import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cvpipe.data.formats.found import PAIRED, SEGMENTATION, Found, Place, some, split_in, stem
from cvpipe.data.sources.mask_values import GRAY, open_mask
from cvpipe.errors import DataError, counted

SUFFIXES = ("_mask", "-mask", ".mask", "_seg", "_gt", "_label", "_labels", "_segmentation", "_L")
# A picture with more different values is taken for a photo.
_MOST_VALUES = 64
# Largest number of masks to inspect; one takes about 10 ms.
_MOST_MASKS = 300
# Number of masks to inspect in the check whether pictures are masks.
_FEW_MASKS = 5
_SPLITS = ("train", "validation", "test")
_IGNORED = (["unlabeled"], ["unlabelled"], ["ignore"], ["ignored"], ["void"])
# Black with a smaller share of the pixels, beside other colors, is unlabeled area, not a class.
_STRAY = 0.001
# The conventional gray value of ignored pixels.
_IGNORED_VALUE = 255


class _Pair(NamedTuple):
    """Folders of images and masks."""

    images: str
    masks: str
    suffix: str
    files: list[str]
    """Masks whose image exists."""


class _Values(NamedTuple):
    """Values of the pixels of some masks."""

    by_color: bool
    shares: dict[Any, float]
    """Share of the pixels by gray value, palette index or color, such as "#3C1098"."""


def find(place: Place) -> Iterator[Found]:
    """Yield folders of images and masks."""
    kinds = functools.cache(functools.partial(_kinds, place))
    pairs = [pair for pair in _pairs(place) if _are_masks(place, pair, kinds)]
    # Drop pairs whose images are masks of another pair.
    drawn = {name for pair in pairs for name in pair.files}
    pairs = [pair for pair in pairs if not drawn.intersection(_named_after(place, pair))]
    if not pairs:
        return
    masks = [name for pair in pairs for name in pair.files]
    looked = some(masks, _MOST_MASKS)
    values = _values(place, looked)
    if values is None:
        place.near.append(
            f"{masks[0]} and others have the names of images, but some are gray and some colored;"
            " save all of them in gray or all in color"
        )
        return
    keys, remarks = _classes(place, values)
    source = {"kind": "masks", "path": place.path, **_splits(place, pairs), **keys}
    why = f"{counted(len(masks), 'image')} have a picture with few"
    why += f" {'colors' if values.by_color else 'values'} and the same name, such as"
    why += f" {place.key(masks[0])}"
    if len(looked) < len(masks):
        remarks.append(
            f"{counted(len(looked), 'mask')} of {len(masks)} were inspected; others may have more"
            f" {'colors' if values.by_color else 'values'}"
        )
    yield Found(SEGMENTATION, source, why, PAIRED, tuple(remarks))


def _pairs(place: Place) -> Iterator[_Pair]:
    """Yield pairs of folders with the same file names, images first."""
    folders: dict[str, dict[str, str]] = {}
    for name in place.images:
        folders.setdefault(posixpath.dirname(name), {})[stem(name)] = name
    for folder, stems in folders.items():
        for suffix in SUFFIXES:
            files = [n for s, n in stems.items() if s.removesuffix(suffix) in stems.keys() - {s}]
            if files:
                yield _Pair(folder, folder, suffix, files)
    for (a, in_a), (b, in_b) in itertools.permutations(folders.items(), 2):
        # Instance masks have no classes.
        if "SegmentationObject" in b.split("/") or not _go_together(a, b):
            continue
        for suffix in ("", *SUFFIXES):
            files = [
                n
                for s, n in in_b.items()
                if s.endswith(suffix) and s[: len(s) - len(suffix)] in in_a
            ]
            if files and len(files) >= 0.5 * len(in_b):
                yield _Pair(a, b, suffix, files)
                break


def _go_together(a: str, b: str) -> bool:
    """Return True if the folders' paths differ in one part only."""
    one, other = a.split("/"), b.split("/")
    return len(one) == len(other) and sum(x != y for x, y in zip(one, other, strict=True)) == 1


def _named_after(place: Place, pair: _Pair) -> list[str]:
    """Return the images that some of the pair's masks belong to."""
    stems = {stem(name) for name in some(pair.files, _FEW_MASKS)}
    return [
        image
        for image in place.images
        if posixpath.dirname(image) == pair.images and stem(image) + pair.suffix in stems
    ]


def _are_masks(place: Place, pair: _Pair, kinds: Callable[[str], int]) -> bool:
    """Return True if the pictures have few colors, unlike the images with the same names."""
    masks = some(pair.files, _FEW_MASKS)
    if any(name.lower().endswith((".jpg", ".jpeg")) for name in masks):
        return False
    known = [number for number in map(kinds, masks) if number]
    photos = [kinds(name) for name in _named_after(place, pair)]
    return bool(known) and max(known) <= _MOST_VALUES and max(photos, default=0) > max(known)


def _kinds(place: Place, name: str) -> int:
    """Return the number of different values in a picture, at most the limit plus one; 0 if it can't
    be read.
    """
    try:
        picture = open_mask(place.files.read(name))
    except DataError:
        return 0
    if picture.mode.startswith("I"):
        return len(_count(picture))
    return len(picture.getcolors(_MOST_VALUES) or range(_MOST_VALUES + 1))


def _count(picture: Image.Image) -> Counter[Any]:
    """Count the pixels of each value: an int for gray and palette pictures, else a color."""
    if picture.mode in GRAY or picture.mode == "P":
        gray = picture.getchannel("L") if picture.mode == "LA" else picture
        numbers, counts = np.unique(np.asarray(gray).astype(np.int64), return_counts=True)
        scale = picture.info["scale"]
        return Counter(dict(zip((numbers // scale).tolist(), counts.tolist(), strict=True)))
    return _count_colors(picture)


def _count_colors(picture: Image.Image) -> Counter[Any]:
    pixels = np.asarray(picture.convert("RGB")).astype(np.int64) @ [1 << 16, 1 << 8, 1]
    numbers, counts = np.unique(pixels, return_counts=True)
    return Counter({f"#{n:06X}": c for n, c in zip(numbers.tolist(), counts.tolist(), strict=True)})


def _values(place: Place, masks: Sequence[str]) -> _Values | None:
    """Return the values of the masks' pixels, as colors if some masks have palettes and others
    colors; None if some masks are gray and others colored.
    """
    plain, colored = Counter[Any](), Counter[Any]()
    modes = set[str]()
    for name in masks:
        try:
            picture = open_mask(place.files.read(name))
        except DataError as error:
            place.near.append(f"{name}: {error}")
            continue
        kind = "gray" if picture.mode in GRAY else "palette" if picture.mode == "P" else "color"
        modes.add(kind)
        if kind != "color":
            plain.update(_count(picture))
        if kind != "gray":
            colored.update(_count_colors(picture))
    if modes == {"gray", "color"} or len(modes) > 2:
        return None
    counts = colored if "color" in modes else plain
    everything = counts.total()
    return _Values(
        "color" in modes, {value: counts[value] / everything for value in sorted(counts)}
    )


def _classes(place: Place, values: _Values) -> tuple[dict[str, Any], list[str]]:
    """Return the keys of `data.source` that name classes, and remarks."""
    named, where = _named(place, values.by_color)
    numbers = sorted(value for value in values.shares if value != _IGNORED_VALUE)
    if not values.by_color and named.keys() >= set(numbers):
        top = max(named)
        names = [named.get(n, f"unused_{n}") for n in range(top + 1)]
        return {"classes": [{"name": name} for name in names]}, [f"{where} names the classes"]
    contiguous = numbers == list(range(len(numbers))) and len(numbers) > 1
    if not values.by_color and contiguous:
        names = [f"class_{number}" for number in numbers]
        remark = "No file names the masks' values; name them in data.source.classes"
        return {"classes": [{"name": name} for name in names]}, [remark]
    shares = values.shares
    if not values.by_color:
        # Classes by index must cover all values from 0 on; classes by color need not.
        shares = {f"#{value:02X}{value:02X}{value:02X}": s for value, s in shares.items()}
        if set(shares) == {"#000000", "#FFFFFF"}:
            named = {"#000000": "background", "#FFFFFF": "foreground"}
    names_of = {color: named.get(color, f"color_{color[1:]}") for color in shares}
    ignored = [
        color
        for color, name in names_of.items()
        if name.lower().split()[:1] in _IGNORED or _is_stray(color, named, shares)
    ]
    classes = [
        {"name": name, "color": color} for color, name in names_of.items() if color not in ignored
    ]
    keys: dict[str, Any] = {"classes": classes}
    if ignored:
        keys["ignore_colors"] = ignored
    unnamed = [color for color in shares if color not in named and color not in ignored]
    is_used = where and any(row["color"] in named for row in classes)
    remarks = [f"{where} names the classes"] if is_used else []
    if unnamed:
        shown = ", ".join(f"{color} {shares[color]:.1%}" for color in unnamed[:8])
        remarks.append(
            f"No file names these colors of the masks (share of pixels): {shown}; name them in"
            " data.source.classes, or move them to ignore_colors"
        )
    return keys, remarks


def _is_stray(color: str, named: Mapping[Any, str], shares: Mapping[str, float]) -> bool:
    return color == "#000000" and color not in named and shares[color] < _STRAY < len(shares) - 2


def _named(place: Place, by_color: bool) -> tuple[dict[Any, str], str]:
    """Return the class names by value or color, and the path of the file that names them."""
    for name in place.files.names():
        last = posixpath.basename(name)
        text = place.text(name) if last in _READERS else None
        found = _READERS[last](text) if text else {}
        wanted = {
            value: label for value, label in found.items() if isinstance(value, str) == by_color
        }
        if wanted:
            return wanted, place.key(name)
    return {}, ""


def _labelmap(text: str) -> dict[Any, str]:
    """Read CVAT's labelmap.txt: one line "name:r,g,b:parts:actions" per class."""
    found: dict[Any, str] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        numbers = rest.partition(":")[0].split(",")
        if not line.startswith("#") and len(numbers) == 3 and all(n.isdecimal() for n in numbers):
            found["#" + "".join(f"{int(number):02X}" for number in numbers)] = name
    return found


def _classes_csv(text: str) -> dict[Any, str]:
    """Read Roboflow's _classes.csv: "Pixel Value, Class"."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text))]
    return {int(row[0]): row[1] for row in rows if len(row) == 2 and row[0].isdecimal()}


def _meta_json(text: str) -> dict[Any, str]:
    """Read Supervisely's classes: {"classes": [{"title", "color"}]}."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    rows = content.get("classes", []) if isinstance(content, dict) else []
    return {
        str(row["color"]).upper(): str(row["title"])
        for row in rows
        if isinstance(row, dict) and {"color", "title"} <= row.keys()
    }


_READERS = {
    "labelmap.txt": _labelmap,
    "_classes.csv": _classes_csv,
    "classes.json": _meta_json,
    "meta.json": _meta_json,
}


def _splits(place: Place, pairs: Sequence[_Pair]) -> Mapping[str, Any]:
    """Return the folders of each split; folders without a split's name are for training."""
    splits: dict[str, list[dict[str, str]]] = {}
    for pair in pairs:
        folders = {"images": place.key(pair.images), "masks": place.key(pair.masks)}
        if pair.suffix:
            folders["mask_suffix"] = pair.suffix
        splits.setdefault(split_in(pair.masks) or "train", []).append(folders)
    if "train" not in splits:
        raise DataError(
            f"{place.path}: there are masks of {' and '.join(splits)}, but none of train; name the"
            " training split's folder train"
        )
    return {split: splits[split] for split in _SPLITS if split in splits}
