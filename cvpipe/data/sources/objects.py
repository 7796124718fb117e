"""What is where in the images: boxes, their classes, and what was wrong with them in the files.

Dimensions: R records of the underlying files, T objects in all of them, A annotations as they stand
in the files.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from cvpipe.errors import DataError

# What was done to annotations, by file: {"Annotations/1.xml": {"without area, left out": 2}}.
Faults = Mapping[str, Mapping[str, int]]

INVERTED = "with corners the wrong way round, left out"
WITHOUT_AREA = "without area, left out"
OUTSIDE = "outside the image, left out"
CLIPPED = "clipped to the image"
REPEATED = "repeated, left out"
EXCESS = "beyond data.max_objects, left out"
WITHOUT_IMAGE = "of a missing image, left out"

# A decimal fraction of six digits passes 1 without anything being wrong.
_TOLERANCE = 1e-5
_SHOWN = 5
# What is known of each object, by the names that examples have for it.
COLUMNS = ("boxes", "labels", "crowd", "area")


# Two are the same only if they are one, as with sources.
@dataclasses.dataclass(frozen=True, eq=False)
class Objects:
    """The objects of all records, one record after the other."""

    boxes: np.ndarray
    """float32 [T, 4]: ymin, xmin, ymax, xmax in 0…1, as fractions of the stored image's height and
    width; never without area.
    """
    labels: np.ndarray
    """int32 [T]: positions in the source's classes."""
    crowd: np.ndarray
    """bool [T]: a region of many, or an object too hard to judge by; neither is learned nor scored.
    """
    area: np.ndarray
    """float32 [T]: pixels², where the format says them of the object's outline; else -1."""
    starts: np.ndarray
    """int64 [R + 1]: the rows of record r are starts[r] … starts[r + 1] − 1."""
    faults: Faults = dataclasses.field(default_factory=dict)
    """What was wrong in the files."""

    @property
    def records(self) -> int:
        """R, how many records there are; some may have no object."""
        return len(self.starts) - 1

    def rows(self, record: int) -> slice:
        """Where the objects of a record stand."""
        return slice(int(self.starts[record]), int(self.starts[record + 1]))

    def digest(self, record: int) -> str:
        """A fingerprint of a record's objects, in their order."""
        rows = self.rows(record)
        return hashlib.sha256(
            b"".join(getattr(self, key)[rows].tobytes() for key in COLUMNS)
        ).hexdigest()[:16]

    def first(self, records: int) -> Objects:
        """The objects of the first so many records."""
        end = int(self.starts[records])
        arrays = {key: getattr(self, key)[:end] for key in COLUMNS}
        return dataclasses.replace(self, **arrays, starts=self.starts[: records + 1])

    def keep(self, wanted: np.ndarray) -> Objects:
        """The objects for which `wanted`, bool [T], is True; all records stay."""
        arrays = {key: getattr(self, key)[wanted] for key in COLUMNS}
        return dataclasses.replace(
            self, **arrays, starts=np.concatenate([[0], np.cumsum(wanted)])[self.starts]
        )

    def relabel(self, position: np.ndarray) -> Objects:
        """Labels l become position[l], int32 [K]; objects for which that is -1 are left out."""
        return dataclasses.replace(self, labels=position.astype(np.int32)[self.labels]).keep(
            position[self.labels] >= 0
        )

    def at_most(self, most: int, name_record: Callable[[int], str]) -> Objects:
        """No more than the first `most` objects of any record, in the files' order; what is left
        out is added to the faults.
        """
        counts = np.diff(self.starts)
        excess = np.flatnonzero(counts > most)
        if not len(excess):
            return self
        turn = np.arange(len(self.labels)) - np.repeat(self.starts[:-1], counts)
        faults = {
            name_record(int(record)): {EXCESS: int(counts[record]) - most} for record in excess
        }
        return dataclasses.replace(
            self.keep(turn < most), faults=sum_of_faults([self.faults, faults])
        )


def collect(
    files: Sequence[str],
    record: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    crowd: np.ndarray,
    area: np.ndarray,
    place: Callable[[int], str],
    faults: Faults | None = None,
) -> Objects:
    """The objects of a format, from its annotations as they stand in the files.

    Boxes that reach out of the image are clipped; inverted ones, such without area, outside the
    image, or repeated (of the same class) are left out. Both are counted by file.

    Args:
        files: [R], what to call each record's annotations.
        record: int64 [A], whose they are; those of a record stay in their order.
        boxes: float64 [A, 4], ymin, xmin, ymax, xmax as fractions of the image.
        labels, crowd, area: [A], as in `Objects`.
        place: what to call an annotation, 0 … A − 1, in an error.
        faults: what is known already.

    Raises:
        DataError: a coordinate isn't a finite number.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    broken = np.flatnonzero(~np.isfinite(boxes).all(1))
    if len(broken):
        raise DataError(
            f"{place(int(broken[0]))}: a coordinate isn't a finite number; mend or remove the"
            " object"
        )
    order = np.argsort(record, kind="stable")
    record, boxes, labels = np.asarray(record)[order], boxes[order], np.asarray(labels)[order]
    clipped = np.clip(boxes, 0, 1).astype(np.float32)
    sides, shown = boxes[:, 2:] - boxes[:, :2], clipped[:, 2:] - clipped[:, :2]
    outside = (boxes[:, :2] >= 1).any(1) | (boxes[:, 2:] <= 0).any(1)
    # The first that holds is what a box is counted as.
    wrong = {
        INVERTED: (sides < 0).any(1),
        WITHOUT_AREA: (sides == 0).any(1) | (shown <= 0).any(1) & ~outside,
        OUTSIDE: outside,
        REPEATED: _repeated(record, labels, clipped),
        CLIPPED: (abs(clipped - boxes) > _TOLERANCE).any(1),
    }
    kind = np.select(list(wrong.values()), np.arange(len(wrong)), len(wrong))
    found: dict[str, Counter[str]] = {}
    for row in np.flatnonzero(kind < len(wrong)):
        found.setdefault(files[record[row]], Counter())[list(wrong)[kind[row]]] += 1
    starts = np.searchsorted(record, np.arange(len(files) + 1))
    everything = Objects(
        clipped,
        labels.astype(np.int32),
        np.asarray(crowd, bool)[order],
        np.asarray(area, np.float32)[order],
        starts,
        sum_of_faults([faults or {}, found]),
    )
    return everything.keep(kind >= list(wrong).index(CLIPPED))


def joined(parts: Sequence[Objects]) -> Objects:
    """The objects of several sources, whose records are numbered through."""
    ends = np.cumsum([0] + [len(part.labels) for part in parts])
    arrays = {key: np.concatenate([getattr(part, key) for part in parts]) for key in COLUMNS}
    starts = np.concatenate(
        [[0], *(part.starts[1:] + end for part, end in zip(parts, ends, strict=False))]
    )
    return Objects(**arrays, starts=starts, faults=sum_of_faults([part.faults for part in parts]))


def sum_of_faults(several: Iterable[Faults]) -> dict[str, dict[str, int]]:
    """The faults of all, by file."""
    total: dict[str, Counter[str]] = {}
    for faults in several:
        for file, counts in faults.items():
            total.setdefault(file, Counter()).update(counts)
    return {file: dict(counts) for file, counts in total.items()}


def faults_in_words(faults: Faults) -> str:
    """How many annotations of all have which fault, and the first few files."""
    total = Counter[str]()
    for counts in faults.values():
        total.update(counts)
    said = "; ".join(f"{count:,} {fault}" for fault, count in total.most_common())
    files = [
        f"{file} ({', '.join(f'{count} {fault}' for fault, count in counts.items())})"
        for file, counts in sorted(faults.items())
    ]
    more = f" and {len(files) - _SHOWN:,} more files" if len(files) > _SHOWN else ""
    return f"of the annotated objects {said}: {', '.join(files[:_SHOWN])}{more}"


def _repeated(record: np.ndarray, labels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Which annotations an earlier one of the same record, class and box repeats: bool [A]."""
    _, first = np.unique(
        np.column_stack([record, labels, boxes.astype(np.float64)]), axis=0, return_index=True
    )
    repeated = np.ones(len(record), bool)
    repeated[first] = False
    return repeated
