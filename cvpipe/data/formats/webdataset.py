"""Tar archives of WebDataset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cvpipe.config.record_files import WebDataset
from cvpipe.data.formats.found import (
    ANNOTATED,
    CLASSIFICATION,
    DETECTION,
    SEGMENTATION,
    Found,
    Place,
    some,
)
from cvpipe.data.formats.mask_numbers import mask_numbers, numbered_classes
from cvpipe.data.formats.object_keys import LABELS, OBJECTS, first_of, object_keys
from cvpipe.data.sources.image_size import encoded_size
from cvpipe.data.sources.record_files import open_shard, splits_by_words
from cvpipe.data.sources.tar_samples import Samples
from cvpipe.errors import DataError, counted

_IMAGES = WebDataset.model_fields["images"].default
_JSON = "json"
_PNG = "png"
_MASKS = ("seg.png", "mask.png", "segmentation.png", "semantic.png", "label.png", "labels.png")
# A .png beside a .jpg with more values than this is another photo, not a mask.
_MOST_VALUES = 64


def find(place: Place) -> Iterator[Found]:
    """Yield tar archives with images, and classes, masks, or JSON files of objects or labels."""
    names = place.ending(".tar")
    if not names:
        return
    splits = splits_by_words(place.path, names, "tar archive")
    samples = Samples([open_shard(place.files, splits.get("train", names)[0])])
    records = [n for n in some(range(len(samples))) if samples.extension(n, _IMAGES)]
    if not records:
        place.near.append(f"{names[0]} has no image ({', '.join(_IMAGES)})")
        return
    source: dict[str, Any] = {"kind": "webdataset", "path": place.path}
    why = f"{counted(len(names), 'tar archive')} {'has' if len(names) == 1 else 'have'} images and"
    contents = {n: _json(place, samples, n) for n in records if _JSON in samples.samples[n].files}
    rows = list(contents.values())
    keys = _objects(samples, list(contents), rows)
    if keys is not None:
        text = f"{why} .json files of objects with the same names"
        yield Found(DETECTION, {**source, **keys}, text, ANNOTATED)
    masks = _masks(place, samples, records)
    if masks is not None:
        mask, values = masks
        more = {} if mask == "seg.png" else {"mask": mask}
        classes, remarks = numbered_classes(values)
        text = f"{why} masks in .{mask} files with the same names"
        yield Found(SEGMENTATION, {**source, **more, **classes}, text, ANNOTATED, remarks)
    if any("cls" in samples.samples[n].files for n in records):
        yield Found(CLASSIFICATION, source, f"{why} .cls files with the same names", ANNOTATED)
    elif label := first_of(LABELS, [key for row in rows if isinstance(row, dict) for key in row]):
        more = {"annotations": _JSON}
        more |= {} if label == "label" else {"label": label}
        if any(isinstance(row.get(label), int | str) for row in rows if isinstance(row, dict)):
            text = f"{why} .json files with the same names and '{label}', a class"
            yield Found(CLASSIFICATION, {**source, **more}, text, ANNOTATED)
    elif keys is None and masks is None:
        seen = sorted({name for n in records for name in samples.samples[n].files})
        place.near.append(
            f"{names[0]} has samples of .{', .'.join(seen)}, but no class, objects or masks"
        )


def _masks(place: Place, samples: Samples, records: list[int]) -> tuple[str, list[int]] | None:
    """Return the extension of the masks and their values; None if there are none."""
    for extension in (*_MASKS, _PNG):
        chosen = [
            n
            for n in records
            if extension in samples.samples[n].files and samples.extension(n, _IMAGES) != extension
        ]
        if not chosen:
            continue
        try:
            values = mask_numbers([samples.read(n, extension) for n in chosen])
        except DataError as error:
            place.near.append(f"{samples.place(chosen[0], extension)}: {error}")
            continue
        if values is None:
            place.near.append(
                f"{samples.place(chosen[0], extension)} has colors; masks of WebDataset are read by"
                " values"
            )
        elif extension != _PNG or len(values) <= _MOST_VALUES:
            return extension, values
    return None


def _json(place: Place, samples: Samples, record: int) -> Any:
    try:
        return samples.read_json(record, _JSON)
    except DataError as error:
        place.near.append(str(error))
        return None


def _objects(samples: Samples, records: list[int], rows: list[Any]) -> dict[str, Any] | None:
    """Return the keys for the objects in JSON files; None if there are none."""

    def size_of(row: int) -> tuple[int, int] | None:
        extension = samples.extension(records[row], _IMAGES)
        return encoded_size(samples.read(records[row], extension or ""), upright=True)

    fields = [key for row in rows if isinstance(row, dict) for key in row]
    objects = first_of(OBJECTS, fields)
    if objects is not None:
        below = [row.get(objects) if isinstance(row, dict) else None for row in rows]
        keys = object_keys(below, size_of)
        if keys is not None:
            return keys if objects == "objects" else {"objects": objects, **keys}
    keys = object_keys(rows, size_of)
    return None if keys is None else {"objects": "", **keys}
