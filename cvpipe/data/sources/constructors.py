"""Constructors of sources with one kind of annotation.

`read_record`, `name_record` and `locate` are those of `source.make_source`.

Dimensions: R records.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.annotations.label import Label
from cvpipe.data.annotations.mask import Mask
from cvpipe.data.example import Reader
from cvpipe.data.facts import Facts
from cvpipe.data.sources.source import Source, make_source


def classification_source(
    class_names: tuple[str, ...],
    labels: np.ndarray,
    read_record: Reader,
    name_record: Callable[[int], str],
    locate: Callable[[str], str] = str,
) -> Source:
    """Return images of one class each; `labels` is int [R]."""
    label = Label(np.asarray(labels).astype(np.int32))
    return make_source(Facts(class_names), [label], len(labels), read_record, name_record, locate)


def detection_source(
    class_names: tuple[str, ...],
    boxes: Boxes,
    read_record: Reader,
    name_record: Callable[[int], str],
    locate: Callable[[str], str] = str,
) -> Source:
    """Return images with objects."""
    return make_source(
        Facts(class_names), [boxes], len(boxes.starts) - 1, read_record, name_record, locate
    )


def segmentation_source(
    class_names: tuple[str, ...],
    records: int,
    read_record: Reader,
    name_record: Callable[[int], str],
    locate: Callable[[str], str] = str,
    mask: Mask | None = None,
) -> Source:
    """Return R = `records` images; `read_record` reads each image with its mask.

    `mask` has further data, such as frames.
    """
    kinds = [mask or Mask()]
    return make_source(Facts(class_names), kinds, records, read_record, name_record, locate)
