"""JSON of the VGG Image Annotator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cvpipe.data.formats.found import Found, Place
from cvpipe.data.formats.tool_json import find_projects
from cvpipe.data.sources.via import entries_of


def find(place: Place) -> Iterator[Found]:
    """Yield VIA's files."""
    yield from find_projects(place, "via", "VIA's", _paths)


def _paths(content: Any) -> list[str]:
    return [str(entry["filename"]) for entry in entries_of(content) or ()]
