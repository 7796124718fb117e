"""Guards `cvpipe verify` and the model card: an artifact's files, scores and card agree."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvpipe.export import export as exporting
from cvpipe.export.about import ABOUT, read_about
from cvpipe.export.card import CARD
from cvpipe.export.export import export
from cvpipe.export.manifest import write_manifest
from cvpipe.training.checkpoints import read_checkpoint
from cvpipe.training.run import Run


def test_an_unchanged_artifact_is_verified(cvpipe: Any, artifact: Path) -> None:
    code, out, _ = cvpipe("verify", artifact.parent)
    assert code == 0 and "as they were exported" in out
    code, out, _ = cvpipe("verify", artifact, "--json")
    files = [file for file in artifact.rglob("*") if file.is_file()]
    # All but the manifest itself.
    assert json.loads(out) == {"artifact": str(artifact), "files": len(files) - 1}


def test_scores_are_measured_again_and_compared(
    cvpipe: Any, artifact: Path, tmp_path: Path
) -> None:
    code, out, _ = cvpipe("verify", artifact, "--split", "test", "--json")
    was, now = json.loads(out)["scores"]["accuracy"]
    assert code == 0 and was == now == read_about(artifact)["measured"]["test"]["accuracy"]
    copy = Path(shutil.copytree(artifact, tmp_path / "1"))
    about = read_about(copy)
    about["measured"]["test"]["accuracy"] = was - 0.01
    (copy / ABOUT).write_text(json.dumps(about))
    write_manifest(copy)
    code, _, err = cvpipe("verify", copy, "--split", "test")
    assert code == 1 and f"accuracy on the test split is {was:.4f}, and was {was - 0.01:.4f}" in err


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["--set", "data.split_seed=1"], 2, "data is only read for scores; add --split test"),
        (["--split", "validation"], 1, "has no scores on the validation split to compare with"),
    ],
)
def test_a_score_that_cant_be_measured_is_reported(
    cvpipe: Any, artifact: Path, arguments: list[str], code: int, message: str
) -> None:
    found, _, err = cvpipe("verify", artifact, *arguments)
    assert found == code and message in err


def test_a_changed_file_fails(cvpipe: Any, artifact: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(artifact, tmp_path / "1"))
    with (copy / "variables" / "variables.index").open("ab") as file:
        file.write(b"x")
    code, _, err = cvpipe("verify", copy)
    assert code == 1 and "variables/variables.index differs from the exported file" in err


def test_the_card_has_scores_tensors_and_data(artifact: Path) -> None:
    about, card = read_about(artifact), (artifact / CARD).read_text()
    assert f"accuracy | {about['measured']['test']['accuracy']:.4f}" in card
    for name, signature in about["signatures"].items():
        assert f"### Signature `{name}`" in card
        for each in (*signature["inputs"], *signature["outputs"]):
            assert f"`{each}`" in card
    for split, digest in about["trained_on"]["digests"].items():
        assert f"{split} | {about['trained_on']['examples'][split]} | `{digest}`" in card
    for picture in (artifact / CARD.parent / "pictures").glob("*.png"):
        assert f"](pictures/{picture.name})" in card


@pytest.mark.soak
@pytest.mark.usefixtures("gate_in_this_process")
def test_scores_of_another_checkpoint_are_left_out(run_copy: Path, tmp_path: Path) -> None:
    file = Run(run_copy).scores_file("test")
    file.write_text(json.dumps({**json.loads(file.read_text()), "step": 1}))
    result = export(Run(run_copy), tmp_path / "model")
    assert read_about(Path(result["artifact"]))["measured"] == {}
    assert "No report of this checkpoint" in (Path(result["artifact"]) / CARD).read_text()


@pytest.mark.soak
@pytest.mark.usefixtures("gate_in_this_process")
def test_an_export_during_training_has_the_scores_of_the_exported_weights(
    run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, write = Run(run_copy), exporting.write_formats
    best = run.checkpoint("best")
    arrays = read_checkpoint(best)
    measured = run.measured(int(arrays["step"]))

    def train_on(*arguments: Any) -> dict[str, Any]:
        np.savez(best, **{**arrays, "step": arrays["step"] + 20})
        return write(*arguments)

    monkeypatch.setattr(exporting, "write_formats", train_on)
    result = export(run, tmp_path / "model")
    assert measured and read_about(Path(result["artifact"]))["measured"] == measured
