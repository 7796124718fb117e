"""Objects of TensorFlow Datasets, such as voc and coco: a sequence of boxes with labels in the
records.

Dimensions: R records, n objects of a record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.sources.objects import collect
from cvpipe.data.sources.records import parsed_records
from cvpipe.errors import DataError

# Flags of crowds in coco and of difficult objects in voc.
CROWD = ("is_crowd", "is_difficult")


def object_classes(feature: Any, where: str) -> tuple[str, ...]:
    """Return the class names of an objects feature.

    Raises:
        DataError: the feature isn't a sequence of boxes with labels.
    """
    from tensorflow_datasets import features as kinds

    inner = getattr(feature, "feature", None)
    parts = dict(inner) if isinstance(inner, kinds.FeaturesDict) else {}
    if not (
        isinstance(parts.get("bbox"), kinds.BBoxFeature)
        and isinstance(parts.get("label"), kinds.ClassLabel)
    ):
        found = (
            ", ".join(f"{name} ({type(part).__name__})" for name, part in sorted(parts.items()))
            or type(feature).__name__
        )
        raise DataError(
            f"data.source.objects: {where} has to be a sequence with a bbox (BBoxFeature) and a"
            f" label (ClassLabel); it has {found}"
        )
    return tuple(parts["label"].names)


def read_objects(
    read: Callable[[int], bytes],
    files: Sequence[str],
    name: str,
    feature: Any,
    place: str,
    locate: Callable[[str], str],
) -> Boxes:
    """Return the objects of all records.

    Args:
        read: maps a record's number to its bytes.
        files: [R], names of the records.
        name: name of the feature.
        feature: the feature, as for `object_classes`.
        place: location of the data set, for errors.
        locate: maps a record's name to its full path.

    Raises:
        DataError: a record is damaged, or a box isn't numeric or has no label.
    """
    parts = dict(feature.feature)
    flags = [flag for flag in CROWD if flag in parts]
    wanted = {"bbox": tf.float32, "label": tf.int64, **dict.fromkeys(flags, tf.int64)}
    if "area" in parts:
        wanted["area"] = tf.as_dtype(
            parts["area"].np_dtype if parts["area"].np_dtype == np.int64 else np.float32
        )
    kinds = {f"{name}/{part}": tf.io.VarLenFeature(dtype) for part, dtype in wanted.items()}
    found: dict[str, list[np.ndarray]] = {part: [] for part in wanted}
    counts: list[np.ndarray] = []
    for batch in parsed_records(read, len(files), kinds, name, place):
        for part in wanted:
            found[part].append(batch[f"{name}/{part}"].values.numpy())
        label = batch[f"{name}/label"]
        counts.append(np.bincount(label.indices.numpy()[:, 0], minlength=int(label.dense_shape[0])))
    every = {part: np.concatenate(values) for part, values in found.items()}
    labels, record = every["label"], np.repeat(np.arange(len(files)), np.concatenate(counts))
    unknown = np.flatnonzero((labels < 0) | (labels >= parts["label"].num_classes))
    if len(unknown):
        first = locate(files[record[unknown[0]]])
        raise DataError(
            f"{first}: an object without a label, one of {len(unknown)} such objects; choose splits"
            " that are labeled"
        )
    crowd = (
        np.any([every[flag] > 0 for flag in flags], axis=0)
        if flags
        else np.zeros(len(labels), bool)
    )
    area = (
        every["area"].astype(np.float32)
        if "area" in every
        else np.full(len(labels), -1, np.float32)
    )
    return collect(
        files,
        record,
        every["bbox"].reshape(-1, 4),
        labels,
        crowd,
        area,
        lambda row: locate(files[record[row]]),
    )
