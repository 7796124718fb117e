"""Read benchmark results, benchmarks/results/*.json."""

from __future__ import annotations

import functools
import json
import textwrap
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "benchmarks/results"
LONGEST_LINE = 100


@functools.cache
def result(name: str) -> dict[str, Any]:
    """Return the contents of a results file. The additional key "values" maps each row's name to
    its value.
    """
    read = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return {**read, "values": {row["name"]: row["value"] for row in read["rows"]}}


def values_after(name: str, begin: str) -> dict[str, float]:
    """Return the values of a results file's rows whose names begin with `begin`, by the rest of the
    name.
    """
    values = result(name)["values"].items()
    return {key.removeprefix(begin): value for key, value in values if key.startswith(begin)}


def caption(*names: str) -> str:
    """Return the machines and dates of results files, in lines of at most 100 columns."""
    dates: dict[str, set[str]] = {}
    for name in names:
        dates.setdefault(result(name)["machine"], set()).add(result(name)["date"])
    spans = (f"{at}, {' to '.join(sorted({min(days), max(days)}))}" for at, days in dates.items())
    return textwrap.fill("; ".join(spans) + ".", LONGEST_LINE, break_on_hyphens=False)
