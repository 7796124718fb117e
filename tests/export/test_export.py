"""Guards artifacts: their answers and contents, and that a wrong one is not published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from conftest import opened, small_config
from cvpipe.data.known_splits import open_split
from cvpipe.data.stream import encoded_batches, evaluation_batches
from cvpipe.errors import DataError, UserError
from cvpipe.evaluation import Predict, ask, make_predict
from cvpipe.export.about import artifact_config, find_artifact, read_about
from cvpipe.export.artifact import open_artifact
from cvpipe.export.card import CARD
from cvpipe.export.compare import Tolerance
from cvpipe.export.export import export
from cvpipe.export.gate import check_artifact
from cvpipe.export.manifest import write_manifest
from cvpipe.export.score import evaluate_artifact
from cvpipe.export.variant import fold_members
from cvpipe.tasks.task import Networks
from cvpipe.training.build import build_state
from cvpipe.training.report import evaluate_run
from cvpipe.training.run import Run
from cvpipe.training.train import train
from cvpipe.training.trained import load


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    """Return four digits as PNG, the same as JPEG in other sizes, and bytes that are no image."""
    random = np.random.default_rng(0)
    sizes = [(8, 8, 1), (8, 8, 1), (40, 25, 3), (300, 200, 3)]
    pixels = [random.integers(0, 256, size, np.uint8) for size in sizes]
    return [
        tf.io.encode_png(pixels[0]).numpy(),
        b"",
        tf.io.encode_png(pixels[1]).numpy(),
        b"garbage",
        tf.io.encode_jpeg(pixels[2]).numpy(),
        tf.io.encode_jpeg(pixels[3]).numpy(),
        tf.io.encode_png(pixels[3]).numpy()[:500],
    ]


def answers(artifact: Path, encoded: list[bytes]) -> dict[str, np.ndarray]:
    return ask(opened(artifact), tf.constant(encoded))


def test_one_batch_takes_images_of_all_sizes_and_marks_the_bad(
    artifact: Path, images: list[bytes]
) -> None:
    given = answers(artifact, images)
    assert given["valid"].tolist() == [True, False, True, False, True, True, False]
    np.testing.assert_allclose(given["probabilities"].sum(-1), 1, rtol=1e-5)


def test_an_artifact_names_classes_in_the_order_of_its_run(
    artifact: Path, trained_run: Path, images: list[bytes]
) -> None:
    given, classes = answers(artifact, images), np.array(Run(trained_run).facts.class_names)
    for ids, names in (("class_id", "class_name"), ("top_class_ids", "top_class_names")):
        assert given[names].astype(str).tolist() == classes[given[ids]].tolist()
    assert opened(artifact).facts == Run(trained_run).facts


def test_a_bad_image_changes_no_other_answer(artifact: Path, images: list[bytes]) -> None:
    together = answers(artifact, images)
    for n, encoded in enumerate(images):
        alone = answers(artifact, [encoded])
        np.testing.assert_allclose(
            alone["probabilities"][0], together["probabilities"][n], atol=1e-6
        )


def test_an_empty_batch_is_a_clear_error(artifact: Path) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="send at least one image"):
        opened(artifact)(tf.zeros([0], tf.string))


def test_both_signatures_agree_on_a_prepared_image(artifact: Path, trained_run: Path) -> None:
    config, task = Run(trained_run).config, load(Run(trained_run)).task
    source = open_split(config, "test", Run(trained_run).known)
    prepared = next(iter(evaluation_batches(source, config, task.encode, None, 16)))["image"]
    encoded = next(iter(encoded_batches(source, config, task.encode, 16)))["bytes"]
    signatures = tf.saved_model.load(str(artifact)).signatures
    from_bytes, from_tensor = (
        signatures["serving_default"](image_bytes=encoded),
        signatures["tensor"](image=prepared),
    )
    for name, value in from_tensor.items():
        if value.dtype.is_floating:
            # TensorFlow optimizes each signature's graph separately, which may change rounding.
            np.testing.assert_allclose(value, from_bytes[name], rtol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(value, from_bytes[name], err_msg=name)


def test_the_tensor_signature_compiles_with_xla(artifact: Path) -> None:
    # XLA can't compile class names, which are strings; all numeric outputs compile.
    loaded = tf.saved_model.load(str(artifact))
    compiled = tf.function(
        lambda image: loaded.signatures["tensor"](image=image)["probabilities"], jit_compile=True
    )
    image = tf.random.stateless_normal([2, 16, 16, 1], [0, 0])
    np.testing.assert_allclose(
        compiled(image), loaded.signatures["tensor"](image=image)["probabilities"], atol=1e-5
    )


def test_the_run_and_its_artifact_score_the_same(run_copy: Path, artifact: Path) -> None:
    from_run, from_artifact = evaluate_run(Run(run_copy)), evaluate_artifact(artifact, "test")
    assert from_run.keys() == from_artifact.keys()
    for name in (
        "accuracy",
        "top5_accuracy",
        "macro_f1",
        "images",
        "quarantined",
        "confusion_matrix",
    ):
        assert from_run[name] == from_artifact[name]
    for name in ("loss", "calibration_error"):
        assert from_run[name] == pytest.approx(from_artifact[name], abs=1e-5)


def test_an_artifact_records_its_origin(trained_run: Path, artifact: Path) -> None:
    assert artifact_config(artifact) == Run(trained_run).config
    about = read_about(artifact)
    assert about["trained_on"] == Run(trained_run).known
    assert about["trained_on"]["facts"]["class_names"] == list("0123456789")
    loaded = tf.saved_model.load(str(artifact))
    assert set(about["signatures"]) == set(loaded.signatures)
    for name, signature in loaded.signatures.items():
        told = about["signatures"][name]
        assert set(told["inputs"]) == set(signature.structured_input_signature[1])
        assert set(told["outputs"]) == set(signature.structured_outputs)
        tensors = [*told["inputs"].values(), *told["outputs"].values()]
        assert all(tensor["meaning"] for tensor in tensors)
    assert about["gate"]["images"] == 64 and about["gate"]["max_difference"] <= 1e-5


@pytest.mark.soak
@pytest.mark.usefixtures("gate_in_this_process")
def test_exports_are_numbered_on_and_the_newest_is_found(trained_run: Path, tmp_path: Path) -> None:
    for version in ("9", "10", "notes"):
        (tmp_path / "digits" / version).mkdir(parents=True)
    result = export(Run(trained_run), tmp_path / "digits")
    assert result["version"] == 11
    assert find_artifact(tmp_path / "digits") == tmp_path / "digits" / "11"
    assert sorted(child.name for child in (tmp_path / "digits").iterdir()) == [
        "10",
        "11",
        "9",
        "notes",
    ]


def other_predict(run: Run) -> Predict:
    """Return the predict function of the same pipeline with other weights."""
    task = load(run).task
    state, _ = build_state(run.config.model_copy(update={"seed": 99}), task, 1000)
    return make_predict([state.networks], task, run.config)


@pytest.mark.soak
@pytest.mark.usefixtures("gate_in_either_process")
def test_the_gate_refuses_other_weights(trained_run: Path, artifact: Path) -> None:
    run = Run(trained_run)
    source, task = open_split(run.config, "test", run.known), load(run).task
    with pytest.raises(
        UserError,
        match=r"refused, because probability \(v2 loader, bytes.* differs from evaluation",
    ):
        check_artifact(artifact, other_predict(run), [source], task, run.config)


@pytest.mark.usefixtures("gate_in_this_process")
@pytest.mark.parametrize(
    "difference, refused", [pytest.param(0.0, False, marks=pytest.mark.soak), (2e-5, True)]
)
def test_the_gate_refuses_the_smallest_difference_that_counts(
    trained_run: Path, artifact: Path, difference: float, refused: bool
) -> None:
    trained = load(Run(trained_run))
    source = open_split(trained.config, "test", Run(trained_run).known)

    def predict(image: tf.Tensor, *extent: tf.Tensor) -> dict[str, tf.Tensor]:
        answers = dict(trained.predict(image, *extent))
        return {**answers, "probability": answers["probability"] + difference}

    if refused:
        with pytest.raises(
            UserError,
            match=r"probability \(v2 loader.*differs from evaluation by 2.*e-05; allowed is 1e-05",
        ):
            check_artifact(artifact, predict, [source], trained.task, trained.config)
    else:
        measured = check_artifact(artifact, predict, [source], trained.task, trained.config)
        assert measured["max_difference"] <= 1e-5


@pytest.mark.soak
def test_the_gate_refuses_what_cant_be_loaded(
    trained_run: Path, artifact: Path, tmp_path: Path
) -> None:
    shutil.copytree(artifact, tmp_path / "broken")
    (tmp_path / "broken" / "variables" / "variables.index").unlink()
    trained = load(Run(trained_run))
    source = open_split(trained.config, "test", Run(trained_run).known)
    with pytest.raises(
        UserError, match="refused, because it can't be loaded and run in a fresh process"
    ):
        check_artifact(tmp_path / "broken", trained.predict, [source], trained.task, trained.config)


def norms(artifact: Path) -> list[str]:
    """Return the names of the moving statistics in an artifact."""
    names = [variable.name for variable in tf.saved_model.load(str(artifact)).variables]
    assert names
    return [name for name in names if "moving" in name]


def test_an_artifact_has_no_batch_normalizations(artifact: Path) -> None:
    assert read_about(artifact)["gate"]["folded"] and norms(artifact) == []
    assert "Batch normalizations are folded" in (artifact / CARD).read_text()


@pytest.mark.soak
@pytest.mark.usefixtures("gate_in_this_process")
def test_a_folded_network_with_other_answers_is_exported_as_trained(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inaccurate(members: Sequence[Networks]) -> tuple[dict[str, Any], ...]:
        found = fold_members(members)
        weights = found[0]["network"].trainable_variables
        weights[0].assign(1.01 * weights[0])
        return found

    monkeypatch.setattr("cvpipe.export.export.fold_members", inaccurate)
    result = export(Run(trained_run), tmp_path / "digits")
    assert not result["folded"] and result["max_difference"] <= 1e-5
    assert norms(tmp_path / "digits" / "1")
    assert [own.name for own in (tmp_path / "digits").iterdir()] == ["1"]


@pytest.mark.soak
@pytest.mark.usefixtures("gate_in_this_process")
def test_a_refused_export_leaves_no_files(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cvpipe.export.export.tolerance_of", lambda _: Tolerance(close=-1.0))
    with pytest.raises(UserError, match="refused"):
        export(Run(trained_run), tmp_path / "digits")
    assert not (tmp_path / "digits").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="refused"):
        export(Run(trained_run), tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda folder: None, "no exported model there; export a run with"),
        (
            lambda folder: (folder / "1").mkdir(parents=True),
            "no exported model there; export a run with",
        ),
        (
            lambda folder: [
                (folder / "1").mkdir(parents=True),
                (folder / "1/saved_model.pb").touch(),
            ],
            "assets.extra/cvpipe.json is missing",
        ),
        (
            lambda folder: [
                (folder / "1/assets.extra").mkdir(parents=True),
                (folder / "1/saved_model.pb").touch(),
                (folder / "1/assets.extra/cvpipe.json").write_text('{"classes": ["a"]}'),
            ],
            "exported by an earlier version of cvpipe; train and export it again",
        ),
    ],
)
def test_a_folder_without_an_artifact_is_a_clear_error(
    tmp_path: Path, make: Any, message: str
) -> None:
    make(tmp_path / "model")
    with pytest.raises(DataError, match=message):
        read_about(find_artifact(tmp_path / "model"))


def test_a_damaged_artifact_is_a_clear_error(artifact: Path, tmp_path: Path) -> None:
    shutil.copytree(artifact, tmp_path / "broken")
    (tmp_path / "broken" / "saved_model.pb").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"saved_model.pb differs from the exported file"):
        open_artifact(tmp_path / "broken")
    # With a new manifest that matches the damaged file, the graph itself fails to load.
    write_manifest(tmp_path / "broken")
    with pytest.raises(DataError, match="the graph can't be read"):
        open_artifact(tmp_path / "broken")
    shutil.copy(artifact / "saved_model.pb", tmp_path / "broken")
    (tmp_path / "broken" / "variables" / "variables.index").write_bytes(b"nothing")
    write_manifest(tmp_path / "broken")
    with pytest.raises(DataError, match="can't be loaded"):
        open_artifact(tmp_path / "broken")


def test_an_export_into_a_version_a_folder_of_models_or_a_file_is_refused(
    trained_run: Path, artifact: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for place, message in (
        (artifact, "a version of a model; give the model's folder"),
        (artifact.parent.parent, f"contains models, such as {artifact.parent.name}; give the"),
        (tmp_path / "file", "is a file; give the folder"),
    ):
        with pytest.raises(UserError, match=message):
            export(Run(trained_run), place)


@pytest.mark.soak
@pytest.mark.usefixtures("gate_in_this_process")
def test_an_artifact_away_from_its_data_can_be_given_their_path(
    cvpipe: Any, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    for n, name in enumerate(("a", "b")):
        (data / name).mkdir(parents=True)
        for k in range(10):
            (data / name / f"{k}.png").write_bytes(
                tf.io.encode_png(np.full((8, 8, 1), 20 * k + n, np.uint8)).numpy()
            )
    config = small_config(
        "model={backbone: linear, norm: none}",
        f"data.source={{kind: folder, path: {data}}}",
        "train.epochs=1",
        "schedule.warmup_epochs=0",
    )
    train(config, tmp_path / "run")
    # The gate compares up to 64 held-out images; there are only 20.
    assert export(Run(tmp_path / "run"), tmp_path / "model")["images"] == 20
    data.rename(tmp_path / "elsewhere")
    code, _, err = cvpipe("evaluate", tmp_path / "model")
    assert code == 1 and "no such folder or zip archive; set data.source.path" in err
    code, out, err = cvpipe(
        "evaluate",
        tmp_path / "model",
        "--set",
        f"data.source.path={tmp_path / 'elsewhere'}",
        "--json",
    )
    assert code == 0 and json.loads(out)["images"] == 4
    code, _, err = cvpipe("evaluate", tmp_path / "model", "--set", "train.epochs=3")
    assert code == 2 and "only keys of data can be set" in err


def test_the_report_names_scores_and_shows_pictures(run_copy: Path) -> None:
    report = (run_copy / "report.md").read_text()
    accuracy = evaluate_run(Run(run_copy))["accuracy"]
    assert f"accuracy | {accuracy:.4f}" in report
    for name in ("curves", "predictions", "confusion_matrix", "calibration"):
        assert f"(pictures/{name}.png)" in report
        assert tf.io.decode_png((run_copy / "pictures" / f"{name}.png").read_bytes()).shape[0] > 100
    assert json.dumps(Run(run_copy).config.to_json(), indent=2) in report
