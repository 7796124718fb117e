"""Guards `cvpipe export --keras`: plain Keras gives the run's answers, and files are complete."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from cvpipe.cli import main
from cvpipe.training.build import load_networks
from cvpipe.training.run import Run

READ = """
import sys
import keras
import numpy as np
import cvpipe.models.layers
image, file, answers = sys.argv[1:]
outputs = keras.saving.load_model(file)(np.load(image))
np.savez(answers, **{name: value.numpy() for name, value in outputs.items()})
"""


@pytest.mark.soak
def test_plain_keras_in_a_fresh_process_answers_as_the_run(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "digits.keras"
    assert main(["export", str(trained_run), "--keras", str(file), "--json"]) == 0
    run = Run(trained_run)
    checkpoint = run.checkpoint("best")
    assert json.loads(capsys.readouterr().out) == {"file": str(file), "checkpoint": str(checkpoint)}
    assert [child.name for child in file.parent.iterdir()] == ["digits.keras"]
    image = np.random.default_rng(0).random((3, 16, 16, 1), np.float32)
    np.save(tmp_path / "image.npy", image)
    paths = [str(tmp_path / "image.npy"), str(file), str(tmp_path / "answers.npz")]
    subprocess.run([sys.executable, "-c", READ, *paths], check=True)
    # The run predicts with averaged weights, and so must the file.
    expected = load_networks(run, checkpoint)["network"](image)["logits"].numpy()
    with np.load(paths[-1]) as found:
        assert set(found) == {"logits"}
        # Another process may use other threads, which add in another order.
        np.testing.assert_allclose(found["logits"], expected, rtol=1e-5, atol=1e-6)


def test_the_path_of_the_keras_file_is_printed(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(trained_run), "--keras", str(tmp_path / "a.keras")]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"network     {tmp_path / 'a.keras'}"


@pytest.mark.parametrize(
    "arguments, code, sentence",
    [
        (["RUN", "--keras", "TO/digits.h5"], 2, "Keras recognizes its files by their ext"),
        (
            ["RUN", "--keras", "TO/folder.keras"],
            2,
            "folder.keras: a folder; give the path of a file",
        ),
        (["RUN", "RUN", "--keras", "TO/a.keras"], 2, "a .keras file has one network, not 2"),
        (["RUN", "--keras", "TO/file/a.keras"], 1, "can't be written .*; give another path"),
    ],
)
def test_an_invalid_path_of_a_keras_file_is_refused(
    arguments: list[str],
    code: int,
    sentence: str,
    trained_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "folder.keras").mkdir()
    (tmp_path / "file").touch()
    places = {"RUN": str(trained_run), "TO": str(tmp_path)}
    for name, path in places.items():
        arguments = [argument.replace(name, path) for argument in arguments]
    assert main(["export", *arguments]) == code
    assert re.search(sentence, capsys.readouterr().err)


def test_a_file_that_cant_be_finished_leaves_the_old_file(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "digits.keras"
    file.write_text("The old one.")

    def failing(model: keras.Model, path: Path) -> None:
        Path(path).write_text("Half of the n")
        raise OSError("No space left on device")

    monkeypatch.setattr(keras.Model, "save", failing)
    assert main(["export", str(trained_run), "--keras", str(file)]) == 1
    assert [child.name for child in tmp_path.iterdir()] == ["digits.keras"]
    assert file.read_text() == "The old one."
