"""Guards trainings with bad records, losses that aren't finite, and folders that hold a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import DIGITS, ROOT, SMALL, Once, small_config
from cvpipe import config_file
from cvpipe.errors import ConfigError, DataError, UserError
from cvpipe.training.checkpoints import read_checkpoint
from cvpipe.training.parts import Parts
from cvpipe.training.report import evaluate_run
from cvpipe.training.run import Run
from cvpipe.training.schedules import after_evaluation, last_step_of
from cvpipe.training.train import _batches, train
from cvpipe.training.validation import validate
from image_files import draw_photos


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos that the test may change."""
    return draw_photos(tmp_path / "photos")


@pytest.fixture(scope="session")
def trained(once: Once) -> Path:
    """A folder with "photos", a finished "run" of them, and its scores in "scores.json"."""

    def make(folder: Path) -> None:
        scores = train_photos(draw_photos(folder / "photos"), folder / "run")
        (folder / "scores.json").write_text(json.dumps(scores["accuracy"]))

    return once("photos_run", make)


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The photos, which the test must not change, and a copy of their run, which it may."""
    return trained / "photos", shutil.copytree(trained / "run", tmp_path / "run")


# Quick to build, for tests that don't depend on the network.
SHALLOW = ("model={backbone: two_layer, dropout: 0.1}", "prepare.size=[8, 8]")
# With BatchNorm and dropout, an example affects others, and the state holds more than the weights.
THIN_RESNET = ("prepare.size=[8, 8]",)


def train_photos(
    photos: Path, run: Path, *overrides: str, network: tuple[str, ...] = SHALLOW, **arguments: Any
) -> dict[str, Any]:
    source = f"data.source={{kind: folder, path: {photos}}}"
    options = ("train.batch_size=8", "prepare.channels=3", "data.validation=0.2")
    return train(small_config(source, *options, *network, *overrides), run, **arguments)


def quarantined(run: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (run / "quarantine.jsonl").read_text().splitlines()]


def test_a_broken_image_is_left_out_named_and_not_touched(photos: Path, tmp_path: Path) -> None:
    broken = {
        "dark/03.jpg": b"",
        "dark/05.jpg": b"garbage",
        "bright/07.jpg": (photos / "bright/07.jpg").read_bytes()[:200],
    }
    for name, content in broken.items():
        (photos / name).write_bytes(content)
    result = train_photos(photos, tmp_path / "run", "data.max_bad_share=0.5")
    assert {row["record"] for row in quarantined(tmp_path / "run")} == {
        str(photos / name) for name in broken
    }
    assert all(row["reason"] for row in quarantined(tmp_path / "run"))
    assert {name: (photos / name).read_bytes() for name in broken} == broken
    bad_in_test = sum(row["split"] == "test" for row in quarantined(tmp_path / "run"))
    assert result["quarantined"] == bad_in_test
    assert result["images"] + bad_in_test == 8
    assert result["ended"] == "finished"


@pytest.mark.soak
def test_a_broken_image_doesnt_change_which_examples_the_others_meet(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Reading starts without a guard, and fails at a bad record before it goes on with the guard; a
    # run that has the guard from its start must end with the same bits.
    for name in ("dark/03.jpg", "dark/04.jpg"):
        (photos / name).write_bytes(b"garbage")
    options = ("data.validation=0", "data.test=0.1", "data.max_bad_share=0.5")
    train_photos(photos, tmp_path / "plain", *options, network=THIN_RESNET)
    assert "train" in {row["split"] for row in quarantined(tmp_path / "plain")}

    def guarded(parts: Parts, last_step: int, _: bool) -> Any:
        return _batches(parts, last_step, guarded=True)

    monkeypatch.setattr("cvpipe.training.train._batches", guarded)
    train_photos(photos, tmp_path / "guarded", *options, network=THIN_RESNET)
    with (
        np.load(tmp_path / "plain/checkpoints/last.npz") as one,
        np.load(tmp_path / "guarded/checkpoints/last.npz") as other,
    ):
        assert {name: one[name].tobytes() for name in one} == {
            name: other[name].tobytes() for name in other
        }


def test_too_many_broken_images_stop_the_run(photos: Path, tmp_path: Path) -> None:
    for n in range(12):
        (photos / f"dark/{n:02}.jpg").write_bytes(b"garbage")
    with pytest.raises(
        DataError,
        match=(
            r"of the train split's .* can't be read .*max_bad_share allows 5.0%.*Correct or remove"
            r" them"
        ),
    ):
        train_photos(photos, tmp_path / "run")


def test_a_loss_that_is_not_finite_names_step_rate_and_examples_and_keeps_the_last_good_state(
    photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match="not finite at step .*learning rate .*jpg.*Lower optimizer.learning_rate"
    ) as failure:
        train_photos(
            photos, tmp_path / "run", "optimizer.learning_rate=1e30", "schedule={kind: constant}"
        )
    report = json.loads((tmp_path / "run" / "not_finite.json").read_text())
    assert f"step {report['step']} " in str(failure.value)
    assert len(report["examples"]) == 8 and all(Path(name).is_file() for name in report["examples"])
    for file in (tmp_path / "run").rglob("*.npz"):
        with np.load(file) as arrays:
            assert all(np.isfinite(arrays[name]).all() for name in arrays)


def test_a_finished_run_is_not_trained_again(trained: Path, finished: tuple[Path, Path]) -> None:
    photos, run = finished
    before = (run / "checkpoints/last.npz").read_bytes()
    again = train_photos(photos, run)
    assert (run / "checkpoints/last.npz").read_bytes() == before
    assert again["accuracy"] == json.loads((trained / "scores.json").read_text())


def test_another_configuration_in_the_same_folder_is_refused_with_the_keys(
    finished: tuple[Path, Path],
) -> None:
    with pytest.raises(
        ConfigError, match=r"another configuration: seed \(was 0, now 5\).*--run.*--fresh"
    ):
        train_photos(*finished, "seed=5")


def test_data_that_changed_since_is_refused(photos: Path, tmp_path: Path) -> None:
    train_photos(photos, tmp_path / "run")
    (photos / "dark/new.jpg").write_bytes((photos / "dark/01.jpg").read_bytes())
    with pytest.raises(
        ConfigError, match="data has changed since this run began .*numbers of images"
    ):
        train_photos(photos, tmp_path / "run")
    # The same number of images, but not the same images.
    (photos / "dark/new.jpg").unlink()
    for file in (photos / "dark").glob("*.jpg"):
        file.rename(file.with_name(f"other-{file.name}"))
    with pytest.raises(
        ConfigError, match="data has changed since this run began .*images or annot"
    ):
        train_photos(photos, tmp_path / "run")
    with pytest.raises(DataError, match="such as .*other-.*, may be the same under other names"):
        evaluate_run(Run(tmp_path / "run"))


@pytest.mark.soak
def test_a_repaired_record_is_counted_again(photos: Path, tmp_path: Path) -> None:
    contents = {file: file.read_bytes() for file in photos.rglob("*.jpg")}
    for file in contents:
        file.write_bytes(b"garbage" if file.name in ("03.jpg", "04.jpg") else contents[file])
    before = train_photos(photos, tmp_path / "run", "data.max_bad_share=0.5", "data.test=0.5")
    for file, content in contents.items():
        file.write_bytes(content)
    after = evaluate_run(Run(tmp_path / "run"))
    assert before["quarantined"] > 0
    assert (after["images"], after["quarantined"]) == (before["images"] + before["quarantined"], 0)


def test_a_report_on_another_split_leaves_the_test_splits_alone(
    trained_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    before = (tmp_path / "run/report.md").read_bytes()
    evaluate_run(Run(tmp_path / "run"), "validation")
    assert (tmp_path / "run/report.md").read_bytes() == before
    assert "Scores on the validation split" in (tmp_path / "run/report-validation.md").read_text()


COSINE = ("schedule={kind: cosine, warmup_epochs: 0.5}",)
PLATEAU = ("schedule={kind: plateau, factor: 0.5, patience: 1}",)
RESTARTS = ("schedule={kind: restarts, cycle_epochs: 1.5}", "train.snapshots=true")


@pytest.mark.parametrize(
    "options, network",
    [
        pytest.param(RESTARTS, SHALLOW, marks=pytest.mark.soak),
        pytest.param(PLATEAU, SHALLOW, marks=pytest.mark.soak),
        pytest.param(COSINE, THIN_RESNET, marks=pytest.mark.soak),
        pytest.param(PLATEAU, THIN_RESNET, marks=pytest.mark.soak),
        pytest.param(RESTARTS, THIN_RESNET, marks=pytest.mark.soak),
    ],
)
def test_a_run_killed_in_an_evaluation_evaluates_again(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    network: tuple[str, ...],
) -> None:
    # A checkpoint is saved after every call; no run that resumes from one may skip the evaluation.
    options = (
        *options,
        "train.epochs=3",
        "train.checkpoint_minutes=1e-9",
        "train.steps_per_call=1",
    )
    train_photos(photos, tmp_path / "whole", *options, network=network)

    def killed(parts: Parts, epoch: int) -> None:
        if epoch == 2:
            raise KeyboardInterrupt
        validate(parts, epoch)

    monkeypatch.setattr("cvpipe.training.train.validate", killed)
    with pytest.raises(KeyboardInterrupt):
        train_photos(photos, tmp_path / "killed", *options, network=network)
    monkeypatch.setattr("cvpipe.training.train.validate", validate)
    train_photos(photos, tmp_path / "killed", *options, network=network)
    files = sorted(file.name for file in (tmp_path / "whole/checkpoints").iterdir())
    assert files == sorted(file.name for file in (tmp_path / "killed/checkpoints").iterdir())
    for name in files:
        with (
            np.load(tmp_path / "whole/checkpoints" / name) as one,
            np.load(tmp_path / "killed/checkpoints" / name) as other,
        ):
            assert {key: one[key].tobytes() for key in one} == {
                key: other[key].tobytes() for key in other
            }
    scores = [
        [row for row in Run(tmp_path / name).metrics() if row["split"] == "validation"]
        for name in ("whole", "killed")
    ]
    assert scores[0] == scores[1] and len(scores[0]) == 3


@pytest.mark.soak
def test_a_snapshot_is_the_state_at_the_last_step_of_a_cosine(photos: Path, tmp_path: Path) -> None:
    # 24 training images make 3 steps per epoch. The first run has cosines of 1 and 2 epochs, and a
    # third that its end cuts off; the second run ends with the end of a cosine.
    options = (
        "schedule={kind: restarts, cycle_epochs: 1, growth: 2}",
        "train.snapshots=true",
        "train.evaluate_every=2",
    )
    train_photos(photos, tmp_path / "run", *options, "train.epochs=4")
    run = Run(tmp_path / "run")
    assert [file.name for file in run.snapshots()] == ["snapshot-1.npz", "snapshot-2.npz"]
    steps_per_epoch = run.known["examples"]["train"] / 8
    steps = []
    for file in run.snapshots():
        with np.load(file) as arrays:
            steps.append(int(arrays["step"]))
    assert steps == [int(np.ceil(steps_per_epoch)), int(np.ceil(3 * steps_per_epoch))]
    train_photos(photos, tmp_path / "other", *options, "train.epochs=3")
    with (
        np.load(Run(tmp_path / "other").snapshots()[-1]) as one,
        np.load(tmp_path / "other/checkpoints/last.npz") as other,
    ):
        assert {key: one[key].tobytes() for key in one} == {
            key: other[key].tobytes() for key in other
        }
    with pytest.raises(DataError, match="snapshot-9.npz: there is no checkpoint"):
        read_checkpoint(run.checkpoint("snapshot-9"))


def test_the_learning_rate_falls_when_the_score_has_not_risen(photos: Path, tmp_path: Path) -> None:
    falls = "schedule={kind: plateau, factor: 0.5, patience: 2, lowest: 0.2}"
    train_photos(
        photos,
        tmp_path / "run",
        falls,
        "train.epochs=5",
        "optimizer.learning_rate=1e-9",
        "train.ema=null",
    )
    scores = [
        row["accuracy"] for row in Run(tmp_path / "run").metrics() if row["split"] == "validation"
    ]
    factor, waited, best = 1.0, 0, -1.0
    for score in scores:
        factor, waited = after_evaluation(
            small_config(falls).schedule, factor, waited, score > best
        )
        best = max(best, score)
    with np.load(tmp_path / "run/checkpoints/last.npz") as arrays:
        assert (float(arrays["rate_factor"]), int(arrays["evaluations_waited"])) == (factor, waited)
    assert factor < 1


def test_errors_found_while_building_leave_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lenet5"):
        train(small_config("model.backbone=lenet5"), tmp_path / "run")
    with pytest.raises(ConfigError, match="train.early_stopping: needs a validation split"):
        train(small_config("data.validation=0", "train.early_stopping={}"), tmp_path / "run")
    with pytest.raises(ConfigError, match="schedule.kind: plateau needs a validation split"):
        train(small_config("data.validation=0", "schedule={kind: plateau}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_trained_by_one_process_at_a_time(photos: Path, tmp_path: Path) -> None:
    refused = pytest.raises(UserError, match="another process is training this run")
    (tmp_path / "alias").symlink_to("run")
    for name in ("run", "alias"):
        with Run(tmp_path / "run").locked(), refused:
            train_photos(photos, tmp_path / name)


@pytest.mark.soak
def test_epochs_smaller_than_a_batch_are_evaluated_once_a_step(
    photos: Path, tmp_path: Path
) -> None:
    train_photos(
        photos,
        tmp_path / "run",
        "train.batch_size=100",
        "train.epochs=8",
        "schedule.warmup_epochs=0",
    )
    steps = [row["step"] for row in Run(tmp_path / "run").metrics() if row["split"] == "validation"]
    assert steps == sorted(set(steps)) == [1, 2, 3]


@pytest.mark.soak
def test_class_names_may_look_like_formulas(photos: Path, tmp_path: Path) -> None:
    (photos / "dark").rename(photos / "$a_{ 漢字")
    (photos / "bright").rename(photos / "\\frac$")
    assert train_photos(photos, tmp_path / "run", "train.pictures=true")["ended"] == "finished"


def test_a_picture_that_cant_be_drawn_is_a_warning_and_left_out_of_the_report(
    finished: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no such font")

    monkeypatch.setattr("cvpipe.pictures.drawing.charts.confusion_matrix", fail)
    train_photos(*finished)
    assert (
        "the picture 'figures of scores' is left out, since it can't be drawn (ValueError: no such"
        " font)" in caplog.text
    )
    report = (tmp_path / "run/report.md").read_text()
    assert "predictions.png" in report and "confusion_matrix" not in report


def test_pictures_are_drawn_after_the_checkpoints_are_saved(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cvpipe.training.run_log.draw_evaluation", killed)
    with pytest.raises(KeyboardInterrupt):
        train_photos(photos, tmp_path / "run", "train.pictures=true")
    run = Run(tmp_path / "run")
    first = last_step_of(1, small_config("train.batch_size=8"), run.known["examples"]["train"])
    for name in ("best", "last"):
        assert int(read_checkpoint(run.checkpoint(name))["step"]) == first


def test_fresh_moves_the_old_run_aside(finished: tuple[Path, Path], tmp_path: Path) -> None:
    before = (tmp_path / "run/checkpoints/last.npz").read_bytes()
    train_photos(*finished, "seed=5", fresh=True)
    assert (tmp_path / "run.old-1/checkpoints/last.npz").read_bytes() == before
    assert (tmp_path / "run/checkpoints/last.npz").read_bytes() != before


def test_a_folder_with_something_else_in_it_is_refused_and_left_alone(
    photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    for fresh in (False, True):
        with pytest.raises(ConfigError, match="has no run; choose another folder with --run"):
            train_photos(photos, tmp_path / "run", fresh=fresh)
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_early_stopping_stops_after_its_patience(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = (
        "train.epochs=30",
        "train.early_stopping.patience=2",
        "optimizer.learning_rate=1e-9",
        "train.ema=null",
    )
    result = train_photos(photos, tmp_path / "run", *overrides)
    assert result["ended"] == "stopped early"
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    scores = [row["accuracy"] for row in rows if row["split"] == "validation"]
    assert len(scores) < 30
    assert max(scores[:-2]) >= max(scores[-2:])
    # An equal score is no improvement.
    said, bests = capsys.readouterr().err, np.maximum.accumulate([-1.0, *scores])
    assert said.count("(best so far)") == (np.diff(bests) > 0).sum()
    assert said.count("(equals the best)") == (np.array(scores) == bests[:-1]).sum()


def test_the_best_checkpoint_is_the_one_with_the_highest_validation_score(
    trained_run: Path,
) -> None:
    rows = [json.loads(line) for line in (trained_run / "metrics.jsonl").read_text().splitlines()]
    scored = [row for row in rows if row["split"] == "validation"]
    best = max(scored, key=lambda row: (row["accuracy"], row["step"]))
    with np.load(trained_run / "checkpoints/best.npz") as arrays:
        assert (int(arrays["step"]), float(arrays["best_score"])) == (
            best["step"],
            best["accuracy"],
        )


@pytest.mark.parametrize(
    "epoch, examples, expected", [(1, 100, 4), (2, 100, 7), (3, 64, 6), (1, 1, 1)]
)
def test_an_epoch_ends_with_the_step_that_shows_its_last_example(
    epoch: int, examples: int, expected: int
) -> None:
    assert last_step_of(epoch, small_config("train.batch_size=32"), examples) == expected


POSE = ROOT / "pipelines/pose/stick_figures.yaml"
FEW_FIGURES = "data.source={kind: stick_figures, train: 8, validation: 4, test: 4}"
UNEXPLAINED = {
    "mirrored": (DIGITS, ("test_time.views=mirrored",), "tiles or several views of an image"),
    "ten": (DIGITS, ("test_time={views: ten, sides: [16]}",), "tiles or several views of an image"),
    "two_layer": (DIGITS, SHALLOW, "the network has no feature map"),
    "pose": (POSE, ("model.width=0.0625", FEW_FIGURES), "this task has no class scores"),
}


@pytest.mark.parametrize("name", UNEXPLAINED)
def test_methods_that_an_export_would_refuse_are_refused_before_training(
    tmp_path: Path, name: str
) -> None:
    pipeline, overrides, reason = UNEXPLAINED[name]
    small = SMALL if pipeline == DIGITS else ()
    config = config_file.load(pipeline, [*small, *overrides, "export.explain=[grad_cam]"])
    with pytest.raises(ConfigError, match=f"export.explain: .*{reason}"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_that_cant_fit_is_refused_before_it_is_built(tmp_path: Path) -> None:
    pipeline = ROOT / "pipelines/anomaly/scratched_digits.yaml"
    config = config_file.load(pipeline, ["model.head={kind: patchcore, bank: 2147483647}"])
    with pytest.raises(ConfigError, match="The largest weight, head_memory/bank, has the shape 21"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
