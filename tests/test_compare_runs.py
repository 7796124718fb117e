"""Guards `cvpipe compare`: tests of runs on the same images, and differences of configuration."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Once, small_config
from cvpipe.training.train import train

Cvpipe = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def other_run(once: Once) -> Path:
    """Train the small pipeline with another seed and learning rate."""
    config = small_config("seed=1", "train.epochs=1")
    return once("runs/shorter", lambda folder: train(config, folder))


def test_runs_are_compared_image_by_image(
    run_copy: Path, other_run: Path, tmp_path: Path, cvpipe: Cvpipe
) -> None:
    other = shutil.copytree(other_run, tmp_path / "other")
    code, out, err = cvpipe("compare", run_copy, other, run_copy, "--to", tmp_path / "to", "--json")
    assert code == 0, err
    result = json.loads(out)
    first, second, again = result["runs"]
    assert result["configs"]["seed"] == [0, 1, 0]
    assert result["configs"]["train.epochs"] == [2, 1, 2]
    assert set(result["configs"]) == {"seed", "train.epochs"}
    # The score of an image is 1 or 0, and their mean is the accuracy.
    for row in result["runs"]:
        assert row["mean"] == pytest.approx(row["scores"]["accuracy"])
        assert row["interval"][0] < row["mean"] < row["interval"][1]
    assert second["difference"] == pytest.approx(second["mean"] - first["mean"])
    low, high = second["difference_interval"]
    assert low <= second["difference"] <= high and 0 < second["p_value"] <= 1
    assert (again["difference"], again["p_value"]) == (0, 1)
    page = (tmp_path / "to" / "comparison.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 1 and "train.epochs" in page
    assert json.loads((tmp_path / "to" / "comparison.json").read_text()).keys() < result.keys()


def test_the_error_names_the_run_that_cannot_be_compared(
    run_copy: Path, tmp_path: Path, cvpipe: Cvpipe
) -> None:
    code, _, err = cvpipe("compare", run_copy)
    assert code == 2 and "at least two runs" in err
    other = Path(shutil.copytree(run_copy, tmp_path / "changed"))
    known = json.loads((other / "run.json").read_text(encoding="utf-8"))
    known["digests"]["test"] = "0"
    (other / "run.json").write_text(json.dumps(known), encoding="utf-8")
    code, _, err = cvpipe("compare", run_copy, other, "--to", tmp_path / "to")
    assert code == 2 and f"{other}: has other images or labels in the test split" in err
    assert not (tmp_path / "to").exists()
