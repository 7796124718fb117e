"""Label Studio's JSON and JSON-MIN."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cvpipe.data.formats.found import Found, Place
from cvpipe.data.formats.tool_json import find_projects
from cvpipe.data.sources.label_studio import LABELS, image_of, regions_of


def find(place: Place) -> Iterator[Found]:
    """Yield Label Studio's files."""
    yield from find_projects(place, "label_studio", "Label Studio's", _paths)


def _paths(content: Any) -> list[str]:
    tasks = content if isinstance(content, list) else []
    paths = [image_of(task) for task in tasks]
    regions = [row for task in tasks if isinstance(task, dict) for row in regions_of(task)]
    values = [row.get("value", row) for row in regions]
    boxed = any(isinstance(value, dict) and value.keys() & set(LABELS) for value in values)
    return [path for path in paths if path] if boxed and all(paths) else []
