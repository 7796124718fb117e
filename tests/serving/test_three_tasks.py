"""Guards a server of three tasks under load: each client gets the answers to its own images."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tensorflow as tf

from conftest import ROOT, small_config
from cvpipe import config_file
from cvpipe.answers import UNREADABLE, to_answer
from cvpipe.config import Config
from cvpipe.serving import rest
from cvpipe.serving.models import load_servable
from cvpipe.serving.settings import Settings
from image_files import BAD, encode, noise, smooth
from toy_served import ask, b64, served
from toy_three import TASKS, save_three

CLIENTS = 32
# 32 clients with 313 requests each send 10,016 requests.
TIMES = int(os.environ.get("CVPIPE_LOAD_TIMES", "313"))
BROKEN = BAD["truncated JPEG"]
pytestmark = pytest.mark.soak


class Expected(NamedTuple):
    """The answers to an image in each protocol, from a call of the model with this image alone."""

    told: dict[str, Any]
    row: dict[str, Any]


@pytest.fixture(scope="module", params=["toys", "artifacts"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    return save_three(folder) if kind == "toys" else export_three(folder)


def export_three(folder: Path) -> Path:
    """Train a network of each task for a few steps, and export it."""
    from cvpipe.export import gate
    from cvpipe.export.export import export
    from cvpipe.export.replay import replay
    from cvpipe.training.run import Run
    from cvpipe.training.train import train

    configs = {
        "classification": small_config("train.epochs=1", "data.limit=200"),
        "detection": _scenes("detection/digit_scenes_ssd.yaml"),
        "segmentation": _scenes("segmentation/digit_scenes_fcn.yaml"),
    }
    with pytest.MonkeyPatch.context() as patch:
        # Run the gate in this process: a new process would take longer than the rest of the test.
        patch.setattr(gate, "_replay", lambda path, requests: replay(str(path), requests))
        for task, config in configs.items():
            run = folder.parent / f"{folder.name}-runs" / task
            train(config, run)
            export(Run(run), folder / task)
    return folder


def _scenes(pipeline: str) -> Config:
    small = ["size=[48, 64]", "digit_sizes=[16, 32]", "train=12", "validation=3", "test=4"]
    others = ["prepare.size=[32, 32]", "model.width=0.125", "train.batch_size=4", "train.epochs=2"]
    chosen = [*(f"data.source.{one}" for one in small), *others, "train.pictures=false"]
    return config_file.load(ROOT / "pipelines" / pipeline, chosen)


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    kinds = ("JPEG", "PNG", "WEBP", "BMP")
    make = (smooth, noise)
    return [encode(make[n % 2](20 + 3 * n, 90 - 2 * n, seed=n), kinds[n % 4]) for n in range(24)]


@pytest.fixture(scope="module")
def expected(folder: Path, images: list[bytes]) -> dict[tuple[str, int], Expected]:
    answers = {}
    for task in TASKS:
        servable = load_servable(folder / task / "1")
        call, options = servable.signatures["serving_default"], servable.defaults("serving_default")
        for n, image in enumerate(images):
            tensors = call(**options, image_bytes=tf.constant([image]))
            outputs = {name: value.numpy() for name, value in tensors.items()}
            told = json.loads(json.dumps(to_answer(task, outputs, 0)))
            (row,) = rest.to_answer(outputs, True, "valid")["predictions"]
            answers[task, n] = Expected(told, json.loads(json.dumps(row)))
    return answers


@pytest.fixture(scope="module")
def port(folder: Path, kind: str) -> Iterator[int]:
    # The last bits of a convolution depend on the size of the batch; the expected answers come from
    # batches of one image.
    with served(folder, Settings() if kind == "toys" else Settings(max_batch=1)) as server:
        yield server.server_port


def test_clients_of_three_tasks_get_the_answers_of_direct_calls(
    port: int, images: list[bytes], expected: dict[tuple[str, int], Expected], kind: str
) -> None:
    # Artifacts take ten times as long: here they answer one image at a time.
    tasks, times = [*TASKS], TIMES if kind == "toys" else TIMES // 10

    def client(number: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        wrong = 0
        for turn in range(times):
            task, n = tasks[(number + turn) % 3], (7 * number + 5 * turn) % len(images)
            if turn % 2:
                path, body = f"/predict/{task}", images[n]
                right: Any = expected[task, n].told
            else:
                path, m = f"/v1/models/{task}:predict", (n + 1) % len(images)
                if task == "segmentation":
                    m = n  # masks of one request have one size
                body = {"instances": [b64(images[n]), b64(images[m])]}
                right = {"predictions": [expected[task, n].row, expected[task, m].row]}
            status, content, _ = ask(port, "POST", path, body, connection=connection)
            wrong += (status, content) != (200, right)
        connection.close()
        return wrong

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert sum(pool.map(client, range(CLIENTS))) == 0


@pytest.mark.parametrize("task", TASKS)
def test_one_broken_image_among_32_at_once_is_one_error(
    port: int, images: list[bytes], expected: dict[tuple[str, int], Expected], task: str
) -> None:
    sent = [images[n % len(images)] for n in range(CLIENTS)]
    sent[15] = BROKEN

    def client(image: bytes) -> tuple[int, Any]:
        status, content, _ = ask(port, "POST", f"/predict/{task}", image)
        return status, content

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(client, sent))
    assert answers.pop(15) == (400, {"error": UNREADABLE})
    places = [n % len(images) for n in range(CLIENTS) if n != 15]
    assert answers == [(200, expected[task, n].told) for n in places]
