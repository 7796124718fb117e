"""Guards output: any text can be printed on any stream and terminal, even characters that its
encoding lacks.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, soaked
from cvpipe.cli import main
from cvpipe.training.progress import Progress
from image_files import encode, noise

PIPELINE = """task: classification
data: {source: {kind: folder, path: photos}, validation: 0, test: 0.25}
prepare: {size: [8, 8]}
model: {backbone: linear}
optimizer: {kind: sgd, learning_rate: 0.1}
train: {epochs: 1, batch_size: 2}
"""


class Ascii(io.TextIOWrapper):
    """A stream like the one that Python opens with PYTHONIOENCODING=ascii."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="ascii", write_through=True)

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined, no-any-return]


def run(*arguments: str) -> tuple[int, str, str]:
    """Run a command with output in ASCII: (exit code, stdout, stderr)."""
    out, err = Ascii(), Ascii()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return code, out.text(), err.text()


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four images of two classes, whose names have characters that ASCII and Latin-1 lack."""
    for number, name in enumerate(("方块", "ž×")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for n in range(4):
            image = encode(noise(8, 8, seed=10 * number + n), "PNG")
            (tmp_path / "photos" / name / f"{n}.png").write_bytes(image)
    (tmp_path / "p.yaml").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "p.yaml"


@pytest.mark.parametrize("as_json", [False, *soaked(True)])
def test_class_names_are_printed_in_ascii(pipeline: Path, as_json: bool) -> None:
    code, out, _ = run("data", "check", str(pipeline), *(["--json"] if as_json else []))
    assert code == 0
    assert "\\u65b9\\u5757" in out
    if as_json:
        assert "方块" in json.loads(out)["splits"]["train"]["classes"]


def test_an_error_is_printed_in_ascii(pipeline: Path) -> None:
    pipeline.write_text(PIPELINE.replace("photos", "föhn"), encoding="utf-8")
    code, _, err = run("data", "check", str(pipeline))
    assert code == 1
    assert "f\\xf6hn: no such folder" in err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1:strict", "cp437"])
def test_schema_and_help_are_printed_in_every_encoding(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "TERM": "dumb"}
    for arguments in (["schema"], ["train", "--help"]):
        done = subprocess.run(
            [sys.executable, "-m", "cvpipe", *arguments],
            capture_output=True,
            cwd=ROOT,
            env=environment,
            check=True,
        )
        assert not done.stderr
        if arguments == ["schema"]:
            assert "$defs" in json.loads(done.stdout.decode(encoding.partition(":")[0]))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("term, rewrites", [("xterm", True), ("dumb", False), (None, False)])
def test_a_dumb_terminal_gets_lines_without_escape_codes(
    monkeypatch: pytest.MonkeyPatch, term: str | None, rewrites: bool
) -> None:
    monkeypatch.delenv("TERM", raising=False)
    if term:
        monkeypatch.setenv("TERM", term)
    terminal = Terminal()
    progress = Progress(10, 2, 5, terminal)
    progress.update(1, 0.5, 1, 1.0, 0.0)
    progress.note("saved")
    assert ("\x1b" in terminal.getvalue()) == rewrites
    assert terminal.getvalue().endswith("saved\n")


def run_with_broken(stream: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in its own process; nobody reads the stream "stdout" or "stderr"."""
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writer}
    try:
        return subprocess.run(
            [sys.executable, "-m", "cvpipe", *arguments],
            check=False,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            **streams,  # type: ignore[call-overload]
        )
    finally:
        os.close(writer)


def test_a_training_goes_on_when_nobody_reads_its_progress(pipeline: Path) -> None:
    done = run_with_broken("stderr", "train", pipeline.name, "--run", "run", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["ended"] == "finished"
    assert Path("run/checkpoints/last.npz").is_file()


def test_output_that_nobody_reads_to_its_end_is_no_failure() -> None:
    # The output of `schema` is larger than the buffer, and that of `completion` is smaller.
    for command in (["schema"], ["completion", "bash"]):
        done = run_with_broken("stdout", *command)
        assert done.returncode == 0 and not done.stderr


def test_an_error_that_nobody_reads_is_a_failure() -> None:
    done = run_with_broken("stderr", "models", "no_such_network")
    assert done.returncode == 2 and not done.stdout


def test_a_broken_pipe_other_than_stdout_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("cvpipe.commands.info.info", fail)
    assert main(["info"]) == 1
    assert capsys.readouterr().err == "cvpipe info: Broken pipe\n"
