"""Guards additional columns of data files: each example has the value of its image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvpipe.config.box_sources import BoxCsv
from cvpipe.config.coco import Coco, CocoMasks
from cvpipe.config.digits import Digits
from cvpipe.config.keypoint_sources import KeypointCsv
from cvpipe.config.label_sources import Csv
from cvpipe.config.source import Source as Section
from cvpipe.config.tables import Parquet
from cvpipe.data.sources import Source, open_source
from cvpipe.data.sources.merge import merge
from cvpipe.errors import DataError
from image_files import encode, noise

PLACES = {"a.png": "yard", "b.png": "hall", "c.png": "yard", "d.png": ""}
IMAGES = [encode(noise(8, 8, seed=n), "PNG") for n in range(5)]


def csv(root: Path) -> Section:
    rows = [f"{name},{n % 2},{place}" for n, (name, place) in enumerate(PLACES.items())]
    # The second row of an image is left out.
    rows.insert(1, "a.png,0,cellar")
    (root / "train.csv").write_text("\n".join(["file,label,place", *rows]))
    return Csv(kind="csv", path=str(root), train="train.csv")


def box_csv(root: Path) -> Section:
    # An image has a row for each object.
    rows = [f"{name},{PLACES[name]},cat,1,1,5,5" for name in (*PLACES, "b.png")]
    (root / "train.csv").write_text("\n".join(["filename,place,class,xmin,ymin,xmax,ymax", *rows]))
    return BoxCsv(kind="box_csv", path=str(root), train="train.csv")


def keypoint_csv(root: Path) -> Section:
    rows = [f"{name},{place},2,3" for name, place in PLACES.items()]
    (root / "train.csv").write_text("\n".join(["file,place,nose_x,nose_y", *rows]))
    keys = {"path_column": "file", "class_name": "bird"}
    return KeypointCsv(kind="keypoint_csv", path=str(root), train="train.csv", **keys)


def coco_lists(root: Path) -> dict[str, str]:
    # Images are read in the order of their ids.
    images = [
        {"id": 9 - n, "file_name": name, "height": 8, "width": 8, "place": place or None}
        for n, (name, place) in enumerate(PLACES.items())
    ]
    outline = {"bbox": [1, 1, 4, 4], "segmentation": [[1, 1, 5, 1, 5, 5]]}
    objects = [{"id": 1, "image_id": 9, "category_id": 1, **outline}]
    lists = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]}
    (root / "train.json").write_text(json.dumps(lists))
    return {"annotations": "train.json", "images": "."}


def coco(root: Path) -> Section:
    return Coco.model_validate({"kind": "coco", "path": str(root), "train": coco_lists(root)})


def coco_masks(root: Path) -> Section:
    return CocoMasks.model_validate({"kind": "coco", "path": str(root), "train": coco_lists(root)})


def parquet(root: Path) -> Section:
    numbers = [{"yard": 0, "hall": 1}.get(place) for place in PLACES.values()]
    # A row without a label is left out.
    columns = {"image": IMAGES, "label": [None, 0, 1, 0, 1], "place": [1, *numbers]}
    features = {"place": {"names": ["yard", "hall"], "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, root / "train.parquet", row_group_size=2)
    return Parquet(kind="parquet", path=str(root))


Write = Callable[[Path], Section]
FORMATS = (csv, box_csv, keypoint_csv, coco, coco_masks, parquet)


def opened(root: Path, write: Write) -> Source:
    root.mkdir()
    for name, content in zip(PLACES, IMAGES):
        (root / name).write_bytes(content)
    return open_source(write(root), None)["train"]  # type: ignore[arg-type]


def expected(source: Source) -> list[str]:
    """The values that belong to the images' names. Rows of Parquet files have numbers as names,
    from 1 on here.
    """
    names = list(PLACES)
    files = [
        names[int(name.split()[-1]) - 1] if ".parquet" in name else name.rpartition("/")[2]
        for name in source.names()
    ]
    return [PLACES[file] for file in files]


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_each_example_has_the_value_of_its_image_in_any_order(write: Write, tmp_path: Path) -> None:
    source = opened(tmp_path / "data", write)
    assert sorted(source.column("place", "--slice")) == sorted(PLACES.values())
    assert source.column("place", "--slice") == expected(source)
    part = source.subset(np.array([2, 0, 3]))
    assert part.column("place", "--slice") == expected(part)
    with pytest.raises(DataError, match="'plase'.*did you mean 'place'"):
        source.column("plase", "--slice")


def test_merged_sources_have_the_columns_that_all_have(tmp_path: Path) -> None:
    table, hub = opened(tmp_path / "table", csv), opened(tmp_path / "hub", parquet)
    merged = merge([{"train": table.subset(np.array([1, 0]))}, {"train": hub}])["train"]
    assert merged.column("place", "--slice") == ["hall", "yard", *hub.column("place", "--slice")]


def test_several_values_of_an_images_rows_are_joined(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(IMAGES[0])
    head = "filename,place,class,xmin,ymin,xmax,ymax"
    rows = [f"a.png,{place},cat,1,1,5,5" for place in ("yard", "", "hall", "yard")]
    (tmp_path / "train.csv").write_text("\n".join([head, *rows]))
    section = BoxCsv(kind="box_csv", path=str(tmp_path), train="train.csv")
    source = open_source(section, None)["train"]  # type: ignore[arg-type]
    assert source.column("place", "--slice") == ["yard, hall"]


def test_a_format_without_columns_is_an_error() -> None:
    source: Any = open_source(Digits(kind="digits"), None)["all"]  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no column 'place': this format has only images"):
        source.column("place", "--slice")
