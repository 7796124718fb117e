"""Guards reports: they hold what a reader must know about a run."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvpipe.evaluation import Subject, Watch
from cvpipe.metrics.classification import ClassificationMetrics
from cvpipe.training.checkpoints import read_checkpoint
from cvpipe.training.report import evaluate_run, score_run, unfinished, write_report
from cvpipe.training.run import Run


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Run:
    return Run(shutil.copytree(trained_run, tmp_path / "run"))


def configure(run: Run, **train: Any) -> None:
    """Change the section `train` of a run's configuration."""
    values = json.loads(run.config_file.read_text())
    values["train"] |= train
    run.config_file.write_text(json.dumps(values))


def test_an_unfinished_training_says_so_in_its_report_and_on_the_console(
    run: Run, cvpipe: Callable[..., tuple[int, str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    assert unfinished(run) is None
    steps = json.loads(run.metrics_file.read_text().splitlines()[-1])["step"]
    configure(run, epochs=30)
    said = f"The training is not finished: {steps} of {15 * steps} steps are done."
    assert str(unfinished(run)).startswith(said)
    code, out, _ = cvpipe("evaluate", run.folder)
    assert code == 0 and f"{run.folder}: The training is not finished" in caplog.text
    assert said in run.report("test").read_text()
    # Each class has its line on the console.
    lines = [line.split() for line in out.splitlines()]
    assert ["class", "precision", "recall", "f1", "images", "label_share", "answer_share"] in lines
    assert {str(number) for number in range(10)} <= {line[0] for line in lines if line}


def test_a_training_that_stopped_early_is_finished(run: Run) -> None:
    configure(run, epochs=30, early_stopping={"patience": 1})
    with np.load(run.checkpoint("last")) as arrays:
        values = {**arrays, "evaluations_since_best": np.int64(1)}
    np.savez(run.checkpoint("last"), **values)
    assert unfinished(run) is None


def test_the_report_says_if_a_network_answers_only_one_class(run: Run) -> None:
    metrics = ClassificationMetrics(("cat", "dog"))
    probabilities = np.float32([[1, 0], [1, 0]])
    metrics.update({"probabilities": probabilities}, {"label": np.array([0, 1])}, np.ones(2))
    write_report(run, "test", 2, metrics.result(), {})
    report = run.report("test").read_text()
    assert "all answers are 'cat', although only 50.0% of the labels are" in report
    assert "dog | –" in report and "0.5000 | 0.0000" in report


def test_the_report_as_one_file_needs_no_other_and_has_the_same_pictures(run: Run) -> None:
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    pictures = [base64.b64decode(coded) for coded in re.findall(r"base64,([^\"]+)", page)]
    assert pictures
    named = re.findall(r"]\((pictures/[^)]+)\)", run.report("test").read_text())
    assert pictures == [(run.folder / name).read_bytes() for name in named]
    assert not re.findall(r'(?:src|href)="(?!data:)', page)


def test_a_run_that_cant_be_written_is_evaluated_without_a_report(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = {file: file.stat().st_mtime_ns for file in run.folder.rglob("*")}
    # The superuser, as whom tests may run, can write to any folder of a writable file system.
    monkeypatch.setattr(Run, "is_writable", False)
    assert evaluate_run(run)["images"] > 0
    assert {file: file.stat().st_mtime_ns for file in run.folder.rglob("*")} == before
    assert f"{run.folder}: can't be written, so the report isn't written" in caplog.messages


def test_scores_belong_to_the_step_that_was_evaluated_even_if_training_saves_a_later_one(
    run: Run,
) -> None:
    best = run.checkpoint("best")
    arrays = read_checkpoint(best)
    step = int(arrays["step"])

    def begin(_: Subject) -> Watch:
        np.savez(best, **{**arrays, "step": np.int64(step + 20)})
        return lambda batch, predictions: None

    scores = evaluate_run(run, begin=begin)
    assert run.measured(step)["test"]["accuracy"] == scores["accuracy"]
    assert run.measured(step + 20) == {}


def test_scores_of_other_data_are_not_kept_as_those_of_the_run(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    kept, report = run.scores_file("test").read_text(), run.report("test").read_text()
    few, written = score_run(run, "test", ["data.test=0.05"])
    assert written is None
    assert run.scores_file("test").read_text() == kept
    assert run.report("test").read_text() == report
    assert "scores of other data aren't the run's, so no report is written" in caplog.text
    # Other settings with the same data change nothing.
    caplog.clear()
    assert score_run(run, "test", ["data.max_bad_share=0.5"])[1] == run.report("test")
    assert (
        "other data" not in caplog.text and few["images"] < json.loads(kept)["measured"]["images"]
    )
