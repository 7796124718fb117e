"""Guards orders in blocks: permutations by (seed, step) that read neighboring records together."""

from __future__ import annotations

import dataclasses
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from conftest import small_config
from cvpipe.config.digits import Digits
from cvpipe.data.order import batch_examples, batch_order, fixed_order
from cvpipe.data.packed import shards
from cvpipe.data.packed.shards import Shards
from cvpipe.data.sources import Source
from cvpipe.data.sources.digits import digits
from cvpipe.data.sources.source import ReadAhead
from cvpipe.data.stream import evaluation_batches, training_batches
from cvpipe.errors import DataError
from cvpipe.tasks.classification import encode
from packed_data import assert_same, pack_all, packed_config, splits_of


def epochs(examples: int, block: int, count: int, seed: int = 0) -> np.ndarray:
    """Return successive epochs, int64 [count, N]: each batch is a whole epoch."""
    steps = range(count)
    return np.array(
        [
            batch_order(
                tf.constant(step, tf.int64),
                seed=seed,
                examples=examples,
                batch_size=examples,
                block=block,
            )[0]
            for step in steps
        ]
    )


@pytest.mark.parametrize(
    ("examples", "block"), [(1, 4), (3, 4), (4, 4), (37, 4), (64, 16), (50, 7)]
)
def test_every_epoch_is_a_permutation_for_any_block_size(examples: int, block: int) -> None:
    for epoch in epochs(examples, block, 3):
        assert sorted(epoch) == list(range(examples))


def test_neighbors_stay_together_and_each_epoch_has_different_blocks() -> None:
    examples, block = 1_003, 8
    seen = set()
    for epoch in epochs(examples, block, 6):
        steps = np.diff(epoch) % examples
        # Within a block, each number is followed by the next number.
        ends = np.flatnonzero(steps != 1)
        assert (ends % block == block - 1).all() and len(ends) > examples / block * 0.9
        blocks = epoch[: examples // block * block].reshape(-1, block)
        seen |= {frozenset(each) for each in blocks.tolist()}
        # The blocks are far from sorted.
        assert abs(np.corrcoef(blocks[:, 0], np.arange(len(blocks)))[0, 1]) < 0.3
    assert len(seen) > 4 * (examples // block)


def test_batches_are_consecutive_parts_of_one_infinite_order() -> None:
    def joined(batch_size: int) -> np.ndarray:
        return np.concatenate(
            [
                batch_order(
                    tf.constant(step, tf.int64), seed=1, examples=30, batch_size=batch_size, block=4
                )[0]
                for step in range(60 // batch_size)
            ]
        )

    np.testing.assert_array_equal(joined(6), joined(10))


def test_parts_of_a_fixed_order_form_one_permutation() -> None:
    whole = fixed_order(1_000, 0, 1_000)
    assert sorted(whole) == list(range(1_000))
    np.testing.assert_array_equal(whole[300:450], fixed_order(1_000, 300, 450))
    # This order must not change: an interrupted packing is continued in the same order.
    assert whole[:4].tolist() == FIXED


FIXED = [475, 938, 863, 239]


def mixed(count: int, block: int) -> tuple[Source, list[np.ndarray]]:
    """Return digits whose records aren't in the examples' order, and a list of announcements."""
    announced: list[np.ndarray] = []
    plain = digits(Digits(kind="digits"))["all"]
    records = np.random.default_rng(0).permutation(count)
    return (
        dataclasses.replace(
            plain, records=records, ahead=ReadAhead(block, 2 * block, announced.append)
        ),
        announced,
    )


def test_blocks_are_neighboring_records_even_if_examples_are_in_another_order() -> None:
    source, _ = mixed(100, 5)
    index, epoch = batch_examples(source, tf.constant(0, tf.int64), seed=0, batch_size=100)
    assert sorted(index.numpy()) == list(range(100)) and not epoch.numpy().any()
    records = source.records[index].reshape(20, 5)
    assert ((np.diff(records, axis=1) % 100) == 1).all()


def test_a_stream_announces_the_examples_that_it_reads() -> None:
    source, announced = mixed(60, 4)
    config = small_config("train.batch_size=8", "prepare.size=[8, 8]")
    batches = training_batches(source, config, encode, None, first_step=3, last_step=6)
    read = np.concatenate([batch["index"] for batch in batches.as_numpy_iterator()])
    np.testing.assert_array_equal(np.concatenate(announced), source.records[read])
    assert {len(records) for records in announced} == {4}
    announced.clear()
    list(evaluation_batches(source, config, encode, None, 16))
    np.testing.assert_array_equal(np.unique(np.concatenate(announced)), np.arange(60))


@pytest.mark.parametrize("keys", [{"block": 1, "ahead": 16}, {"block": 8, "ahead": 32}])
def test_packed_data_read_ahead_trains_on_the_same_examples(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    config = small_config("train.batch_size=16", "data.limit=100")
    pack_all(config, tmp_path / "packed", shard_bytes=30_000)
    plain = splits_of(config)["all"]
    packed = splits_of(packed_config(config, tmp_path / "packed", **keys))["all"]
    order = dataclasses.replace(
        plain, ahead=ReadAhead(keys["block"], keys["ahead"], lambda records: None)
    )
    # The plain source in the order of the packed source's records.
    [first, second] = (
        list(
            training_batches(
                source, config, encode, None, first_step=110, last_step=114
            ).as_numpy_iterator()
        )
        for source in (order, packed)
    )
    if keys["block"] == 1:
        assert_same(first, second)
    chosen = np.concatenate([batch["index"] for batch in second])
    assert len(set(chosen.tolist())) > 60
    for batch in second:
        for index, label in zip(batch["index"], batch["targets"]["label"], strict=True):
            assert plain.read(tf.constant(index, tf.int64))["label"] == label


def test_neighbors_are_read_by_one_request_and_records_of_a_failed_request_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests: list[tuple[str, int, int]] = []
    lock = threading.Lock()

    def read_range(file: str, begin: int, end: int) -> bytes:
        with lock:
            requests.append((file, begin, end))
        if file == "a" and begin <= 7 < end:
            raise DataError("a is broken there")
        return bytes(range(begin, end))

    monkeypatch.setattr(shards, "read_range", read_range)
    monkeypatch.setattr(shards, "GAP", 2)
    ranges = np.stack([np.arange(10), np.arange(10) + 1], axis=1)
    checksums = np.array([zlib.crc32(bytes([n % 10])) for n in range(20)], np.uint32)
    reader = Shards(["a", "b"], [ranges, ranges], checksums, {3: "was missing"}, 20)
    # A gap of two records, between 1 and 4, is read, too. A gap of three records, between 4 and 8,
    # isn't.
    reader.announce(np.array([8, 12, 9, 10, 11, 4, 1]))
    assert [reader.read(record) for record in (4, 12, 9)] == [b"\4", b"\2", b"\x09"]
    assert sorted(requests) == [("a", 1, 5), ("a", 8, 10), ("b", 0, 3)]
    # Records that are announced twice are requested once, and can be read twice.
    for _ in range(2):
        reader.announce(np.array([15, 16]))
    assert [reader.read(record) for record in (15, 15, 16, 16)] == [b"\5", b"\5", b"\6", b"\6"]
    assert requests[3:] == [("b", 5, 7)] and 15 not in reader._coming
    reader.announce(np.array([6, 7]))
    assert reader.read(6) == b"\6"
    with pytest.raises(DataError, match="a is broken there"):
        reader.read(7)
    with pytest.raises(DataError, match="^was missing$"):
        reader.read(3)
    checksums[5] ^= 1
    with pytest.raises(DataError, match="its checksum differs"):
        reader.read(5)
    # Announced records that are never read are forgotten.
    for _ in range(30):
        reader.announce(np.arange(10, 20))
    assert len(reader._coming) <= 80
