"""Automatic detection of the format of a folder or archive."""

from __future__ import annotations

import importlib
import json
import logging
from typing import Any

from pydantic import TypeAdapter

from cvpipe.config.box_sources import BoxSource
from cvpipe.config.defect_sources import DefectSource
from cvpipe.config.keypoint_sources import KeypointSource
from cvpipe.config.label_sources import LabelSource
from cvpipe.config.mask_sources import MaskSource
from cvpipe.config.source import Auto
from cvpipe.data.formats import find_formats
from cvpipe.data.sources.source import Source

log = logging.getLogger(__name__)

_SECTIONS: dict[str, Any] = {
    "classification": LabelSource,
    "detection": BoxSource,
    "segmentation": MaskSource,
    "pose": KeypointSource,
    "anomaly": DefectSource,
}


def auto(config: Auto) -> dict[str, Source]:
    """Return the splits of the detected source.

    Raises:
        DataError: nothing fits, or two formats fit equally well.
    """
    found = find_formats(config.path, config.task, config.format, "data.source.path")[0]
    log.warning("%s: kind: %s, because %s", config.path, found.source["kind"], found.why)
    for remark in found.remarks:
        log.warning("%s: %s", config.path, remark)
    section = TypeAdapter(_SECTIONS[found.task]).validate_json(
        json.dumps(found.source), strict=True
    )
    module = importlib.import_module(f"cvpipe.data.sources.{section.kind}")
    splits: dict[str, Source] = getattr(module, section.kind)(section)
    return splits
