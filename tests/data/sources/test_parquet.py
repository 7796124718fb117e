"""Guards Parquet files with images: as public hubs write them, and with faults."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image

from cvpipe.config.tables import Parquet, ParquetBoxes
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.annotations.label import Label
from cvpipe.data.formats import find_formats
from cvpipe.data.sources import open_source, parquet_rows
from cvpipe.data.sources.parquet import parquet
from cvpipe.data.sources.source import Source
from cvpipe.errors import DataError
from cvpipe.init import data_of
from image_files import encode, noise

SIZE = (40, 50)
FILES = [encode(noise(*SIZE, seed=n), "JPEG") for n in range(6)]
NAMES = {"label": {"names": ["yak", "ant"], "_type": "ClassLabel"}}
OBJECTS = {"objects": {"feature": {"category": {"names": ["yak", "ant"]}}, "_type": "Sequence"}}


def write(
    file: Path, images: Sequence[Any], features: dict[str, Any] | None = None, **columns: list[Any]
) -> None:
    """Write a Parquet file as the `datasets` library does, with two rows per row group."""
    table = pa.table({"image": images, **columns})
    if features:
        metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
        table = table.replace_schema_metadata(metadata)
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, row_group_size=2)


def held(files: Sequence[bytes | None]) -> list[dict[str, Any]]:
    return [{"bytes": content, "path": f"{n}.jpg"} for n, content in enumerate(files)]


def labels(path: Path, **more: Any) -> dict[str, Source]:
    return parquet(Parquet(kind="parquet", path=str(path), **more))


def objects(path: Path, **more: Any) -> dict[str, Source]:
    return parquet(ParquetBoxes(kind="parquet", path=str(path), **more))


def contents(source: Source) -> list[bytes]:
    return [source.read(tf.constant(n, tf.int64))["bytes"].numpy() for n in range(len(source))]


def test_images_and_labels_of_several_files_are_read_with_the_names_of_the_hub(
    tmp_path: Path,
) -> None:
    write(tmp_path / "data/train-00000-of-00002.parquet", held(FILES[:3]), NAMES, label=[0, 1, 0])
    write(tmp_path / "data/train-00001-of-00002.parquet", held(FILES[3:5]), NAMES, label=[1, 1])
    write(tmp_path / "data/test-00000-of-00001.parquet", held(FILES[5:]), NAMES, label=[0])
    splits = labels(tmp_path)
    assert {split: contents(source) for split, source in splits.items()} == {
        "train": FILES[:5],
        "test": FILES[5:],
    }
    train = splits["train"]
    assert train.classes == ("yak", "ant")
    assert train.annotation(Label).labels.tolist() == [0, 1, 0, 1, 1]
    assert train.names()[3] == "data/train-00001-of-00002.parquet row 0"


def test_names_and_plain_bytes_are_read_and_init_finds_the_columns(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", FILES, fine_label=["b", "a", "b", "c", "a", "b"])
    data = data_of(find_formats(str(tmp_path))[0])
    assert data.source.model_dump(exclude_defaults=True) == {
        "kind": "parquet",
        "path": str(tmp_path),
        "label": "fine_label",
    }
    [source] = open_source(data.source, data).values()
    assert source.classes == ("a", "b", "c")
    assert source.annotation(Label).labels.tolist() == [1, 0, 1, 2, 0, 1]


def test_rows_without_a_class_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "train.parquet", held(FILES[:4]), NAMES, label=[0, None, 1, -1])
    write(tmp_path / "test.parquet", held(FILES[4:]), NAMES, label=[-1, -1])
    with caplog.at_level(logging.WARNING):
        splits = labels(tmp_path)
    assert list(splits) == ["train"] and contents(splits["train"]) == [FILES[0], FILES[2]]
    assert "left out 2 rows of the train split that have no class" in caplog.text
    assert "left out 2 rows of the test split that have no class" in caplog.text


def test_a_row_without_its_image_is_a_bad_record_and_does_not_affect_others(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", held([FILES[0], None, FILES[2]]), NAMES, label=[0, 1, 1])
    source = labels(tmp_path)["train"]
    assert source.read(tf.constant(2, tf.int64))["bytes"].numpy() == FILES[2]
    with pytest.raises(DataError, match=r"the row names 1\.jpg but doesn't contain the image"):
        source.read(tf.constant(1, tf.int64))


BOXES = [[[5, 4, 20, 10], [30, 20, 20, 20]], [], [[0, 0, 50, 40]]]
CATEGORIES = [[0, 1], [], [1]]
EXPECTED = np.array([[4, 5, 14, 25], [20, 30, 40, 50], [0, 0, 40, 50]]) / [*SIZE, *SIZE]


@pytest.mark.parametrize("form", ["xywh", "xyxy", "fractions"])
@pytest.mark.parametrize("as_lists", [True, False])
def test_boxes_of_each_form_are_found_and_read(form: str, as_lists: bool, tmp_path: Path) -> None:
    def sides(box: list[int]) -> list[float]:
        x, y, width, height = map(float, box)
        if form == "xyxy":
            return [x, y, x + width, y + height]
        return (
            [x / 50, y / 40, width / 50, height / 40]
            if form == "fractions"
            else [x, y, width, height]
        )

    rows: list[Any] = [
        {"bbox": [sides(box) for box in each], "category": numbers}
        for each, numbers in zip(BOXES, CATEGORIES, strict=True)
    ]
    if not as_lists:
        rows = [
            [{"bbox": b, "category": c} for b, c in zip(*row.values(), strict=True)] for row in rows
        ]
    write(tmp_path / "train-0.parquet", held(FILES[:3]), OBJECTS, objects=rows)
    data = data_of(find_formats(str(tmp_path))[0])
    source = open_source(data.source, data)["train"]
    assert source.classes == ("yak", "ant")
    boxes = source.annotation(Boxes)
    np.testing.assert_allclose(boxes.boxes, EXPECTED, atol=1e-6)
    assert boxes.labels.tolist() == [0, 1, 1] and boxes.starts.tolist() == [0, 2, 2, 3]


def test_invalid_boxes_and_objects_of_broken_images_are_counted(tmp_path: Path) -> None:
    bad = [[5, 4, -3, 10], [60, 4, 5, 5], [40, 30, 30, 5], [1, 1, 0, 4]]
    rows = [{"bbox": bad, "category": [0] * 4}, {"bbox": [[1, 1, 5, 5]], "category": [1]}]
    write(tmp_path / "train.parquet", held([FILES[0], b"no image"]), OBJECTS, objects=rows)
    boxes = objects(tmp_path)["train"].annotation(Boxes)
    assert boxes.faults == {
        "train.parquet row 0": {
            "with corners in the wrong order, left out": 1,
            "outside the image, left out": 1,
            "without area, left out": 1,
            "clipped to the image": 1,
        },
        "train.parquet row 1": {"of a missing image, left out": 1},
    }
    np.testing.assert_allclose(boxes.boxes, [[30 / 40, 40 / 50, 35 / 40, 1]], atol=1e-6)


def test_boxes_refer_to_the_upright_photo(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(noise(40, 50), "JPEG", exif=exif.tobytes())
    rows = [{"bbox": [[0, 0, 20, 25]], "category": [0]}]
    write(tmp_path / "train.parquet", held([turned]), OBJECTS, objects=rows)
    upright = objects(tmp_path)["train"].annotation(Boxes)
    np.testing.assert_allclose(upright.boxes, [[0, 0, 0.5, 0.5]], atol=1e-6)
    stored = objects(tmp_path, upright=False)["train"].annotation(Boxes)
    np.testing.assert_allclose(stored.boxes, [[0, 0, 25 / 40, 20 / 50]], atol=1e-6)


def test_each_fault_is_named_with_its_row(tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"

    def fails(match: str, **more: Any) -> None:
        with pytest.raises(DataError, match=match):
            (objects if "objects" in more else labels)(tmp_path, **more.get("keys", {}))

    with pytest.raises(DataError, match="holds no .parquet file"):
        labels(tmp_path)
    file.write_bytes(b"PAR1 and no more")
    fails(r"train\.parquet: not a valid Parquet file")
    write(file, held(FILES[:2]), NAMES, label=[0, 5])
    fails(r"train\.parquet row 1: no class is called '5'; known: yak, ant")
    fails("no column 'category'.*known: image, label", keys={"label": "category"})
    fails("no column 'photo'", keys={"image": "photo"})
    write(file, held(FILES[:1]), label=[0.5])
    fails("'0.5' in 'label' is neither a number nor a name")
    write(file, held(FILES[:1]), OBJECTS, objects=[{"bbox": [[1, 2, 3]], "category": [0]}])
    fails(r"row 0 object 0: 'bbox' is \[1, 2, 3\], not four numbers", objects=True)
    write(file, held(FILES[:1]), OBJECTS, objects=[{"bbox": [[1, 2, 3, 4]], "category": [0, 1]}])
    fails("the lists of 'objects' differ in length", objects=True)
    write(file, held(FILES[:1]), OBJECTS, objects=[{"bbox": [[1, 2, 3, 4]], "category": ["cow"]}])
    fails("no class is called 'cow'; known: yak, ant", objects=True)
    write(file, held(FILES[:1]), objects=[{"bbox": [[1, 2, 3, 4]] * 2, "category": [0, None]}])
    fails("row 0 object 1: 'category' is empty; correct or remove the object", objects=True)
    write(file, held(FILES[:1]), OBJECTS, objects=[{"bbox": [[1, np.nan, 3, 4]], "category": [0]}])
    fails("row 0 object 0: a coordinate isn't a finite number", objects=True)
    write(file, held(FILES[:1]), OBJECTS, objects=[{"bbox": [[1, 2, 3, 4]], "kind": [0]}])
    fails("object 0: has no 'category'", objects=True)
    write(file, held(FILES[:1]), objects=["cat"])
    fails("neither a list of objects nor a structure of lists", objects=True)


def test_groups_beyond_the_memory_limit_are_read_again_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(parquet_rows, "KEPT_BYTES", 1)
    write(tmp_path / "train.parquet", held(FILES), NAMES, label=[0, 1] * 3)
    with caplog.at_level(logging.WARNING):
        source = labels(tmp_path)["train"]
    assert "are read repeatedly; write the images to files first" in caplog.text
    order = [5, 0, 3, 1, 4, 2]
    read = [source.read(tf.constant(n, tf.int64))["bytes"].numpy() for n in order]
    assert read == [FILES[n] for n in order]


def test_a_file_that_is_cut_off_is_refused_before_any_row_is_read(tmp_path: Path) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"image": held(FILES), "label": [0, 1] * 3}), file)
    (tmp_path / "train.parquet").write_bytes(file.getvalue()[:-50])
    with pytest.raises(DataError, match="not a valid Parquet file"):
        labels(tmp_path)
    with pytest.raises(DataError, match="not a valid Parquet file"):
        find_formats(str(tmp_path))
