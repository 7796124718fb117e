"""Guards packed data as a source: examples bit for bit as packed, or an error with the reason."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from conftest import small_config, soaked
from cvpipe.config import Config
from cvpipe.data.check import check
from cvpipe.data.packed.manifest import MANIFEST, read_manifest
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source, damaged_files, open_splits
from cvpipe.data.stream import training_batches
from cvpipe.errors import DataError
from cvpipe.evaluation import batches_of
from cvpipe.tasks import load_task
from packed_data import CASES, assert_same, pack_all, packed_config, splits_of, write_labeled

# Soaked, because other cases cover them: drawn images are arrays like the digits, and photos with
# keypoints have boxes, too.
LONG = ("labels of arrays", "keypoints", "keypoints of photos")


@pytest.fixture(scope="module", params=[*(n for n in CASES if n not in LONG), *soaked(*LONG)])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Config, Config]:
    """A pipeline, and the same pipeline with packed data."""
    folder = tmp_path_factory.mktemp("packed")
    config = CASES[request.param](folder / "plain")
    pack_all(config, folder / "packed")
    return config, packed_config(config, folder / "packed")


def batches(config: Config, quarantined: bool, **keys: Any) -> tuple[list[Any], dict[str, str]]:
    """Return three training batches, followed by all test batches, and the left-out records."""
    splits = open_splits(config.data)
    source = splits["train"]
    encode = load_task(config, source.facts).encode
    quarantine = Quarantine(source, "train", 1.0)
    stream = training_batches(
        source, config, encode, quarantine if quarantined else None, first_step=0, last_step=3
    )
    task = load_task(config, source.facts)
    scored = batches_of(splits["test"], task, config, Quarantine(splits["test"], "test", 1.0))
    in_numpy = [
        tf.nest.map_structure(lambda tensor: tensor.numpy(), batch)
        for batch in itertools.chain(stream, scored)
    ]
    return in_numpy, quarantine.names


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Source, Config]:
    """Return a source of photos, one of which is cut off, and a pipeline with the packed photos."""
    config = write_labeled(tmp_path / "plain")
    pack_all(config, tmp_path / "packed", shard_bytes=8_000)
    return splits_of(config)["all"], packed_config(config, tmp_path / "packed")


def test_splits_batches_and_left_out_records_are_those_of_the_source(
    both: tuple[Config, Config],
) -> None:
    plain, packed = both
    one, other = open_splits(plain.data), open_splits(packed.data)
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].facts == other[name].facts
        assert one[name].names() == other[name].names()
        np.testing.assert_array_equal(one[name].digests, other[name].digests)
        forgotten = dataclasses.replace(other[name], known_digests=None)
        np.testing.assert_array_equal(one[name].digests, forgotten.digests)
    is_bad = "photos" in str(plain.data.source)
    (first, left), (second, also_left) = batches(plain, is_bad), batches(packed, is_bad)
    assert len(first) == len(second) > 3
    for batch, same in zip(first, second, strict=True):
        assert_same(batch, same)
    # The same records were left out, for the same reasons.
    assert list(left.values()) == list(also_left.values())
    assert all(
        each.endswith(name.rpartition("/")[2]) for name, each in zip(left, also_left, strict=True)
    )


def test_tasks_require_their_kind_of_annotation(tmp_path: Path) -> None:
    pack_all(CASES["boxes"](tmp_path), tmp_path / "packed")
    with pytest.raises(DataError, match="packed data with boxes, but the task learns from label"):
        open_splits(packed_config(small_config(), tmp_path / "packed").data)


def test_digests_of_changed_annotations_are_computed_again(tmp_path: Path) -> None:
    config = CASES["boxes"](tmp_path)
    pack_all(config, tmp_path / "packed")
    plain, packed = (
        splits_of(each)["train"] for each in (config, packed_config(config, tmp_path / "packed"))
    )
    assert packed.known_digests is not None
    names = plain.classes[::-1]
    for one, other in (
        (plain.at_most(1), packed.at_most(1)),
        (plain.relabel(names), packed.relabel(names)),
    ):
        assert other.known_digests is None
        np.testing.assert_array_equal(one.digests, other.digests)
    assert packed.at_most(1_000).known_digests is not None


def test_a_missing_file_and_a_missing_manifest_are_errors(photos: tuple[Source, Config]) -> None:
    folder = Path(photos[1].data.source.path)
    shard = sorted(folder.glob("*.array_record"))[1]
    shard.unlink()
    with pytest.raises(DataError, match=f"{shard.name} is missing, one of 1 missing files"):
        splits_of(photos[1])
    (folder / MANIFEST).unlink()
    with pytest.raises(DataError, match=r"manifest.json: can't be read \(No such file"):
        splits_of(photos[1])


def test_a_damaged_record_is_left_out_and_named_alone(photos: tuple[Source, Config]) -> None:
    plain, config = photos
    packed = splits_of(config)["all"]
    shard = (
        Path(config.data.source.path)
        / read_manifest(config.data.source.path).splits["all"].shards[0].file
    )
    # A byte in the middle of a photo.
    content = bytearray(shard.read_bytes())
    damaged = next(
        index
        for index in range(len(plain))
        if (image := plain.read(tf.constant(index, tf.int64))["bytes"].numpy()) in bytes(content)
    )
    content[bytes(content).index(image) + len(image) // 2] ^= 1
    shard.write_bytes(content)
    quarantine = Quarantine(packed, "all", 1.0)
    encode = load_task(config, packed.facts).encode
    left_out = config.model_copy(
        update={"train": config.train.model_copy(update={"batch_size": len(packed)})}
    )
    [batch] = training_batches(packed, left_out, encode, quarantine, first_step=0, last_step=1)
    # The damaged photo, and the one that was cut off from the start.
    names = {packed.name(damaged), packed.name(plain.names().index("dog/003.jpg"))}
    assert quarantine.names.keys() == names
    assert float(tf.reduce_sum(batch["weight"])) == len(packed) - 2
    assert "can't be read" in quarantine.names[packed.name(damaged)] or (
        "is damaged" in quarantine.names[packed.name(damaged)]
    )
    assert [name for name, bad in damaged_files(config.data.source) if bad] == [shard.name]


def test_two_swapped_files_are_noticed(photos: tuple[Source, Config]) -> None:
    config = photos[1]
    first, second, *_ = sorted(Path(config.data.source.path).glob("*.array_record"))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    reasons = [row["reason"] for row in check(splits_of(config), 3)["broken"]]
    assert sum("damaged" in reason for reason in reasons) >= 6, reasons


def read_all(source: Source) -> list[Any]:
    """All examples; None for those that can't be read."""
    read: list[Any] = []
    for index in range(len(source)):
        try:
            example = source.read(tf.constant(index, tf.int64))
            read.append({name: tensor.numpy() for name, tensor in example.items()})
        except (DataError, tf.errors.OpError):
            read.append(None)
    return read


@pytest.mark.parametrize("flips", [40, pytest.param(1_000, marks=pytest.mark.soak)])
def test_files_with_flipped_bits_are_refused_or_their_examples_are_left_out(
    flips: int, tmp_path: Path
) -> None:
    config = CASES["keypoints of photos"](tmp_path / "plain")
    pack_all(config, tmp_path / "packed", shard_bytes=8_000)
    config = packed_config(config, tmp_path / "packed")
    [sound] = splits_of(config).values()
    expected, digests = read_all(sound), sound.digests
    files = sorted((tmp_path / "packed").iterdir())
    random = np.random.default_rng(flips)
    refused = left_out = 0
    for flip in range(flips):
        file = files[flip % len(files)]
        content = file.read_bytes()
        # Most of a small shard is padding.
        places = np.flatnonzero(np.frombuffer(content, np.uint8))
        if flip % 3 == 0:
            places = np.arange(len(content))
        damaged = bytearray(content)
        damaged[random.choice(places)] ^= 1 << random.integers(8)
        file.write_bytes(damaged)
        try:
            [source] = splits_of(config).values()
        except DataError:
            refused += 1
        else:
            np.testing.assert_array_equal(source.digests, digests)
            for example, known in zip(read_all(source), expected, strict=True):
                if example is None:
                    left_out += known is not None
                else:
                    assert_same(example, known)
        file.write_bytes(content)
    # A column file or manifest with any flipped bit is refused.
    others = [file for file in files if file.suffix != ".array_record"]
    assert refused == sum(files[flip % len(files)] in others for flip in range(flips))
    assert left_out > flips / 10
