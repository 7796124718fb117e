"""Guards `cvpipe benchmark`: the same images for both signatures, in separate processes."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tensorflow as tf

from conftest import ROOT, opened
from cvpipe import __version__
from cvpipe.benchmark.benchmark import artifact_size, rows_of, short_names
from cvpipe.benchmark.contestants import Contestant, Plan
from cvpipe.benchmark.requests import Request, read_images, synthetic_photo, write_requests
from cvpipe.errors import DataError
from cvpipe.prediction.images import find_images

EXAMPLE = ROOT / "pipelines" / "classification" / "example.png"
Cvpipe = Callable[..., tuple[int, str, str]]


def inputs(request: Request) -> dict[str, Any]:
    with np.load(request.file, allow_pickle=True) as arrays:
        return {name: tf.constant(value) for name, value in arrays.items()}


def test_both_signatures_get_the_same_images(artifact: Path, tmp_path: Path) -> None:
    contents = [synthetic_photo(), EXAMPLE.read_bytes(), synthetic_photo()]
    requests = write_requests(artifact, contents, tmp_path)
    assert [request.signature for request in requests] == ["tensor", "serving_default"]
    signatures = opened(artifact).loaded.signatures
    tensor, encoded = (signatures[request.signature](**inputs(request)) for request in requests)
    assert len(encoded["probabilities"]) == 3 and encoded["valid"].numpy().all()
    np.testing.assert_allclose(tensor["probabilities"], encoded["probabilities"], atol=1e-6)


def test_an_artifact_without_images_is_refused(artifact: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(artifact, tmp_path / "1"))
    about = copy / "assets.extra" / "cvpipe.json"
    text = json.loads(about.read_text(encoding="utf-8"))
    about.write_text(json.dumps({**text, "signatures": {}}), encoding="utf-8")
    with pytest.raises(DataError, match="has no signature that takes images"):
        write_requests(copy, [synthetic_photo()], tmp_path)


def test_images_are_evenly_spaced_and_repeated_if_there_are_few(tmp_path: Path) -> None:
    for n in range(9):
        pixels = np.full((4, 4, 3), n, np.uint8)
        (tmp_path / f"{n}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    images = find_images([str(tmp_path)])
    contents = [image.read() for image in images]
    assert read_images(images, 3) == [contents[0], contents[4], contents[8]]
    assert read_images(images[:2], 5) == [contents[n % 2] for n in range(5)]
    (tmp_path / "4.png").write_bytes(b"garbage")
    with pytest.raises(DataError, match="4.png: can't be read or decoded"):
        read_images(images, 3)


@pytest.mark.soak
def test_a_process_has_its_cores_and_measures_each_batch(artifact: Path, tmp_path: Path) -> None:
    tensor, _ = write_requests(artifact, [synthetic_photo()] * 5, tmp_path)
    with Contestant(Plan(artifact, tensor, 1, (2, 4))) as contestant:
        contestant.wait()
        started = psutil.Process().children()
        (process,) = (child for child in started if "probe.py" in " ".join(child.cmdline()))
        assert len(process.cpu_affinity()) == 1
        contestant.measure(2, 0.01)
        contestant.measure(4, 0.001)
        contestant.measure(2, 0.01)
    assert not process.is_running()
    assert 0 < contestant.memory[2] <= contestant.memory[4] < 2**30
    assert len(contestant.times[2]) >= 2 and len(contestant.times[4]) >= 1
    assert sum(contestant.times[2]) >= 0.01 and min(contestant.times[2]) > 0


def test_a_process_that_fails_says_why(artifact: Path, tmp_path: Path) -> None:
    request = Request("tensor", "image", tmp_path / "missing.npz")
    with Contestant(Plan(artifact, request, 1, (1,))) as contestant:
        with pytest.raises(DataError, match="(?s)tensor can't be measured.*No such file"):
            contestant.wait()
        with pytest.raises(DataError, match="No such file"):
            contestant.measure(1, 0.1)


def test_percentiles_and_rates_are_those_of_the_calls(tmp_path: Path) -> None:
    plan = Plan(tmp_path, Request("tensor", "image", tmp_path), 4, (8,))
    times = [n / 1000 for n in range(1, 102)]
    (row,) = rows_of("digits/1", plan, {8: times}, {8: 2**20})
    assert (row.threads, row.batch, row.calls, row.memory) == (4, 8, 101, 2**20)
    assert row.p50_ms == pytest.approx(51) and row.p99_ms == pytest.approx(100)
    assert row.images_per_second == pytest.approx(8 * 101 / 5.151)


def test_names_are_short_unless_they_are_the_same() -> None:
    one, two = Path("models/digits/1"), Path("models/lenet/12")
    assert short_names([one, two, Path("copied")]) == ["digits/1", "lenet/12", "copied"]
    assert short_names([one, Path("old/digits/1")]) == ["models/digits/1", "old/digits/1"]


def test_the_size_counts_only_files_that_a_server_loads(artifact: Path) -> None:
    variables = sum(file.stat().st_size for file in (artifact / "variables").iterdir())
    graph = (artifact / "saved_model.pb").stat().st_size
    assert 0 <= artifact_size(artifact) - variables - graph < 1000


@pytest.mark.parametrize(
    "words, message",
    [
        (["--batch", "0,8"], "'0,8': give whole numbers from 1 on"),
        (["--threads", "none"], "'none': give whole numbers"),
        (["--threads", "4096"], "--threads 4096: only"),
        (["--seconds", "0"], "--seconds 0.0: give more than 0"),
        (["--set", "data.limit=3"], "add --evaluate"),
    ],
)
def test_wrong_options_are_refused(
    cvpipe: Cvpipe, artifact: Path, words: list[str], message: str
) -> None:
    code, out, err = cvpipe("benchmark", artifact, *words)
    assert code == 2 and out == "" and message in err


@pytest.mark.soak
def test_artifacts_are_measured_side_by_side(
    cvpipe: Cvpipe, artifact: Path, tmp_path: Path
) -> None:
    copy, to = shutil.copytree(artifact, tmp_path / "copy" / "2"), tmp_path / "compared"
    words = ("--batch", "1,3", "--threads", "1,all", "--seconds", "0.2", "--to", to, "--json")
    code, out, err = cvpipe("benchmark", artifact.parent, copy.parent, *words, "--images", EXAMPLE)
    assert code == 0, err
    result = json.loads(out)
    assert result["machine"]["cvpipe"] == __version__ and result["images"] == "1 of 1"
    about = json.loads((artifact / "assets.extra" / "cvpipe.json").read_text(encoding="utf-8"))
    for entry in result["artifacts"]:
        assert entry["value"] == about["measured"]["test"][entry["score"]]
    keys = ("artifact", "signature", "threads", "batch")
    names, signatures = ("digits/1", "copy/2"), ("tensor", "serving_default")
    threads = {1, len(os.sched_getaffinity(0))}
    expected = set(itertools.product(names, signatures, threads, (1, 3)))
    assert {tuple(row[key] for key in keys) for row in result["rows"]} == expected
    assert len(result["rows"]) == len(expected)
    written = json.loads((to / "benchmark.json").read_text(encoding="utf-8"))
    assert written["rows"] == result["rows"]
    picture = tf.io.decode_png((to / "benchmark.png").read_bytes())
    assert picture.shape[0] > 500 and "data:image/png" in (to / "benchmark.html").read_text()


@pytest.mark.soak
def test_scores_can_be_measured_again(cvpipe: Cvpipe, artifact: Path) -> None:
    words = ("--batch", "1", "--threads", "1", "--seconds", "0.1", "--split", "validation")
    code, out, err = cvpipe("benchmark", artifact, *words)
    assert code == 0, err
    code, out, err = cvpipe("benchmark", artifact, *words, "--evaluate", "--json")
    assert code == 0, err
    scores = json.loads(cvpipe("evaluate", artifact, "--split", "validation", "--json")[1])
    (entry,) = json.loads(out)["artifacts"]
    assert entry["value"] == scores[entry["score"]]
