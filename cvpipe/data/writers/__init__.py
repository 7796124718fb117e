"""Writing of annotated images in other tools' formats, with a module for each format.

A module has `HOLDS`, the kinds of annotation that the format can represent; `UPRIGHT`, True if
coordinates always refer to the upright photo, False if the stated size decides; and `write`. To add
a format, add a module here and its name to `TARGETS`.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from cvpipe.atomic_write import atomic_folder
from cvpipe.data.annotated import KINDS, Annotated
from cvpipe.data.facts import Facts
from cvpipe.data.writers.stored import as_stored, size_shows_rotation
from cvpipe.data.writers.target import Target
from cvpipe.errors import ConfigError, DataError

__all__ = ["TARGETS", "Written", "check_target", "write_dataset"]

TARGETS = ("coco", "yolo", "voc", "csv", "labelme", "masks", "crops", "parquet")


class Written(NamedTuple):
    """A data set that was written."""

    images: dict[str, int]
    """Numbers of images by split."""
    told: list[str]
    """Sentences about information that the format can't represent, with numbers."""


def check_target(name: str, kinds: Collection[str], option: str) -> None:
    """Check that a format can represent at least one kind of annotation.

    Args:
        name: one of TARGETS.
        kinds: kinds of annotation, of `annotated.KINDS`.
        option: the command line option, for the error.

    Raises:
        ConfigError: the format can represent none of them.
    """
    if not kinds:
        raise ConfigError(f"{option} {name}: there are no {', '.join(KINDS)} to write")
    if _module(name).HOLDS.isdisjoint(kinds):
        fit = [other for other in TARGETS if not _module(other).HOLDS.isdisjoint(kinds)]
        listed = " and ".join(kind for kind in KINDS if kind in kinds)
        raise ConfigError(f"{option} {name}: can't hold {listed}; choose {' or '.join(fit)}")


def write_dataset(
    name: str,
    folder: Path,
    facts: Facts,
    images: Iterable[Annotated],
    option: str,
    link: bool = False,
) -> Written:
    """Write a data set to a new folder, which appears when it is complete.

    Args:
        name: one of TARGETS.
        folder: must not exist, or must be empty.
        facts: class and keypoint names.
        images: iterated once.
        option: the command line option, for errors.
        link: write links to images in folders instead of copies.

    Raises:
        ConfigError: the format can represent none of the annotations.
        DataError: there is no image, or a file can't be written.
    """
    images = iter(images)
    first = next(images, None)
    if first is None:
        raise DataError(f"{folder}: there is no image that can be read; nothing is written")
    check_target(name, first.annotations.kinds, option)
    module = _module(name)
    try:
        with atomic_folder(folder) as partial:
            target = Target(partial, facts, link)
            module.write(target, _fitting(target, module, itertools.chain([first], images)))
    except OSError as error:
        raise DataError(f"{error.filename or folder}: can't be written: {error.strerror}") from None
    lost = [f"{text}: {number:,}" for text, number in target.lost.items()]
    return Written(dict(target.images), [*lost, *target.remarks])


def _fitting(
    target: Target, module: ModuleType, images: Iterable[Annotated]
) -> Iterator[Annotated]:
    """Yield the images after dropping annotations that the format can't represent. Count images
    that lose annotations.
    """
    for image in images:
        for kind in KINDS:
            if kind in image.annotations.kinds - module.HOLDS:
                target.lose(f"images whose {kind} are left out, which the format can't represent")
        if not module.UPRIGHT and not size_shows_rotation(image):
            image = as_stored(image, target.facts)
            target.lose(
                "photos whose size doesn't show their Exif rotation; their annotations refer to the"
                " stored photo"
            )
        yield image


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"cvpipe.data.writers.{name}")
