"""Guards processes that train together: the arrays that they exchange, and the error that names a
lost process.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import small_config, soaked
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import open_splits
from cvpipe.evaluation import batches_of, evaluate, make_predict
from cvpipe.tasks import load_task
from cvpipe.training.build import build_state
from cvpipe.training.cluster import Member
from cvpipe.training.workers import _lost, _read, _to_bytes
from image_files import draw_photos

JOBS = {"chief": ["a:1"], "worker": ["b:2", "c:3"]}


@pytest.mark.parametrize(
    "message, own, lost",
    [
        ("from /job:worker/task:0: /job:worker/replica:0/task:1 crashed", ("worker", 0), "c:3"),
        ("remote target /job:chief/replica:0/task:0 while calling", ("worker", 1), "a:1"),
        ("Deadline Exceeded, RPC: /tensorflow.CoordinationService/Heartbeat", ("worker", 1), "a:1"),
        ("aborted on device:/job:worker/replica:0/task:1/device:CPU:0", ("worker", 1), "a:1"),
    ],
)
def test_the_error_names_the_lost_process(message: str, own: tuple[str, int], lost: str) -> None:
    assert _lost(message, Member(*own, False, JOBS)).endswith(f"({lost})")


def test_the_chief_is_the_first_member() -> None:
    members = [("chief", 0), ("worker", 0), ("worker", 1)]
    assert [Member(*each, False, JOBS).place for each in members] == [(0, 3), (1, 3), (2, 3)]


def test_exchanged_arrays_are_equal_including_trailing_zeros_of_strings() -> None:
    names = np.empty([2, 1], object)
    names[:, 0] = [b"a\0", b""]
    arrays = {"x/y": np.arange(6.0, dtype=np.float32).reshape(2, 3), "names": names}
    read = _read(_to_bytes(arrays))
    assert read.keys() == arrays.keys()
    for name, value in arrays.items():
        assert read[name].dtype == value.dtype
        np.testing.assert_array_equal(read[name], value)


@pytest.mark.parametrize("examples", [3, *soaked(17, 21)])
def test_processes_that_share_an_evaluation_all_have_the_scores_of_one(
    tmp_path: Path, examples: int
) -> None:
    photos = draw_photos(tmp_path / "photos")
    for file in sorted(photos.rglob("*.jpg"))[::3]:
        file.write_bytes(b"garbage")
    config = small_config(
        f"data.source={{kind: folder, path: {photos}}}",
        "data.test=0.1",
        "data.validation=0",
        "data.max_bad_share=0.9",
        "model={backbone: linear}",
        "prepare={size: [8, 8], channels: 3}",
        "train.batch_size=4",
    )
    source = open_splits(config.data)["train"].subset(np.arange(examples))
    task = load_task(config, source.facts)
    predict = make_predict([build_state(config, task, examples)[0].networks], task, config)

    def scores(share: tuple[int, int], exchange: Any = None) -> tuple[dict[str, Any], set[str]]:
        quarantine = Quarantine(source, "train", 0.9)
        batches = batches_of(source, task, config, quarantine, share)
        result = evaluate(
            predict, source, task, config, quarantine=quarantine, batches=batches, exchange=exchange
        )
        return result, set(quarantine.names)

    alone, processes = scores((0, 1)), 3
    meeting, table = threading.Barrier(processes, timeout=60), list[Any]([None] * processes)
    results = list[Any]([None] * processes)

    def process(number: int) -> None:
        def exchange(arrays: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
            table[number] = _to_bytes(arrays)
            meeting.wait()
            every = [_read(content) for content in table]
            meeting.wait()
            return every

        results[number] = scores((number, processes), exchange)

    threads = [threading.Thread(target=process, args=(n,)) for n in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert alone[1]
    for result, names in results:
        assert names == alone[1]
        np.testing.assert_equal(result, alone[0])
