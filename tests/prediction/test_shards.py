"""Guards predictions of many images: stopped anywhere and continued, they write the same files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from conftest import ROOT
from cvpipe.errors import ConfigError, DataError
from cvpipe.prediction import shards
from cvpipe.prediction.images import ImageFile
from cvpipe.prediction.shards import locked, write_shards

EXAMPLE = ROOT / "pipelines" / "classification" / "example.png"
Cvpipe = Callable[..., tuple[int, str, str]]
NOWHERE = Path("photos/missing.png")
IMAGES = [ImageFile(f"photos/{n}.png", f"{n}.png", lambda: b"", NOWHERE) for n in range(23)]
ABOUT = {"artifact": "abc", "settings": {}}


class Stopped(Exception):
    """Stops a prediction before its end."""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD", 5)


def answers(most: int = 1000) -> shards.Answer:
    """Return a model that answers `most` images and then raises Stopped."""
    left = most

    def answer_part(images: Sequence[ImageFile]) -> Iterator[dict[str, Any]]:
        nonlocal left
        for image in images:
            if not left:
                raise Stopped
            left -= 1
            error = {"error": "broken"} if image.name.endswith("3.png") else {"class_id": 7}
            yield {"image": image.name, **error}

    return lambda parts: (answer_part(IMAGES[part.start : part.stop]) for part in parts)


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def write(folder: Path, most: int = 1000, **about: Any) -> dict[str, int]:
    return write_images(IMAGES, folder, most, **about)


def write_images(
    images: Sequence[ImageFile], folder: Path, most: int = 1000, **about: Any
) -> dict[str, int]:
    with locked(folder):
        return write_shards(answers(most), images, folder, {**ABOUT, **about}, lambda text: None)


def test_a_prediction_stopped_again_and_again_ends_with_the_same_files(tmp_path: Path) -> None:
    counts = write(tmp_path / "whole")
    assert counts == {"images": 23, "errors": 2, "answered": 23}
    for most in (0, 3, 5, 7, 9, 5, 2):
        with pytest.raises(Stopped):
            write(tmp_path / "stopped", most % 5 if most > 5 else min(most, 4))
    assert write(tmp_path / "stopped")["errors"] == 2
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")
    lines = [
        json.loads(line)
        for name in sorted(files(tmp_path / "whole"))
        if name.endswith(".jsonl")
        for line in (tmp_path / "whole" / name).read_text().splitlines()
    ]
    assert [line["image"] for line in lines] == [image.name for image in IMAGES]


def test_answered_images_are_not_answered_again(tmp_path: Path) -> None:
    write(tmp_path / "run")
    assert write(tmp_path / "run", most=0)["answered"] == 0
    (tmp_path / "run" / "answers-00002.jsonl").unlink()
    assert write(tmp_path / "run", most=5)["answered"] == 5


def test_another_prediction_or_anything_else_in_the_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"has another prediction \(artifact differ\)"):
        write(tmp_path / "run", artifact="other")
    with pytest.raises(ConfigError, match=r"images, names, files differ"):
        write_images(IMAGES[1:], tmp_path / "run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(ConfigError, match="not empty and has no prediction"):
        write(tmp_path / "mine")


def test_answers_to_files_that_were_changed_since_are_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(b"before")
    image = ImageFile("photo.png", "photo.png", file.read_bytes, file)
    write_images([image], tmp_path / "run")
    write_images([image], tmp_path / "run")
    file.write_bytes(b"changed")
    with pytest.raises(ConfigError, match=r"has another prediction \(files differ\)"):
        write_images([image], tmp_path / "run")


@pytest.mark.parametrize(
    "damaged",
    [
        b"\0" * 40,
        b'{"image": "photos/5.png"}\n{"ima',
        b'{"image": "photos/5.png"}\n',
        b"\xff",
        b"1\n" * 5,
    ],
)
def test_a_damaged_file_is_named_and_its_images_are_answered_again_without_it(
    tmp_path: Path, damaged: bytes
) -> None:
    write(tmp_path / "run")
    whole = files(tmp_path / "run")
    file = tmp_path / "run" / "answers-00001.jsonl"
    file.write_bytes(damaged)
    with pytest.raises(DataError, match=r"answers-00001\.jsonl: damaged; remove this file and run"):
        write(tmp_path / "run")
    file.unlink()
    assert write(tmp_path / "run")["answered"] == 5 and files(tmp_path / "run") == whole


def test_a_folder_to_which_another_process_predicts_is_refused(
    cvpipe: Cvpipe, artifact: Path, tmp_path: Path
) -> None:
    words = ["predict", artifact, EXAMPLE, "--to", tmp_path / "answers"]
    with locked(tmp_path / "answers"):
        code, _, err = cvpipe(*words)
    assert code == 1 and "answers: another process writes answers to this folder" in err
    assert not any((tmp_path / "answers").iterdir())
    assert cvpipe(*words)[0] == 0


def test_the_command_writes_the_answers_to_a_folder_of_images(
    cvpipe: Cvpipe, artifact: Path, tmp_path: Path
) -> None:
    photos, to = tmp_path / "photos", tmp_path / "answers"
    photos.mkdir()
    for n in range(7):
        shutil.copy(EXAMPLE, photos / f"{n}.png")
    (photos / "4.png").write_bytes(b"garbage")
    code, out, err = cvpipe("predict", artifact, photos, "--to", to, "--json")
    assert code == 1, err
    expected = {"images": 7, "errors": 1, "answered": 7, "folder": str(to)}
    assert json.loads(out) == expected and "7 of 7 images" in err
    written = [line for n in range(2) for line in (to / f"answers-0000{n}.jsonl").open()]
    rows = [json.loads(line) for line in written]
    assert [row["image"] for row in rows] == [str(photos / f"{n}.png") for n in range(7)]
    assert ["error" in row for row in rows] == [n == 4 for n in range(7)]
    assert all(row["class_name"] in "0123456789" for row in rows if "error" not in row)


def test_a_prediction_that_writes_into_the_folder_of_its_images_can_be_repeated(
    cvpipe: Cvpipe, artifact: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(EXAMPLE, photos)
    outputs = ["--to", photos / "answers", "--draw", photos, "--save", "csv"]
    for answered in (1, 0):
        code, out, err = cvpipe("predict", artifact, photos, *outputs, "--json")
        assert code == 0 and json.loads(out)["answered"] == answered, err
    assert len(list(photos.rglob("*.png"))) == 3


# Predicts and is killed before it writes an answer with the number given first.
KILLED = """
import os, signal, sys
from cvpipe.cli import main
from cvpipe.commands import predict
from cvpipe.prediction import shards

shards.SHARD = 100
answer_images, left = predict.answer_images, int(sys.argv[1])

def until_killed(*arguments):
    global left
    for answer in answer_images(*arguments):
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        yield answer

predict.answer_images = until_killed
main(sys.argv[2:])
"""


@pytest.mark.soak
def test_a_process_killed_within_files_loses_and_repeats_nothing(
    cvpipe: Cvpipe, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD", 100)
    photos, to = tmp_path / "photos", tmp_path / "killed"
    photos.mkdir()
    pixels = tf.io.decode_png(EXAMPLE.read_bytes())
    for n in range(450):
        (photos / f"{n:03}.png").write_bytes(tf.io.encode_png(tf.roll(pixels, n, n % 2)).numpy())
    words = ["predict", str(artifact), str(photos), "--to"]
    assert cvpipe(*words, tmp_path / "whole")[0] == 0
    # The second process continues with the second file.
    for answers_before, whole_files in ((130, 1), (230, 3)):
        command = [sys.executable, "-c", KILLED, str(answers_before), *words, str(to)]
        ended = subprocess.run(
            command, check=False, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert len(list(to.glob("answers-*.jsonl"))) == whole_files
    code, out, err = cvpipe(*words, to, "--json")
    assert code == 0 and json.loads(out)["answered"] == 150, err
    assert files(to) == files(tmp_path / "whole")


@pytest.mark.soak
def test_the_command_prints_what_it_writes_and_answers_nothing_twice(
    cvpipe: Cvpipe, artifact: Path, tmp_path: Path
) -> None:
    photos, to = tmp_path / "photos", tmp_path / "answers"
    photos.mkdir()
    for n in range(7):
        shutil.copy(EXAMPLE, photos / f"{n}.png")
    assert cvpipe("predict", artifact, photos, "--to", to)[0] == 0
    written = [line for n in range(2) for line in (to / f"answers-0000{n}.jsonl").open()]
    code, printed, _ = cvpipe("predict", artifact, photos)
    assert code == 0
    for line, other in zip(written, printed.splitlines(), strict=True):
        one, two = json.loads(line), json.loads(other)
        assert one.keys() == two.keys() and one["class_name"] == two["class_name"]
    _, out, _ = cvpipe("predict", artifact, photos, "--to", to, "--json")
    assert json.loads(out)["answered"] == 0
