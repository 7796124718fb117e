"""Guards prediction by Ray: two workers write the bytes of one process, even if a worker dies."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
import pytest
import tensorflow as tf

from conftest import ROOT, opened
from cvpipe.prediction import shards
from cvpipe.prediction.answers import BATCH, Outputs, answer_images
from cvpipe.prediction.images import ImageFile, find_images
from cvpipe.prediction.ray_workers import CHUNK, Job, answer_by_ray

EXAMPLE = ROOT / "pipelines" / "classification" / "example.png"
Cvpipe = Callable[..., tuple[int, str, str]]


def photos(folder: Path, count: int) -> Path:
    """Write `count` different images, of which image 3 is broken."""
    folder.mkdir()
    pixels = tf.io.decode_png(EXAMPLE.read_bytes())
    for n in range(count):
        content = tf.io.encode_png(tf.roll(pixels, n, n % 2)).numpy()
        (folder / f"{n:03}.png").write_bytes(b"garbage" if n == 3 else content)
    return folder


def test_images_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 4)
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for image in sorted(folder.iterdir()):
            file.write(image, f"photos/{image.name}")
    images = find_images([str(folder), str(archive), str(folder / "0*.png"), str(EXAMPLE)])
    sent = pickle.loads(pickle.dumps(images))
    assert [image.name for image in sent] == [image.name for image in images]
    assert [image.read() for image in sent] == [image.read() for image in images]
    assert len(images) == 13


def test_a_chunk_has_whole_batches() -> None:
    assert CHUNK % BATCH == 0


@pytest.mark.parametrize(
    "words, message",
    [
        (["--workers", "2"], "--workers 2: only --ray uses workers; add --ray"),
        (["--ray", "--workers", "0"], "--workers 0: give 1 or more"),
        (["--ray"], "pip install 'cvpipe[ray]'"),
    ],
)
def test_wrong_arguments_are_refused_before_predicting(
    cvpipe: Cvpipe, artifact: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if Ray weren't installed.
    monkeypatch.setitem(sys.modules, "ray", None)
    code, out, err = cvpipe("predict", artifact, EXAMPLE, *words)
    assert code == 2 and out == "" and message in err


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray on this machine, with two cores."""
    # Ray reads these when it is imported. Its workers run at a low priority, and start late on a
    # busy machine.
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled", RAY_worker_niceness="0"
    )
    # Workers must import the cvpipe that is tested.
    os.environ["PYTHONPATH"] = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install cvpipe[ray]")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        yield ray
    finally:
        ray.shutdown()


@pytest.mark.soak
@pytest.mark.usefixtures("ray")
def test_two_workers_write_the_bytes_of_one_process(
    cvpipe: Cvpipe, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD", 100)
    # Paths may be relative to where the command runs.
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos", 230)
    words = ("--ray", "--workers", 2)
    assert cvpipe("predict", artifact, "photos", "--to", "one")[0] == 1
    code, _, err = cvpipe("predict", artifact, "photos", "--to", "two", *words)
    assert code == 1 and "230 of 230 images" in err
    written = sorted(file.name for file in Path("one").iterdir())
    assert len(written) == 4 and written == sorted(file.name for file in Path("two").iterdir())
    for name in written:
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()
    # Workers can continue a prediction that one process began.
    Path("one", written[1]).unlink()
    assert cvpipe("predict", artifact, "photos", "--to", "one", *words)[0] == 1
    assert Path("one", written[1]).read_bytes() == Path("two", written[1]).read_bytes()
    shutil.rmtree("photos")
    photos(tmp_path / "photos", 70)
    printed = cvpipe("predict", artifact, "photos")[1]
    assert printed == cvpipe("predict", artifact, "photos", *words)[1] != ""


def workers() -> list[psutil.Process]:
    """Return the processes of Ray's workers among those that this test started."""
    own = psutil.Process().children(recursive=True)
    return [one for one in own if "ray::Worker" in " ".join(one.cmdline())]


@pytest.mark.soak
@pytest.mark.usefixtures("ray")
def test_a_worker_that_is_killed_is_replaced_and_changes_no_answer(
    artifact: Path, tmp_path: Path
) -> None:
    images: list[ImageFile] = find_images([str(photos(tmp_path / "photos", 400))])
    job = Job(artifact, images, {}, Outputs())
    answers = chain.from_iterable(answer_by_ray(job, [range(300), range(300, 400)], 2))
    found = [next(answers)]
    before = workers()
    assert before
    for process in before:
        process.kill()
    found += answers
    assert not any(process.is_running() for process in before)
    expected = [
        *answer_images(opened(artifact), images[:300]),
        *answer_images(opened(artifact), images[300:]),
    ]
    assert found == expected
