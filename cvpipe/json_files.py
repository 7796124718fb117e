"""JSON files in strict JSON, without NaN, written atomically."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from cvpipe.atomic_write import atomic_write


def write_json(file: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    text = json.dumps(jsonable(value), indent=2) + "\n"
    with atomic_write(file) as stream:
        stream.write(text.encode())


def jsonable(value: Any) -> Any:
    """Replace NaN and infinities, which JSON doesn't have, by None. Tuples become lists."""
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
