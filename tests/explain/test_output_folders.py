"""Guards that commands check output folders and models before they compute anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from cvpipe.commands.command import check_output_folder
from cvpipe.errors import ConfigError
from test_explain_commands import EXAMPLE

Cvpipe = Callable[..., tuple[int, str, str]]
COMPUTED = {
    "attack": "cvpipe.commands.attack_classifiers.accuracies",
    "certify": "cvpipe.explain.smoothing.certify",
    "explain": "cvpipe.explain.explain.explain",
    "inspect": "cvpipe.explain.inspection.look",
    "visualize": "cvpipe.synthesis.pictures.class_pictures",
}
"""A function of each command that computes for long."""


def compute(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("computed before the check")


@pytest.mark.parametrize("command", COMPUTED)
def test_the_output_folder_is_checked_first(
    cvpipe: Cvpipe, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(COMPUTED[command], compute)
    (tmp_path / "notes.txt").touch()
    words = {"explain": (EXAMPLE,), "visualize": ("--class", "3")}.get(command, ())
    code, out, err = cvpipe(command, trained_run, *words, "--to", tmp_path)
    assert (code, out) == (2, "") and "holds something else; choose another folder" in err, err


def test_a_command_that_was_stopped_while_it_wrote_can_be_repeated(
    cvpipe: Cvpipe, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    to = tmp_path / "seen"
    words = ("visualize", trained_run, "--class", "3", "--steps", "1", "--to", to)
    with monkeypatch.context() as patch:
        patch.setattr("cvpipe.pictures.drawing.grids.image_grid", stop)
        code, _, err = cvpipe(*words)
    assert code == 1 and list(to.glob("*.png")), err
    code, _, err = cvpipe("corrupt", trained_run, "--to", to)
    assert code == 2 and "holds something else" in err
    code, _, err = cvpipe(*words)
    assert code == 0 and not list(to.glob(".*")), err


def test_a_folder_that_cant_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file: is a file; choose a folder with --to"):
        check_output_folder(tmp_path / "file" / "new", "mark", "--to")
    check_output_folder(tmp_path / "new" / "folder", "mark", "--to")
    assert not (tmp_path / "new").exists()


def test_all_models_are_opened_before_the_first_is_measured(
    cvpipe: Cvpipe, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cvpipe.explain.corruption_errors.measure", compute)
    missing = tmp_path / "missing"
    code, _, err = cvpipe("corrupt", trained_run, missing, "--to", tmp_path / "c")
    assert code == 1 and f"{missing}: neither a run nor an exported model" in err, err
