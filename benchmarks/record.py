"""Print the results of a benchmark, and write them to benchmarks/results/<name>.json, from which
tables in README and docs/ are generated.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def row(name: str, value: float, unit: str, ours: bool) -> dict[str, Any]:
    """Return one measured number as a row. `ours` is True if it is a measurement of cvpipe."""
    return {"name": name, "value": value, "unit": unit, "ours": ours}


def record(
    name: str,
    rows: list[dict[str, Any]],
    to_best_peer: float | None = None,
    to_limit: float | None = None,
) -> None:
    """Print the rows, and write them with machine, date and command to the results file.

    Args:
        name: name of the results file.
        rows: results of `row`.
        to_best_peer: lowest ratio of cvpipe's speed to that of the fastest other library.
        to_limit: lowest ratio of cvpipe's speed to an upper bound.
    """
    for entry in rows:
        print(f"{entry['name']:<44}{entry['value']:>12,.4g} {entry['unit']}")
    for ratio, what in ((to_best_peer, "best peer"), (to_limit, "limit")):
        if ratio is not None:
            print(f"ours / {what}: {ratio:.3f}")
    result = {
        "name": name,
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "load_average": os.getloadavg()[0],
        "command": shlex.join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
        "rows": rows,
        "ratio_to_best_peer": to_best_peer,
        "ratio_to_limit": to_limit,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(
        json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def machine() -> str:
    """Describe the processor by name and number of cores, and say if it has AVX-512, because
    TensorFlow's speed depends on it.
    """
    words = Path("/proc/cpuinfo").read_text().split("\n") if Path("/proc/cpuinfo").exists() else []
    model = next(
        (line.partition(": ")[2] for line in words if line.startswith("model name")),
        platform.processor(),
    )
    wide = "with" if any("avx512f" in line for line in words) else "without"
    return f"{model}, {os.cpu_count()} cores, {wide} AVX-512"
