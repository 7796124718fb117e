"""Guards `cvpipe attack` with several runs, targets and learned changes, and `cvpipe certify`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cvpipe.commands import attack
from cvpipe.explain.robustness import METHODS

Cvpipe = Callable[..., tuple[int, str, str]]


def result_of(cvpipe: Cvpipe, folder: Path, *words: Any) -> dict[str, Any]:
    code, out, err = cvpipe(*words, "--to", folder, "--json")
    assert code == 0, err
    result: dict[str, Any] = json.loads(out)
    with Image.open(result["picture"]) as picture:
        assert picture.width > 300
    return result


def test_the_command_has_every_method() -> None:
    assert attack.METHODS == METHODS


def test_attacks_on_a_run_and_on_its_artifact_are_the_same(
    cvpipe: Cvpipe, trained_run: Path, artifact: Path, tmp_path: Path
) -> None:
    words = ("--epsilon", "0,0.05", "--steps", "3", "--limit", "50")
    result = result_of(cvpipe, tmp_path / "a", "attack", trained_run, artifact, *words)
    rows = result["transfer"]
    assert [row["epsilon"] for row in rows] == [0.0] * 4 + [0.05] * 4
    assert {row["attacked"] for row in rows[:2]} == {str(trained_run)}
    clean, attacked = ([row["accuracy"] for row in each] for each in (rows[:4], rows[4:]))
    # Gradients differ in their last digits, so small gradients may differ in sign.
    assert np.ptp(clean) == 0 and np.ptp(attacked) <= 0.04 and max(attacked) < clean[0]
    assert [point["accuracy"] for point in result["points"]] == [clean[0], attacked[0]]
    assert json.loads((tmp_path / "a" / "attack.json").read_text()) == result
    with Image.open(result["examples"]) as picture:
        assert picture.width > 300


def test_a_target_is_reached_more_often_under_attack(
    cvpipe: Cvpipe, trained_run: Path, tmp_path: Path
) -> None:
    words = ("--epsilon", "0,0.2", "--steps", "5", "--limit", "50", "--class", "3")
    clean, attacked = result_of(cvpipe, tmp_path / "a", "attack", trained_run, *words)["points"]
    assert attacked["target"] > clean["target"] + 0.3
    code, _, err = cvpipe("attack", trained_run, "--class", "eleven")
    assert code == 2 and "--class eleven: no such class; " in err


@pytest.mark.parametrize(
    "words, message",
    [
        (("--method", "deepfool", "--class", "3"), "--class: deepfool looks for"),
        (("--method", "patch", "--epsilon", "0,2"), "--epsilon: patch takes shares"),
    ],
)
def test_options_that_a_method_cant_use_are_errors(
    cvpipe: Cvpipe, trained_run: Path, words: tuple[str, ...], message: str
) -> None:
    code, out, err = cvpipe("attack", trained_run, *words)
    assert (code, out) == (2, "") and message in err


@pytest.mark.parametrize("method, strength", [("universal", 0.2), ("patch", 0.5)])
def test_learned_changes_lower_the_accuracy(
    cvpipe: Cvpipe, trained_run: Path, tmp_path: Path, method: str, strength: float
) -> None:
    words = ("--method", method, "--epsilon", f"0,{strength}", "--learn", "100", "--limit", "100")
    clean, attacked = result_of(cvpipe, tmp_path / "a", "attack", trained_run, *words)["points"]
    assert attacked["accuracy"] < clean["accuracy"]


def test_single_pixels_are_changed_by_default_and_fractions_of_pixels_are_refused(
    cvpipe: Cvpipe, trained_run: Path, tmp_path: Path
) -> None:
    words = ("attack", trained_run, "--method", "pixels", "--limit", "2")
    points = result_of(cvpipe, tmp_path / "a", *words)["points"]
    assert [point["epsilon"] for point in points] == [0, 1, 3, 5]
    code, _, err = cvpipe(*words, "--epsilon", "0,0.5", "--to", tmp_path / "b")
    assert code == 2 and "--epsilon: pixels takes numbers of changed pixels" in err


def test_certified_accuracy_falls_with_the_radius(
    cvpipe: Cvpipe, trained_run: Path, tmp_path: Path
) -> None:
    words = ("--noise", "0.02", "--samples", "200", "--radius", "0,0.02,0.06", "--limit", "10")
    result = result_of(cvpipe, tmp_path / "c", "certify", trained_run, *words)
    shares = [point["accuracy"] for point in result["points"]]
    assert result["images"] == 10 and shares[0] >= shares[1] >= shares[2]
    # With 200 samples the largest radius is 0.02 × Φ⁻¹(0.001^(1 / 200)) = 0.036.
    assert shares[0] > 0 and shares[2] == 0


@pytest.mark.parametrize(
    "words, message",
    [
        (("--samples", "150"), "--samples: must be a multiple of 100"),
        (("--noise", "0"), "--noise: must be above 0"),
        (("--limit", "0"), "--limit: must be at least 1"),
    ],
)
def test_wrong_options_of_certify_are_errors(
    cvpipe: Cvpipe, trained_run: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    code, out, err = cvpipe("certify", trained_run, *words, "--to", tmp_path / "c")
    assert (code, out) == (2, "") and message in err
