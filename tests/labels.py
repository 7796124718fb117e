"""Labels of classification sources, for tests that compare them."""

from __future__ import annotations

import numpy as np

from cvpipe.data.annotations.label import Label
from cvpipe.data.sources import Source


def labels_of(source: Source) -> np.ndarray:
    """Return the label of each example: int32 [N]."""
    return source.annotation(Label).labels[source.records]
