"""`cvpipe data check`: read every record of every split once and report problems.

Dimensions: N examples of all splits together.

Takes about 120 bytes of memory per example, for images of any size, and 1 KiB in a temporary file.
An example whose annotations don't fit its image counts as broken.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.config.group import Group
from cvpipe.data.annotations import checked, measure
from cvpipe.data.annotations.annotation import Tally
from cvpipe.data.annotations.faults import faults_without, sum_of_faults
from cvpipe.data.batching import PARALLEL, prefetch
from cvpipe.data.decode import decode_image
from cvpipe.data.example import Example
from cvpipe.data.file_kind import file_kind
from cvpipe.data.guard import readable_or_zeros
from cvpipe.data.look_alikes import SIDE, near_duplicates
from cvpipe.data.odd_images import find_odd, measure_image
from cvpipe.data.quarantine import why_unreadable
from cvpipe.data.sources.groups import crossing_groups
from cvpipe.data.sources.objects import CLIPPED
from cvpipe.data.sources.source import Source

BATCH = 64
# Kinds of groups of records with the same content, as `check` returns them.
LEAKS, CONTRADICTIONS, REPEATED = "leaks", "contradictions", "repeated"


def check(
    splits: Mapping[str, Source],
    channels: int,
    watch: Callable[[int, int], None] = lambda done, examples: None,
    group: Group | None = None,
    watch_pairs: Callable[[int, int], None] = lambda done, pairs: None,
) -> dict[str, Any]:
    """Read every record of every split once, and return the problems found.

    Two records have the same content if the bytes of their files are equal, or their pixels if a
    source holds arrays. Broken files aren't compared.

    Args:
        splits: from `open_splits`.
        channels: 1 or 3, as `prepare.channels`.
        watch: called repeatedly with the number of examples read and the number of all examples.
        group: groups of images that belong in one split, as `data.group`.
        watch_pairs: called repeatedly with the number of compared pairs of images and the number of
            all such pairs.

    Returns:
        "clean": True if there are no broken files, no objects left out, no leaks, no
            contradictions and no group in several splits.
        "splits": for each split, "examples", "broken" (their number), "sizes" ({"smallest",
        "median",
            "largest": [H, W]}, by number of pixels; empty if nothing can be read), "kinds"
            ({"JPEG RGB": files}), and the findings of its annotations (`Tally.result`).
        "broken": a list of {"split", "record", "reason"}.
        "left_out": {file: {fault: number}} of annotated objects that training doesn't see.
        "leaks", "contradictions", "repeated": lists of groups of records with the same content,
            each a list of {"split", "record", "class"}. The records of leaks are in several splits,
            those of contradictions in several classes.
        "crossing_groups": {group: {split: number of images}} of groups in several splits.
        "near_duplicates": a list of {"records": two records, "across_splits", "difference"}, pairs
        across splits first; records with the same content count once. "odd": by kind of
        `odd_images.MEANINGS`, a list of records. Records of "near_duplicates" and "odd" also have a
        "position" in their split.
    """
    examples = sum(map(len, splits.values()))
    digests = np.zeros([examples, 2], np.int64)
    looks = _Looks(examples)
    found: dict[str, Any] = {}
    broken: list[dict[str, str]] = []
    first = 0
    for name, source in splits.items():
        sizes, kinds, unreadable = [], Counter[str](), []
        tallies = [each.tally(source.records, source.facts) for each in source.annotations]
        for start, batch in _measured(source, channels):
            readable = batch["readable"]
            stop = start + len(readable)
            digests[first + start : first + stop] = batch["digest"]
            looks.add(first + start, batch)
            sizes.append(batch["size"][readable])
            kinds.update(kind.decode() for kind in batch["kind"][readable])
            unreadable += (start + np.flatnonzero(~readable)).tolist()
            for tally in tallies:
                tally.add(batch, readable)
            watch(first + stop, examples)
        broken += [
            {"split": name, "record": source.name(index), "reason": why_unreadable(source, index)}
            for index in unreadable
        ]
        found[name] = {
            "examples": len(source),
            "broken": len(unreadable),
            **_findings(tallies),
            "sizes": _sizes(np.concatenate(sizes)),
            "kinds": dict(kinds.most_common()),
        }
        first += len(source)
    groups = _groups(digests, splits)
    near, odd = looks.findings(digests, watch_pairs)
    pairs: list[dict[str, Any]] = []
    for first, second, difference in near:
        one, other = _placed(first, splits), _placed(second, splits)
        pairs.append(
            {
                "records": [one, other],
                "across_splits": one["split"] != other["split"],
                "difference": round(difference, 4),
            }
        )
    crossing = crossing_groups(splits, group)
    left_out = _left_out(splits)
    return {
        "clean": not (broken or left_out or groups[LEAKS] or groups[CONTRADICTIONS] or crossing),
        "splits": found,
        "broken": broken,
        "left_out": left_out,
        **groups,
        "crossing_groups": crossing,
        "near_duplicates": sorted(pairs, key=lambda pair: not pair["across_splits"]),
        "odd": {
            kind: [_placed(position, splits) for position in positions.tolist()]
            for kind, positions in odd.items()
        },
    }


def _left_out(splits: Mapping[str, Source]) -> dict[str, dict[str, int]]:
    """Return the objects that the source of the data has left out, by file and fault."""
    every = [each.faults for source in splits.values() for each in source.annotations]
    # Splits held out from one another share their annotations' faults.
    distinct = {id(faults): faults for faults in every}
    return faults_without(sum_of_faults(distinct.values()), CLIPPED)


class _Looks:
    """Sharpness, sizes, and thumbnails (in a temporary file) of all readable examples."""

    def __init__(self, examples: int):
        # A temporary file without a name. The memory map keeps it open.
        with tempfile.TemporaryFile() as file:
            shape = (max(examples, 1), SIDE, SIDE)
            self._thumbnails: np.ndarray = np.memmap(file, np.uint8, "w+", shape=shape)
        self._sharpness = np.zeros(examples, np.float32)
        self._sizes = np.zeros((examples, 2), np.int32)
        self._readable = np.zeros(examples, bool)

    def add(self, first: int, batch: Mapping[str, np.ndarray]) -> None:
        """Add a batch; `first` is the position of its first example in all splits together."""
        place = slice(first, first + len(batch["readable"]))
        self._thumbnails[place] = batch["thumbnail"]
        self._sharpness[place] = batch["sharpness"]
        self._sizes[place] = batch["size"]
        self._readable[place] = batch["readable"]

    def findings(
        self, digests: np.ndarray, watch: Callable[[int, int], None]
    ) -> tuple[list[tuple[int, int, float]], dict[str, np.ndarray]]:
        """Return pairs of near-duplicates (two positions and a difference each), and the positions
        of odd images by kind.

        Of several examples with the same digest, int64 [N, 2], only the first is compared.
        """
        different = np.sort(np.unique(digests, axis=0, return_index=True)[1])
        different = different[self._readable[different]]
        pairs = near_duplicates(self._thumbnails, different, watch)
        readable = np.flatnonzero(self._readable)
        odd = find_odd(self._thumbnails, self._sharpness, self._sizes, readable)
        return list(zip(*(column.tolist() for column in pairs), strict=True)), odd


def _measured(source: Source, channels: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yield batches with the position of their first example: "readable" bool [B], and, for
    readable examples, "size" int32 [B, 2], "digest", "kind" and the measures of their annotations.
    """

    def look(index: tf.Tensor) -> Example:
        example = source.read(index)
        content = example["bytes"] if "bytes" in example else example["image"]
        image = decode_image(content, channels) if "bytes" in example else content
        image = checked(example, image)
        digest, kind = tf.numpy_function(_look_at, [content], [tf.int64, tf.string])
        return {
            **measure(example),
            **measure_image(image),
            "size": tf.shape(image)[:2],
            "digest": tf.ensure_shape(digest, [2]),
            "kind": tf.ensure_shape(kind, []),
        }

    looked = readable_or_zeros(tf.data.Dataset.range(len(source)), look, PARALLEL)
    batches = prefetch(
        looked.map(lambda _, measured, readable: {**measured, "readable": readable}).batch(BATCH)
    )
    for number, batch in enumerate(batches.as_numpy_iterator()):
        yield number * BATCH, batch


def _look_at(content: bytes | np.ndarray) -> tuple[np.ndarray, bytes]:
    """Return a digest, int64 [2], and the kind of the image."""
    if isinstance(content, bytes):
        return (
            np.frombuffer(hashlib.blake2b(content, digest_size=16).digest(), np.int64),
            file_kind(content).encode(),
        )
    pixels = np.ascontiguousarray(content)
    digest = hashlib.blake2b(str(pixels.shape).encode() + pixels.tobytes(), digest_size=16).digest()
    return (
        np.frombuffer(digest, np.int64),
        f"array {'gray' if pixels.shape[-1] == 1 else 'RGB'}".encode(),
    )


def _findings(tallies: Sequence[Tally]) -> dict[str, Any]:
    """Merge the findings of a split's annotations, with defaults for those that the report
    needs.
    """
    found: dict[str, Any] = {"classes": {}, "imbalance": 1.0, "counted": "images"}
    notes: list[str] = []
    for result in (tally.result() for tally in tallies):
        notes += result.pop("notes", [])
        found |= result
    return {**found, "notes": notes}


def _sizes(sizes: np.ndarray) -> dict[str, list[int]]:
    """Return the smallest, median and largest of sizes int [n, 2], by number of pixels."""
    if not len(sizes):
        return {}
    order = np.argsort(sizes.astype(np.int64).prod(1), kind="stable")
    places = {"smallest": 0, "median": (len(order) - 1) // 2, "largest": -1}
    return {name: sizes[order[place]].tolist() for name, place in places.items()}


def _groups(
    digests: np.ndarray, splits: Mapping[str, Source]
) -> dict[str, list[list[dict[str, str]]]]:
    """Return groups of records with the same content, by kind of problem. Broken records have a
    digest of zeros.
    """
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    same = (ordered[1:] == ordered[:-1]).all(1) & ordered[1:].any(1)
    # Begin and end of runs of equal neighbors.
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    groups: dict[str, list[list[dict[str, str]]]] = {LEAKS: [], CONTRADICTIONS: [], REPEATED: []}
    # The sort is stable, so groups and their records are in the order of the splits.
    runs = sorted(
        (order[start : stop + 1] for start, stop in edges.reshape(-1, 2)),
        key=lambda run: int(run[0]),
    )
    for run in runs:
        group = [_record(int(position), splits) for position in run]
        spans = {key: len({record[key] for record in group}) > 1 for key in ("split", "class")}
        for kind, belongs in (
            (LEAKS, spans["split"]),
            (CONTRADICTIONS, spans["class"]),
            (REPEATED, not any(spans.values())),
        ):
            if belongs:
                groups[kind].append(group)
    return groups


def _record(position: int, splits: Mapping[str, Source]) -> dict[str, str]:
    """Return the split, name and class of an example, given its position in all splits together."""
    for name, source in splits.items():
        if position < len(source):
            return {
                "split": name,
                "record": source.name(position),
                "class": source.describe(position),
            }
        position -= len(source)
    raise IndexError(position)


def _placed(position: int, splits: Mapping[str, Source]) -> dict[str, Any]:
    """Return the entries of `_record`, and the example's position in its split."""
    record = _record(position, splits)
    for name, source in splits.items():
        if name == record["split"]:
            break
        position -= len(source)
    return {**record, "position": position}
