"""Batches that are read without a guard against broken records until one occurs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf


class PlainFirst:
    """Batches of a split: unguarded until a record can't be read, guarded from there on.

    A guard costs over a millisecond per image, more than decoding a small image, so only splits
    with broken records are guarded.
    """

    def __init__(self, plain: tf.data.Dataset, guarded: Callable[[], tf.data.Dataset]):
        """Read `plain`, which fails at the first broken record. `guarded` makes the same batches,
        with empty examples for broken records.
        """
        self._plain, self._make_guarded = plain, guarded
        self._guarded: tf.data.Dataset | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        done = 0
        if self._guarded is None:
            try:
                for batch in self._plain:
                    yield batch
                    done += 1
                return
            except tf.errors.OpError:
                # The next pass will meet the same record, so that pass is guarded from the start.
                self._guarded = self._make_guarded()
        yield from self._guarded.skip(done)
