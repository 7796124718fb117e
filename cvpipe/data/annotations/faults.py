"""Faults of annotations, counted by file and reported in one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

Faults = Mapping[str, Mapping[str, int]]
"""Number of annotations by file and fault: {"Annotations/1.xml": {"without area, left out": 2}}."""
_SHOWN = 5


def sum_of_faults(several: Iterable[Faults]) -> dict[str, dict[str, int]]:
    """Add up faults, file by file."""
    total: dict[str, Counter[str]] = {}
    for faults in several:
        for file, counts in faults.items():
            total.setdefault(file, Counter()).update(counts)
    return {file: dict(counts) for file, counts in total.items()}


def only_faults(faults: Faults, kinds: Collection[str]) -> dict[str, dict[str, int]]:
    """Return the faults of some kinds, file by file."""
    return _chosen(faults, lambda fault: fault in kinds)


def faults_without(faults: Faults, kind: str) -> dict[str, dict[str, int]]:
    """Return the faults of all other kinds, file by file."""
    return _chosen(faults, lambda fault: fault != kind)


def _chosen(faults: Faults, choose: Callable[[str], bool]) -> dict[str, dict[str, int]]:
    some = {
        file: {fault: count for fault, count in counts.items() if choose(fault)}
        for file, counts in faults.items()
    }
    return {file: counts for file, counts in some.items() if counts}


def faults_in_words(faults: Faults) -> str:
    """Describe how many annotations have each fault, and name the first few files."""
    total = Counter[str]()
    for counts in faults.values():
        total.update(counts)
    summary = "; ".join(f"{count:,} {fault}" for fault, count in total.most_common())
    # A single fault need not be repeated for each file.
    files = [
        f"{file} ({', '.join(f'{n} {fault}' if len(total) > 1 else f'{n}' for fault, n in found)})"
        for file, found in sorted((file, counts.items()) for file, counts in faults.items())
    ]
    more = f" and {len(files) - _SHOWN:,} more files" if len(files) > _SHOWN else ""
    return f"of the annotated objects {summary}: {', '.join(files[:_SHOWN])}{more}"
