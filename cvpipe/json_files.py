"""JSON as other programs can read it: no NaN, and files that are whole or not there."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def write_whole(file: Path, value: Any) -> None:
    """Writes JSON, whole or not at all."""
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(jsonable(value), indent=2) + "\n", encoding="utf-8")
    partial.replace(file)


def jsonable(value: Any) -> Any:
    """The value with NaN and infinities, which JSON doesn't have, as None."""
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
