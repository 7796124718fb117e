"""Guards packed data in a bucket: it is written and read as on a disk, and failed requests are
repeated.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gcs_server
from conftest import ROOT
from cvpipe import ranges
from cvpipe.errors import DataError

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl makes the certificate of the test server"
)
# Writes digits to a bucket by TensorFlow's client, twice, and trains on them.
SCRIPT = """
import sys
from cvpipe.cli import main

arguments = ["data", "pack", sys.argv[1], "--to", "gs://bucket/some/digits"]
assert main([*arguments, "--shard-size", "0.05", "--workers", "3"]) == 0
assert main([*arguments, "--shard-size", "0.05"]) == 0
print("packed", flush=True)

from cvpipe.commands.info import storage_facts

found = storage_facts("gs://bucket/some/digits")
assert found["files"] > 2 and "error" not in found, found
assert "nothing is there" in storage_facts("gs://bucket/others")["error"]

import dataclasses
import tensorflow as tf
from cvpipe.data.sources import damaged_files, open_splits
from cvpipe.data.sources.source import ReadAhead
from cvpipe.data.stream import training_batches
from cvpipe.tasks.classification import encode
from conftest import small_config
from packed_data import assert_same, packed_config

config = small_config("train.batch_size=64")
packed = packed_config(config, "gs://bucket/some/digits", block=16, ahead=128)
splits, plain = open_splits(packed.data), open_splits(config.data)
assert splits["train"].names() == plain["train"].names()
assert not any(bad for _, bad in damaged_files(packed.data.source))
print("read", flush=True)
count = 0
for batch in training_batches(splits["train"], packed, encode, None, first_step=5, last_step=9):
    for index, label in zip(batch["index"], batch["targets"]["label"]):
        assert plain["train"].read(index)["label"] == label
        count += 1
assert count == 4 * 64
plain_order = config.model_copy(update={"seed": 3})
unblocked = packed_config(plain_order, "gs://bucket/some/digits", ahead=64)
streams = [
    list(training_batches(
        open_splits(each.data)["train"], each, encode, None, first_step=0, last_step=2
    ).as_numpy_iterator())
    for each in (plain_order, unblocked)
]
assert_same(*streams)
print("trained", flush=True)
"""


@pytest.mark.soak
@needs_openssl
def test_data_is_packed_into_a_bucket_and_read_in_blocks(tmp_path: Path) -> None:
    with gcs_server.running(tmp_path) as (store, environment):
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "serving")])
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(ROOT / "pipelines/classification/digits.yaml")],
            env={**os.environ, **environment, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("packed\nread\ntrained\n")
    names = {name for bucket, name in store.objects if bucket == "bucket"}
    assert "some/digits/manifest.json" in names and "some/digits/packing.json" not in names
    shards = {name for name in names if name.endswith(".array_record")}
    assert len(shards) > 2 and len(names) == 2 * len(shards) + 1
    sizes = [
        int(end) - int(begin) + 1
        for _, path, requested in store.requests
        if "array_record" in path and (found := re.match(r"bytes=(\d+)-(\d+)$", requested))
        for begin, end in [found.groups()]
    ]
    # Requests for blocks of 16 records of about 100 bytes, with the gaps between them. TensorFlow's
    # client, which compares whole files, requests 64 MiB at a time.
    blocks = [size for size in sizes if 1_500 < size < 2**26]
    assert len(blocks) >= 16


class Answer:
    """A response of a server."""

    def __init__(self, code: int, content: bytes = b""):
        self.status_code, self.content, self.reason = code, content, "reason"


def answers(monkeypatch: pytest.MonkeyPatch, *given: Any) -> list[dict[str, str]]:
    """Answer requests with the given answers in order, without waiting. Return the list of
    requests.
    """
    requested: list[dict[str, str]] = []
    waiting = iter(given)

    class Session:
        def get(self, address: str, headers: dict[str, str], timeout: Any) -> Answer:
            requested.append({"address": address, **headers})
            answer = next(waiting)
            if isinstance(answer, Exception):
                raise answer
            return answer

    monkeypatch.setattr(ranges, "_session", lambda process: (Session(), "https://host"))
    monkeypatch.setattr(ranges.time, "sleep", lambda seconds: None)
    return requested


def test_a_part_of_an_object_is_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    requested = answers(monkeypatch, Answer(206, b"part"))
    assert ranges.read_object("gs://bucket/a folder/x", 10, 14) == b"part"
    assert requested == [{"address": "https://host/bucket/a%20folder/x", "Range": "bytes=10-13"}]


def test_temporary_failures_are_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    requested = answers(
        monkeypatch, Answer(503), requests.ConnectionError(), Answer(429), Answer(200, b"0123456")
    )
    # A server without support for ranges sends the whole object.
    assert ranges.read_object("gs://bucket/x", 2, 5) == b"234"
    assert len(requested) == 4


@pytest.mark.parametrize(("codes", "message"), [([404], "HTTP 404"), ([500] * 9, "HTTP 500")])
def test_a_repeated_failure_is_reported(
    codes: list[int], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested = answers(monkeypatch, *map(Answer, codes))
    with pytest.raises(DataError, match=rf"gs://bucket/x: can't be read \({message}"):
        ranges.read_object("gs://bucket/x", 0, 5)
    assert len(requested) == min(len(codes), ranges.TRIES)


def test_other_addresses_are_refused() -> None:
    with pytest.raises(DataError, match="s3://bucket/x: only gs:// addresses are read"):
        ranges.read_object("s3://bucket/x", 0, 5)


def test_ranges_are_read_from_the_server_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate of the test server")
    content = np.random.default_rng(0).bytes(5_000)
    with gcs_server.running(tmp_path) as (store, environment):
        store.objects["bucket", "x"] = content
        monkeypatch.setenv(ranges.EMULATOR, environment[ranges.EMULATOR])
        monkeypatch.delenv("HTTP_PROXY", raising=False)
        ranges._made.cache_clear()
        try:
            assert ranges.read_object("gs://bucket/x", 100, 400) == content[100:400]
            assert ranges.read_object("gs://bucket/x", 4_900, 6_000) == content[4_900:]
        finally:
            ranges._made.cache_clear()
