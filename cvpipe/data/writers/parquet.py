"""Parquet files as on public hubs: a file per split, with images in the rows, and metadata of the
`datasets` library (huggingface.co/docs/datasets).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from cvpipe.data.annotated import Annotated, Objects, to_pixels
from cvpipe.data.writers.target import Target
from cvpipe.errors import DataError

HOLDS = frozenset(("labels", "boxes"))
UPRIGHT = True
# Number of images in a row group.
_GROUP = 100


def write(target: Target, images: Iterable[Annotated]) -> None:
    """Write a data set; boxes are left, top, width and height in pixels.

    Raises:
        DataError: pyarrow is missing.
    """
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter
    except ImportError:
        raise DataError(
            "writing Parquet needs pyarrow; install it with: pip install 'cvpipe[parquet]'"
        ) from None
    writers: dict[str, Any] = {}
    waiting: dict[str, list[dict[str, Any]]] = {}
    schema = None
    (target.folder / "data").mkdir()

    def flush(split: str) -> None:
        writers[split].write_table(pa.Table.from_pylist(waiting.pop(split), schema))

    try:
        for image in images:
            schema = schema or _schema(target.facts.class_names, image)
            if image.split not in writers:
                file = target.folder / "data" / f"{image.split}-00000-of-00001.parquet"
                writers[image.split] = ParquetWriter(file, schema)
            rows = waiting.setdefault(image.split, [])
            rows.append(_row(target, image))
            target.images[image.split] += 1
            if len(rows) == _GROUP:
                flush(image.split)
        for split in list(waiting):
            flush(split)
    finally:
        for writer in writers.values():
            writer.close()
    target.remarks.append(
        "the Parquet files contain the images; names of images are replaced by row numbers"
    )


def _schema(names: tuple[str, ...], image: Annotated) -> Any:
    import pyarrow as pa

    file = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    classes = {"names": list(names), "_type": "ClassLabel"}
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if image.annotations.objects is None:
        columns = [("image", file), ("label", pa.int64())]
        features["label"] = classes
    else:
        number = {"dtype": "float64", "_type": "Value"}
        features["objects"] = {
            "feature": {
                "bbox": {"feature": number, "length": 4, "_type": "Sequence"},
                "category": classes,
                "area": number,
                "is_crowd": {"dtype": "bool", "_type": "Value"},
            },
            "_type": "Sequence",
        }
        fields = {
            "bbox": pa.list_(pa.float64()),
            "category": pa.int64(),
            "area": pa.float64(),
            "is_crowd": pa.bool_(),
        }
        if image.annotations.objects.scores is not None:
            features["objects"]["feature"]["score"] = number
            fields["score"] = pa.float64()
        lists = pa.struct([(name, pa.list_(kind)) for name, kind in fields.items()])
        columns = [("image", file), ("objects", lists)]
    metadata = json.dumps({"info": {"features": features}})
    return pa.schema(columns, {"huggingface": metadata})


def _row(target: Target, image: Annotated) -> dict[str, Any]:
    row: dict[str, Any] = {"image": {"bytes": image.content, "path": target.name_of(image)}}
    if image.annotations.objects is not None:
        return {**row, "objects": _objects(image.annotations.objects, image.size)}
    if image.annotations.score is not None:
        target.lose("images whose probability is left out")
    return {**row, "label": image.annotations.label}


def _objects(objects: Objects, size: tuple[int, int]) -> dict[str, list[Any]]:
    ymin, xmin, ymax, xmax = to_pixels(objects.boxes, np.array([*size, *size])).T
    boxes = np.stack([xmin, ymin, xmax - xmin, ymax - ymin], 1)
    area = np.where(objects.area >= 0, objects.area, boxes[:, 2] * boxes[:, 3])
    found = {
        "bbox": np.round(boxes, 8).tolist(),
        "category": objects.labels.tolist(),
        "area": area.tolist(),
        "is_crowd": objects.crowd.tolist(),
    }
    return found if objects.scores is None else {**found, "score": objects.scores.tolist()}
