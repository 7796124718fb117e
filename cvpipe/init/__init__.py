"""Pipelines drafted for a data set: `cvpipe init`.

`draft_pipeline` detects the format, measures the images and writes a pipeline file. Each task has
a module with its name, whose `draft` turns measures into values; `backbones.py` chooses the
network.
"""

from __future__ import annotations

import importlib
import json
from typing import Any, NamedTuple

from cvpipe.config.anomaly import AnomalyData
from cvpipe.config.classification import ClassificationData
from cvpipe.config.data import Data
from cvpipe.config.detection import DetectionData
from cvpipe.config.pose import PoseData
from cvpipe.config.segmentation import SegmentationData
from cvpipe.data.formats import Found, find_formats
from cvpipe.data.sources import open_splits
from cvpipe.errors import counted
from cvpipe.init.draft import Draft
from cvpipe.init.measures import Measures, measure
from cvpipe.init.pipeline_file import to_yaml

__all__ = ["TASKS", "Drafted", "data_of", "draft_pipeline"]

_DATA: dict[str, type[Data]] = {
    "classification": ClassificationData,
    "detection": DetectionData,
    "segmentation": SegmentationData,
    "pose": PoseData,
    "anomaly": AnomalyData,
}
TASKS = tuple(_DATA)
_SHOWN = 5


class Drafted(NamedTuple):
    """A pipeline file and the choices in it."""

    task: str
    source: dict[str, Any]
    """Values of `data.source`."""
    text: str
    """Content of the pipeline file."""
    lines: list[str]
    """Findings and choices in words."""


def draft_pipeline(
    path: str, task: str | None = None, kind: str | None = None, file: str = "PIPELINE.yaml"
) -> Drafted:
    """Draft the pipeline of a folder or zip archive of labeled images.

    Args:
        path: the folder or archive.
        task: one of TASKS; None for the task that fits the annotations.
        kind: kind of source, if several fit.
        file: name of the pipeline file, for the command in its head comment.

    Raises:
        DataError: the format can't be detected, or the data can't be opened.
    """
    found, *others = find_formats(path, task, kind)
    measures = measure(open_splits(data_of(found)), path)
    draft: Draft = importlib.import_module(f"cvpipe.init.{found.task}").draft(measures)
    values = dict(draft.values)
    pipeline = {
        "task": found.task,
        "data": {"source": found.source, **values.pop("data", {})},
        **values,
    }
    reasons = {"data.source": ". ".join([f"Detected because {found.why}", *found.remarks])}
    head = [
        f"Drafted by cvpipe init for {path}: {_data_in_words(measures)}. Not yet trained.",
        f"    cvpipe train {file}",
    ]
    text = to_yaml(pipeline, {**reasons, **draft.reasons}, head)
    return Drafted(found.task, found.source, text, _in_words(found, others, measures, draft))


def data_of(found: Found) -> Data:
    """Return the section `data` of a pipeline for the data found, with a limit of objects per image
    that no image exceeds.
    """
    values: dict[str, Any] = {"source": found.source}
    section = _DATA[found.task]
    if "max_objects" in section.model_fields:
        values["max_objects"] = 1_000_000
    return section.model_validate_json(json.dumps(values), strict=True)


def _data_in_words(measures: Measures) -> str:
    splits = ", ".join(f"{number:,} for {split}" for split, number in measures.images.items())
    classes = counted(len(measures.classes), "class", "classes")
    height, width = measures.extent
    kind = "gray" if measures.is_gray else "color"
    return f"images {splits}; {classes}; {kind}, median {height}×{width} pixels"


def _in_words(found: Found, others: list[Found], measures: Measures, draft: Draft) -> list[str]:
    """Return five lines on the data and the choices, and a line for each remark."""
    train, prepare = draft.values["train"], draft.values["prepare"]
    steps = -(-measures.train // train["batch_size"])
    height, width = prepare["size"]
    processor = "a GPU" if measures.has_gpu else counted(measures.cores, "core")
    also = "".join(f"; also fit for {other.task} (--task {other.task})" for other in others)
    augmentation = ", ".join(op["op"] for op in draft.values["augment"]) or "no augmentation"
    # Without gradients there is no optimizer.
    optimizer = draft.values.get("optimizer", {}).get("kind", "no optimizer")
    return [
        f"found     {found.task}, kind: {found.source['kind']}, because {found.why}{also}",
        f"data      {_data_in_words(measures)}{_rare(measures)}",
        f"input     {height}×{width} pixels, {prepare.get('resize', 'stretch')}; {augmentation}",
        f"network   {draft.network}",
        f"training  {counted(train['epochs'], 'epoch')} of {counted(steps, 'step')}, batch"
        f" {train['batch_size']}, {optimizer}; chosen for {processor}",
        *(f"note      {remark}" for remark in (*found.remarks, *draft.remarks)),
    ]


def _rare(measures: Measures) -> str:
    """Name classes with few examples."""
    if measures.counts is None or not len(measures.counts):
        return ""
    few = [
        name
        for name, count in zip(measures.classes, measures.counts, strict=True)
        if count < max(10, 0.05 * measures.counts.mean())
    ]
    shown = ", ".join(few[:_SHOWN]) + (
        f" and {len(few) - _SHOWN} more" if len(few) > _SHOWN else ""
    )
    return f"; few {measures.noun}s of {shown}" if few else ""
