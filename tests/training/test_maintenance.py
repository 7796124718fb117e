"""Guards a training whose machine is about to be preempted: it saves, ends, and can be resumed."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import tensorflow as tf

from conftest import small_config
from cvpipe.errors import Interrupted
from cvpipe.training import maintenance
from cvpipe.training.checkpoints import read_checkpoint
from cvpipe.training.maintenance import HOST, stop_for_maintenance
from cvpipe.training.run import Run
from cvpipe.training.train import train


class Metadata(http.server.BaseHTTPRequestHandler):
    """A metadata server; `answers` holds its answers by the last part of the path."""

    answers: ClassVar[dict[str, str]]
    asked: ClassVar[list[str]]

    def do_GET(self) -> None:
        """Answer like Google's server, which refuses requests without its header."""
        name = self.path.removeprefix("/computeMetadata/v1/instance/")
        self.asked.append(name)
        known = name in self.answers and self.headers["Metadata-Flavor"] == "Google"
        self.send_response(200 if known else 403)
        self.end_headers()
        self.wfile.write(self.answers.get(name, "").encode() if known else b"")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Metadata]]:
    """A metadata server that announces no event."""
    Metadata.answers, Metadata.asked = {"maintenance-event": "NONE", "preempted": "FALSE"}, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(HOST, f"127.0.0.1:{server.server_port}")
        monkeypatch.setattr(maintenance, "ASK_EVERY", 0.01)
        yield Metadata
        server.shutdown()


@pytest.mark.parametrize(
    "name, answer",
    [
        ("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE"),
        ("maintenance-event", "MIGRATE_ON_HOST_MAINTENANCE"),
        ("preempted", "TRUE"),
    ],
)
def test_an_event_that_comes_later_is_noticed(
    metadata: type[Metadata], name: str, answer: str
) -> None:
    stop = threading.Event()
    with stop_for_maintenance(tf.distribute.get_strategy(), stop):
        while len(metadata.asked) < 6:
            assert not stop.wait(0.01)
        metadata.answers[name] = answer
        assert stop.wait(30)


def test_a_server_that_answers_nothing_useful_stops_nothing(metadata: type[Metadata]) -> None:
    metadata.answers = {}
    stop = threading.Event()
    with stop_for_maintenance(tf.distribute.get_strategy(), stop):
        while len(metadata.asked) < 6:
            assert not stop.wait(0.01)


def test_without_a_tpu_no_metadata_server_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HOST, raising=False)
    before = threading.active_count()
    with stop_for_maintenance(tf.distribute.get_strategy(), threading.Event()):
        assert threading.active_count() == before


def test_a_training_whose_machine_is_preempted_saves_and_ends_with_75(
    metadata: type[Metadata], tmp_path: Path
) -> None:
    metadata.answers["preempted"] = "TRUE"
    config = small_config("model={backbone: two_layer}", "train.epochs=1000", "prepare.size=[8, 8]")
    with pytest.raises(Interrupted, match="everything is saved") as stopped:
        train(config, tmp_path / "run")
    assert stopped.value.exit_code == 75
    step = int(read_checkpoint(Run(tmp_path / "run").checkpoint("last"))["step"])
    assert f"stopped at step {step} " in str(stopped.value)
