"""Guards parallel loading: streams load several examples at a time despite op determinism."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import image_files
from conftest import ROOT, small_config, soaked
from cvpipe import config_file
from cvpipe.config import Config
from cvpipe.data import batching, stream
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.graph import choose, read_in_python
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source
from cvpipe.data.sources.constructors import classification_source, detection_source
from cvpipe.data.sources.merge import merge
from cvpipe.data.stream import encoded_batches, evaluation_batches, training_batches
from cvpipe.tasks import load_task
from cvpipe.tasks.classification import encode as encode_labels

EXAMPLES, SECONDS = 8, 30
SIZE = ("prepare.size=[16, 16]", "prepare.channels=3", "train.batch_size=4")
FLIPPED = small_config(*SIZE, "augment=[{op: flip}]")
WINDOWS = small_config(*SIZE, "augment=[{op: random_resized_crop}]")
EVERYTHING = small_config(
    *SIZE,
    "augment=[{op: short_side_crop, sides: [18, 20]}, {op: rotate, degrees: 9}, {op: scale_jitter},"
    " {op: auto_augment, policy: imagenet}, {op: rand_augment}, {op: lens}, {op: elastic},"
    " {op: color_jitter, hue: 0.1}, {op: grayscale}, {op: erase}, {op: cutout, size: 0.3}]",
)


def with_partners(probability: float, *ops: str) -> Config:
    """Augmentation by several images, at this probability each."""
    listed = ", ".join(f"{{op: {op}, probability: {probability}}}" for op in ops)
    return config_file.load(
        ROOT / "pipelines" / "detection" / "digit_scenes_ssd.yaml",
        [*SIZE, "model.head.strides=[8]", f"augment=[{listed}]"],
    )


class Meeting:
    """A barrier that delays the first two reads until both have begun."""

    def __init__(self) -> None:
        self.barrier, self.over = threading.Barrier(2), False

    def attend(self) -> None:
        """Wait until another read begins; fail after a timeout."""
        if not self.over:
            self.barrier.wait(SECONDS)
            self.over = True


def reader(meeting: Meeting) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    files = [
        image_files.encode(image_files.smooth(20, 30, seed=n), "JPEG" if n % 2 else "PNG")
        for n in range(EXAMPLES)
    ]

    def read(record: int) -> bytes:
        meeting.attend()
        return files[record]

    return lambda record: {"bytes": read_in_python(read, record)}


def photos(meeting: Meeting) -> Source:
    labels = np.arange(EXAMPLES) % 2
    return classification_source(("cat", "dog"), labels, reader(meeting), lambda n: f"{n}.jpg")


def scenes(meeting: Meeting) -> Source:
    """Return photos with one object each."""
    boxes = Boxes(
        np.full([EXAMPLES, 4], [0.2, 0.2, 0.9, 0.9], np.float32),
        np.zeros(EXAMPLES, np.int32),
        np.zeros(EXAMPLES, bool),
        np.full(EXAMPLES, -1, np.float32),
        np.arange(EXAMPLES + 1),
    )
    return detection_source(("cat",), boxes, reader(meeting), lambda n: f"{n}.jpg")


def halves(source: Source) -> Source:
    """Split a source into two halves and merge them."""
    parts = np.array_split(np.arange(EXAMPLES), 2)
    return merge([{"all": source.subset(part)} for part in parts])["all"]


def trained(source: Source, config: Config, guarded: bool) -> Iterable[Any]:
    quarantine = Quarantine(source, "train", 1.0) if guarded else None
    encode = load_task(config, source.facts).encode
    return training_batches(source, config, encode, quarantine, first_step=0, last_step=2)


STREAMS: dict[str, Callable[[Meeting], Iterable[Any]]] = {
    "training": lambda meeting: trained(photos(meeting), FLIPPED, False),
    "training, guarded": lambda meeting: trained(photos(meeting), FLIPPED, True),
    "windows decoded, guarded": lambda meeting: trained(photos(meeting), WINDOWS, True),
    "every operation, guarded": lambda meeting: trained(photos(meeting), EVERYTHING, True),
    "partners": lambda meeting: trained(
        scenes(meeting), with_partners(0.5, "mosaic", "object_mixup"), False
    ),
    # The first reads are those of partners, which are checked before.
    "partners checked, guarded": lambda meeting: trained(
        scenes(meeting), with_partners(1, "mosaic"), True
    ),
    # No partner is read, so the first reads are those of the examples.
    "partners possible, guarded": lambda meeting: trained(
        scenes(meeting), with_partners(0, "copy_paste", "object_mixup"), True
    ),
    "merged": lambda meeting: trained(halves(photos(meeting)), FLIPPED, False),
    "evaluation": lambda meeting: evaluation_batches(
        photos(meeting), FLIPPED, encode_labels, None, batch_size=4
    ),
    "encoded": lambda meeting: encoded_batches(
        photos(meeting), FLIPPED, encode_labels, batch_size=4
    ),
}
WITH_PARTNERS = [name for name in STREAMS if name.startswith("partners")]
PLAIN = [name for name in STREAMS if name not in WITH_PARTNERS]


@pytest.mark.parametrize("name", [*PLAIN, *soaked(*WITH_PARTNERS)])
def test_two_examples_are_loaded_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (stream, batching):
        monkeypatch.setattr(module, "PARALLEL", 2)
    meeting = Meeting()
    batches = list(STREAMS[name](meeting))
    # If examples were loaded one at a time, the first read would time out.
    assert meeting.over and sum(len(batch["index"]) for batch in batches) == EXAMPLES
    assert all(np.all(np.asarray(batch["weight"]) == 1) for batch in batches)


@pytest.mark.parametrize("index", [-1, 0, 1, 2, 7])
def test_choose_calls_the_same_branch_as_switch_case(index: int) -> None:
    branches = [lambda n=n: tf.constant(n) for n in range(3)]
    in_graph = tf.function(lambda given: choose(given, branches), autograph=False)
    wanted = int(tf.switch_case(tf.constant(index), branches))
    assert int(choose(tf.constant(index), branches)) == wanted
    assert int(in_graph(tf.constant(index))) == wanted
