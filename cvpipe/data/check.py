"""`cvpipe data check`: every record of every split read once, and what was found.

Dimensions: N examples of all splits together.

Memory holds some 40 bytes an example, however large the images are. A mask is part of its example:
one of another size than its image makes it a broken one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.data.attempt import attempt
from cvpipe.data.decode import decode_image, same_size
from cvpipe.data.file_kind import file_kind
from cvpipe.data.quarantine import why_unreadable
from cvpipe.data.sources import Example, Source
from cvpipe.data.stream import PARALLEL, ahead
from cvpipe.geometry.masks import IGNORED

BATCH = 64
# The kinds of groups of records with the same content, see `check`.
LEAKS, CONTRADICTIONS, REPEATED = "leaks", "contradictions", "repeated"


def check(
    splits: Mapping[str, Source],
    channels: int,
    watch: Callable[[int, int], None] = lambda done, examples: None,
) -> dict[str, Any]:
    """Reads everything once.

    Two records have the same content when their files' bytes are the same, or their pixels where a
    source holds arrays; broken files aren't compared.

    Args:
        splits: what `open_splits` gives.
        channels: 1 or 3, what images are decoded to, as in `prepare.channels`.
        watch: told, every now and then, how many of how many examples are read.

    Returns:
        "clean": whether there are no broken files, no leaks and no contradictions. "splits": for
            each, "examples", "broken" (their
        number), "classes" ({name: examples, or objects, or images whose masks show it}),
        "imbalance" (the largest class over the smallest
        that has any, of masks by their pixels), "sizes" ({"smallest", "median", "largest": [H, W]},
        by number of pixels; empty where
        nothing can be read) and "kinds" ({"JPEG RGB": files}). Of masks also "pixels" ({name: its
        share of all pixels that have a label}),
        "ignored" (the share of all pixels that have none) and "unlabelled" (how many masks have no
        label at all).
        "broken": a list of {"split", "record", "reason"}. "leaks", "contradictions", "repeated":
            lists of groups of records with the
        same content, each a list of {"split", "record", "class"}: such that span splits, such that
        span classes, and all others.
    """
    examples = sum(map(len, splits.values()))
    digests = np.zeros([examples, 2], np.int64)
    found: dict[str, Any] = {}
    broken: list[dict[str, str]] = []
    first = 0
    for name, source in splits.items():
        sizes, kinds, unreadable = [], Counter[str](), []
        shown, pixels, unlabelled = (
            np.zeros(IGNORED + 1, np.int64),
            np.zeros(IGNORED + 1, np.int64),
            0,
        )
        for start, batch in _measured(source, channels):
            readable = batch["readable"]
            stop = start + len(readable)
            digests[first + start : first + stop] = batch["digest"]
            sizes.append(batch["size"][readable])
            kinds.update(kind.decode() for kind in batch["kind"][readable])
            unreadable += (start + np.flatnonzero(~readable)).tolist()
            shown += (batch["pixels"] > 0).sum(0)
            pixels += batch["pixels"].sum(0)
            unlabelled += int((readable & ~batch["pixels"][:, :IGNORED].any(1)).sum())
            watch(first + stop, examples)
        broken += [
            {"split": name, "record": source.name(index), "reason": why_unreadable(source, index)}
            for index in unreadable
        ]
        found[name] = {
            "examples": len(source),
            "broken": len(unreadable),
            **(
                _mask_classes(source, shown, pixels, unlabelled)
                if source.masks
                else _classes(source)
            ),
            "sizes": _sizes(np.concatenate(sizes)),
            "kinds": dict(kinds.most_common()),
        }
        first += len(source)
    groups = _groups(digests, splits)
    return {
        "clean": not (broken or groups[LEAKS] or groups[CONTRADICTIONS]),
        "splits": found,
        "broken": broken,
        **groups,
    }


def _measured(source: Source, channels: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Batches with the position of their first example: "readable" bool [B], and "size" int32 [B,
    2], "digest", "kind" of such; "pixels" int64 [B, 256], of each mask how many have which label,
    zeros where there are no masks.
    """

    def measure(index: tf.Tensor) -> Example:
        example = source.read(index)
        content = example["bytes"] if "bytes" in example else example["image"]
        image = decode_image(content, channels) if "bytes" in example else content
        digest, kind = tf.numpy_function(_look_at, [content], [tf.int64, tf.string])
        measured = {
            "size": tf.shape(image)[:2],
            "digest": tf.ensure_shape(digest, [2]),
            "kind": tf.ensure_shape(kind, []),
        }
        if "mask" not in example:
            return {**measured, "pixels": tf.zeros([IGNORED + 1], tf.int64)}
        with tf.control_dependencies([same_size(example["mask"], image)]):
            labels = tf.reshape(tf.cast(example["mask"], tf.int32), [-1])
        pixels = tf.math.bincount(
            labels, minlength=IGNORED + 1, maxlength=IGNORED + 1, dtype=tf.int64
        )
        return {**measured, "pixels": tf.ensure_shape(pixels, [IGNORED + 1])}

    @tf.autograph.experimental.do_not_convert
    def guarded(index: tf.Tensor) -> Example:
        measured, readable = attempt(measure, index)
        return {**measured, "readable": readable}

    batches = ahead(
        tf.data.Dataset.range(len(source)).map(guarded, PARALLEL, deterministic=True).batch(BATCH)
    )
    for number, batch in enumerate(batches.as_numpy_iterator()):
        yield number * BATCH, batch


def _look_at(content: bytes | np.ndarray) -> tuple[np.ndarray, bytes]:
    """A digest, int64 [2], and the kind of the image."""
    if isinstance(content, bytes):
        return (
            np.frombuffer(hashlib.blake2b(content, digest_size=16).digest(), np.int64),
            file_kind(content).encode(),
        )
    pixels = np.ascontiguousarray(content)
    digest = hashlib.blake2b(str(pixels.shape).encode() + pixels.tobytes(), digest_size=16).digest()
    return (
        np.frombuffer(digest, np.int64),
        f"array {'grey' if pixels.shape[-1] == 1 else 'RGB'}".encode(),
    )


def _classes(source: Source) -> dict[str, Any]:
    counts = source.counts()
    return {
        "classes": dict(zip(source.classes, counts.tolist(), strict=True)),
        "imbalance": float(counts.max() / counts[counts > 0].min()) if counts.any() else 1.0,
    }


def _mask_classes(
    source: Source, shown: np.ndarray, pixels: np.ndarray, unlabelled: int
) -> dict[str, Any]:
    """`shown` and `pixels`, int64 [256]: how many masks have each label, and how many pixels of
    all.
    """
    labelled = pixels[: len(source.classes)]
    return {
        "classes": dict(zip(source.classes, shown.tolist(), strict=False)),
        "imbalance": (
            float(labelled.max() / labelled[labelled > 0].min()) if labelled.any() else 1.0
        ),
        "pixels": dict(
            zip(source.classes, (labelled / max(labelled.sum(), 1)).tolist(), strict=True)
        ),
        "ignored": float(pixels[IGNORED] / max(pixels.sum(), 1)),
        "unlabelled": unlabelled,
    }


def _sizes(sizes: np.ndarray) -> dict[str, list[int]]:
    """Of sizes int [n, 2]: an image of the fewest pixels, of the median number, of the most."""
    if not len(sizes):
        return {}
    order = np.argsort(sizes.astype(np.int64).prod(1), kind="stable")
    places = {"smallest": 0, "median": (len(order) - 1) // 2, "largest": -1}
    return {name: sizes[order[place]].tolist() for name, place in places.items()}


def _groups(
    digests: np.ndarray, splits: Mapping[str, Source]
) -> dict[str, list[list[dict[str, str]]]]:
    """The groups of records with the same content, by what is wrong with them; a broken record's
    digest is zeros.
    """
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    same = (ordered[1:] == ordered[:-1]).all(1) & ordered[1:].any(1)
    # Where runs of neighbours that are the same begin and end.
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    groups: dict[str, list[list[dict[str, str]]]] = {LEAKS: [], CONTRADICTIONS: [], REPEATED: []}
    # The sort is stable: a group's records, and so the groups by their first one, stand in the
    # order of the splits.
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
    """What to call the example at a position in all splits together."""
    for name, source in splits.items():
        if position < len(source):
            return {
                "split": name,
                "record": source.name(position),
                "class": source.describe(position),
            }
        position -= len(source)
    raise IndexError(position)
