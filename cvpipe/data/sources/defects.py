"""Sources of normal images and of images with defects.

The first class is normal; the others are kinds of defects. The values of masks are indices of
classes.

Dimensions: R records.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cvpipe.data.annotations.label import Label
from cvpipe.data.annotations.mask import Mask
from cvpipe.data.example import Reader
from cvpipe.data.facts import Facts
from cvpipe.data.sources.source import Source, make_source

GOOD = "good"
"""Name of the class of normal images, as in MVTec AD."""


def defect_source(
    class_names: tuple[str, ...],
    labels: np.ndarray,
    read_record: Reader,
    name_record: Callable[[int], str],
    locate: Callable[[str], str] = str,
) -> Source:
    """Return a source of images with one label, int [R], and one mask each.

    The other arguments are those of `source.make_source`.
    """
    kinds = [Label(np.asarray(labels).astype(np.int32), first_alone=True), Mask()]
    return make_source(Facts(class_names), kinds, len(labels), read_record, name_record, locate)
