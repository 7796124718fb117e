"""Guards equal answers of an artifact in TensorFlow 2's loader, in a Session and in C."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from conftest import Once, soaked
from cvpipe.export.replay import replay_v1, replay_v2

SOURCE = Path(__file__).with_name("answer.c")


@pytest.fixture(scope="session")
def answer_in_c(once: Once) -> Path:
    """Compile the C program with the headers and libraries of the package `tensorflow`."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no gcc to compile a C program with")
    package = Path(tf.__file__).parent

    def build(program: Path) -> None:
        libraries = ("-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2")
        found = (f"-I{package / 'include'}", f"-L{package}", f"-Wl,-rpath,{package}")
        strict = ("-Wall", "-Wextra", "-Werror")
        command = [compiler, *strict, *found, str(SOURCE), "-o", str(program), *libraries]
        subprocess.run(command, check=True)

    return once("answer_in_c", build)


def lines_of(program: Path, artifact: Path, image: Path) -> dict[str, list[str]]:
    """Run the C program; return the printed values by output."""
    done = subprocess.run(
        [program, artifact, image], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert all(len(values) == int(count) for _, count, *values in lines)
    return {name: values for name, _, *values in lines}


def picture() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 25, 3), np.uint8)
    return tf.io.encode_jpeg(pixels).numpy()


@pytest.mark.parametrize(
    "image", [picture(), *soaked(b"not an image")], ids=["a photo", "no image"]
)
def test_an_artifact_gives_the_same_answers_through_both_loaders_and_from_c(
    artifact: Path, answer_in_c: Path, tmp_path: Path, image: bytes
) -> None:
    (tmp_path / "image").write_bytes(image)
    printed = lines_of(answer_in_c, artifact, tmp_path / "image")
    request = {"one:serving_default/image_bytes": np.array([image], dtype=object)}
    for replay in (replay_v2, replay_v1):
        answers = replay(str(artifact), request)
        assert {name.rpartition("/")[2] for name in answers} == set(printed)
        for name, value in answers.items():
            actual = printed[name.rpartition("/")[2]]
            if value.dtype == object:
                assert actual == [text.decode() for text in value.flat], name
            else:
                expected = value.astype(np.float64).ravel()
                np.testing.assert_allclose(np.array(actual, float), expected, atol=1e-6)


def test_the_c_program_says_what_is_wrong(answer_in_c: Path, tmp_path: Path) -> None:
    for artifact in (tmp_path, tmp_path / "absent"):
        done = subprocess.run(
            [answer_in_c, artifact, SOURCE], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1 and str(artifact) in done.stderr
