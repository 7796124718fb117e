"""The sheet of `cvpipe data check`: near-duplicates side by side, and odd images, as one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.atomic_write import atomic_write
from cvpipe.data.odd_images import MEANINGS
from cvpipe.data.samples import read_original
from cvpipe.data.sources.source import Source
from cvpipe.documents import Block, Gallery, Heading, Picture, Text, to_html
from cvpipe.errors import counted

SHEET = "sheet.html"
PAIRS, ODD = 200, 24
"""Largest number of pairs, and of odd images per kind, that are shown."""
LONGEST, GAP = 144, 4


def write_sheet(result: Mapping[str, Any], splits: Mapping[str, Source], folder: Path) -> Path:
    """Write sheet.html with the findings of `check`, and return the file."""
    pairs = result["near_duplicates"]
    across = sum(pair["across_splits"] for pair in pairs)
    shown = f"; the first {PAIRS} are shown" if len(pairs) > PAIRS else ""
    blocks: list[Block] = [
        Heading(1, "Images to look at"),
        Heading(2, "Near-duplicates"),
        Text(
            f"{counted(len(pairs), 'pair')}: first {across:,} across splits, then the others, each"
            f" in order of decreasing similarity{shown}."
        ),
        Gallery([_pair(number, pair, splits) for number, pair in enumerate(pairs[:PAIRS], 1)]),
    ]
    for kind, meaning in MEANINGS.items():
        found = result["odd"][kind]
        if found:
            title, _, explanation = meaning.partition(": ")
            shown = f"; the first {ODD} are shown" if len(found) > ODD else ""
            pictures = [
                _picture(kind, n, record, splits) for n, record in enumerate(found[:ODD], 1)
            ]
            blocks += [
                Heading(2, title.capitalize()),
                Text(f"{counted(len(found), 'image')}, {explanation}{shown}."),
                Gallery(pictures),
            ]
    with atomic_write(folder / SHEET) as stream:
        stream.write(to_html("Images to look at", blocks).encode("utf-8", "backslashreplace"))
    return folder / SHEET


def _pair(number: int, pair: Mapping[str, Any], splits: Mapping[str, Source]) -> Picture:
    caption = "\n".join(_name(record) for record in pair["records"])
    content = _side_by_side([_thumbnail(record, splits) for record in pair["records"]])
    title = f"{caption}\ndifference {pair['difference']:.3f}"
    return Picture(title, f"pair-{number:04}.jpg", content)


def _picture(
    kind: str, number: int, record: Mapping[str, Any], splits: Mapping[str, Source]
) -> Picture:
    content = _side_by_side([_thumbnail(record, splits)])
    return Picture(_name(record), f"{kind.replace(' ', '-')}-{number:04}.jpg", content)


def _name(record: Mapping[str, Any]) -> str:
    return f"{record['record']} ({record['split']}, {record['class']})"


def _thumbnail(record: Mapping[str, Any], splits: Mapping[str, Source]) -> np.ndarray:
    """Return an image with its longer side at LONGEST pixels, uint8 [h, w, 3]."""
    pixels = read_original(splits[record["split"]], record["position"], 3)
    scale = LONGEST / max(pixels.shape[:2])
    size = [max(round(scale * side), 1) for side in pixels.shape[:2]]
    method = "nearest" if scale > 1 else "area"
    resized: np.ndarray = tf.cast(tf.image.resize(pixels, size, method), tf.uint8).numpy()
    return resized


def _side_by_side(images: Sequence[np.ndarray]) -> bytes:
    height = max(image.shape[0] for image in images)
    padded = [
        np.pad(image, ((0, height - image.shape[0]), (0, GAP), (0, 0)), constant_values=255)
        for image in images
    ]
    row = np.concatenate(padded, axis=1)[:, :-GAP]
    content: bytes = tf.io.encode_jpeg(row, quality=85).numpy()
    return content
