"""scikit-learn's handwritten digits, which need no download (Alpaydin and Kaynak 1998, UCI)."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvpipe.config.digits import Digits
from cvpipe.data.graph import in_memory
from cvpipe.data.sources.constructors import classification_source
from cvpipe.data.sources.source import Source


def digits(config: Digits) -> dict[str, Source]:
    """Return the 1,797 images, uint8 [8, 8, 1], as one split named "all"."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = in_memory(np.rint(data.images * (255 / 16)).astype(np.uint8)[..., np.newaxis])

    def read_record(record: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"image": tf.ensure_shape(tf.gather(images, record), [8, 8, 1])}

    classes = tuple(str(name) for name in data.target_names)
    source = classification_source(
        classes, data.target, read_record, lambda record: f"digits[{record}]"
    )
    return {"all": source}
