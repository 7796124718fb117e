"""Where labelled images come from: one file per format, each giving the splits that it has."""

from __future__ import annotations

import hashlib
import logging

import numpy as np

from cvpipe.config.data import Data, Digits, Folder, Idx
from cvpipe.data.sources.digits import digits
from cvpipe.data.sources.folder import folder
from cvpipe.data.sources.idx import idx
from cvpipe.data.sources.source import Example, Source
from cvpipe.errors import DataError

__all__ = ["Example", "Source", "open_splits"]

log = logging.getLogger(__name__)


def open_splits(config: Data, seed: int) -> dict[str, Source]:
    """Opens the data and makes the splits it lacks.

    Args:
        config: which format, where, and the shares to hold out.
        seed: chooses what is held out; the same seed holds out the same examples.

    Returns:
        "train" and "test", and "validation" unless its share is 0.

    Raises:
        DataError: files are missing or damaged, or fewer than two classes have images.
    """
    splits = _open(config)
    source = next(iter(splits.values()))
    if len(source.classes) < 2:
        raise DataError(f"{_where(config)}: only the class {source.classes[0]!r}; telling classes apart needs at least two")
    if "all" in splits:
        splits["train"], splits["test"] = hold_out(splits.pop("all"), config.test, f"{seed} test")
    elif "test" not in splits:
        splits["train"], splits["test"] = hold_out(splits["train"], config.test, f"{seed} test")
    if "validation" not in splits and config.validation:
        splits["train"], splits["validation"] = hold_out(splits["train"], config.validation, f"{seed} validation")
    for name, split in list(splits.items()):
        if not len(split) and name == "validation":
            log.warning("%s: too few images to hold any out for validation; the last checkpoint counts as the best", _where(config))
            del splits[name]
        elif not len(split):
            raise DataError(f"{_where(config)}: no image in the {name} split; add images, or raise data.test")
    _warn_of_rare_classes(config, splits["train"])
    return splits


def hold_out(source: Source, share: float, seed: str) -> tuple[Source, Source]:
    """Splits a source in two, each class by itself: what stays, and `share` of it held out.

    Examples are ranked by a hash of the seed and their name, so that adding some moves few of the others, wherever the data
    lies. A class always keeps at least one example; both parts keep the source's order.
    """
    ranks = np.array([hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest() for name in source.names()], dtype="S8")
    held = np.zeros(len(source), bool)
    for label in range(len(source.classes)):
        members = np.flatnonzero(source.labels == label)
        count = min(round(len(members) * share), len(members) - 1)
        held[members[np.argsort(ranks[members], kind="stable")][: max(count, 0)]] = True
    return source.subset(np.flatnonzero(~held)), source.subset(np.flatnonzero(held))


def _open(config: Data) -> dict[str, Source]:
    match config.source:
        case Digits():
            return digits()
        case Idx():
            return idx(config.source)
        case Folder():
            return folder(config.source)


def _where(config: Data) -> str:
    return getattr(config.source, "path", config.source.kind)


def _warn_of_rare_classes(config: Data, train: Source) -> None:
    counts = np.bincount(train.labels, minlength=len(train.classes))
    for name, count in zip(train.classes, counts):
        if count <= 1:
            images = "one image" if count == 1 else "no image"
            log.warning("%s: class '%s' has %s to train on; its score will mean little, add more", _where(config), name, images)
