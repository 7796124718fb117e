"""Guards `cvpipe explain` and `cvpipe attack`, and training against attacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from conftest import ROOT, Once, opened, small_config
from cvpipe.export.about import find_artifact
from cvpipe.export.export import export
from cvpipe.json_files import write_json
from cvpipe.training.run import Run
from cvpipe.training.train import train
from toy_served import ask, b64, served

EXAMPLE = ROOT / "pipelines" / "classification" / "example.png"
Cvpipe = Callable[..., tuple[int, str, str]]
METHODS = ("grad_cam", "occlusion")
EPSILON = 0.03
LONGER = ("train.epochs=15", "train.evaluate_every=15", "model.dropout=0", "train.ema=null")


def test_a_run_is_explained_in_pictures(cvpipe: Cvpipe, trained_run: Path, tmp_path: Path) -> None:
    methods = [word for name in ("saliency", "grad_cam") for word in ("--method", name)]
    code, out, err = cvpipe(
        "explain", trained_run, EXAMPLE, EXAMPLE, *methods, "--to", tmp_path / "maps", "--json"
    )
    assert code == 0, err
    result = json.loads(out)
    assert len(result["images"]) == 2 and Path(result["picture"]).is_file()
    for row in result["images"]:
        assert set(row["maps"]) == {"saliency", "grad_cam"} and row["class_name"] in "0123456789"
        with Image.open(row["maps"]["saliency"]) as picture:
            assert picture.size == (16, 16)


@pytest.mark.parametrize(
    "words, message",
    [
        (("--class", "eleven"), "--class eleven: no such class; "),
        (("--method", "gradcam"), "did you mean 'grad_cam'?"),
        (("--method", "grad_cam", "--layer", "stemm"), "--layer stemm: not a feature map"),
    ],
)
def test_wrong_names_are_errors(
    cvpipe: Cvpipe, trained_run: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    code, out, err = cvpipe("explain", trained_run, EXAMPLE, *words, "--to", tmp_path / "maps")
    assert (code, out) == (2, "") and message in err
    assert not (tmp_path / "maps").exists()


def test_unreadable_images_are_errors(cvpipe: Cvpipe, trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"garbage")
    code, _, err = cvpipe("explain", trained_run, EXAMPLE, tmp_path / "bad.png")
    assert code == 1 and f"{tmp_path / 'bad.png'}: can't be decoded" in err
    code, _, err = cvpipe("explain", trained_run, tmp_path / "none.png")
    assert code == 1 and "none.png: the image can't be read (No such file or directory)" in err


def test_an_image_of_another_size_is_prepared_as_in_evaluation(
    cvpipe: Cvpipe, trained_run: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.png"
    with Image.open(EXAMPLE) as picture:
        picture.convert("RGB").resize((50, 37)).save(other)
    words = ("--method", "saliency", "--cut", "--to", tmp_path / "maps", "--json")
    code, out, err = cvpipe("explain", trained_run, other, *words)
    assert code == 0, err
    [row] = json.loads(out)["images"]
    with Image.open(row["maps"]["saliency"]) as seen, Image.open(row["cuts"]["saliency"]) as cut:
        assert seen.size == cut.size == (16, 16)
        assert 0 < np.asarray(cut.getchannel("A")).mean() < 255


@pytest.mark.soak
def test_the_error_for_a_run_without_convolutions_suggests_other_methods(
    cvpipe: Cvpipe, once: Once, tmp_path: Path
) -> None:
    config = small_config("model.backbone=linear", "model.width=1", "train.epochs=1")
    run = once("runs/linear", lambda folder: train(config, folder))
    code, out, err = cvpipe("explain", run, EXAMPLE, "--to", tmp_path / "maps")
    assert (code, out) == (2, "") and "no feature map; explain it by a method" in err
    code, out, err = cvpipe("inspect", run, "--to", tmp_path / "inside")
    assert (code, out) == (2, "") and "no feature map" in err
    code, _, err = cvpipe(
        "explain", run, EXAMPLE, "--method", "occlusion", "--to", tmp_path / "maps"
    )
    assert code == 0, err


@pytest.mark.parametrize(
    "views, runs, reason",
    [
        ("mirrored", 1, "this pipeline predicts tiles or several views of an image"),
        ("one", 2, "an ensemble has no single network; export one run"),
    ],
)
def test_an_export_says_why_it_cant_explain(
    cvpipe: Cvpipe, run_copy: Path, tmp_path: Path, views: str, runs: int, reason: str
) -> None:
    file = run_copy / "config.json"
    config = json.loads(file.read_text())
    config["test_time"]["views"] = views
    write_json(file, config)
    words = ("--set", "export.explain=[grad_cam]", "--to", tmp_path / "model")
    code, out, err = cvpipe("export", *[run_copy] * runs, *words)
    assert (code, out) == (2, "") and f"export.explain: {reason}" in err
    assert not (tmp_path / "model").exists()


@pytest.fixture(scope="session")
def explained(once: Once, trained_run: Path) -> Path:
    """Export an artifact with the signature `explain`."""

    def build(folder: Path) -> None:
        export(Run(trained_run), folder / "e", [f"export.explain=[{','.join(METHODS)}]"])

    return once("explained", build) / "e"


@pytest.mark.soak
def test_an_artifact_explains_its_answers(
    cvpipe: Cvpipe, trained_run: Path, explained: Path, tmp_path: Path
) -> None:
    # The export gate has compared maps of both TensorFlow loaders with those of this process.
    found = {}
    for source in (trained_run, explained):
        folder = tmp_path / source.name
        words = ("--method", "grad_cam", "--to", folder, "--json")
        code, out, err = cvpipe("explain", source, EXAMPLE, *words)
        assert code == 0, err
        [found[source]] = json.loads(out)["images"]
    ours, theirs = found.values()
    assert ours["class_name"] == theirs["class_name"]
    with Image.open(ours["maps"]["grad_cam"]) as a, Image.open(theirs["maps"]["grad_cam"]) as b:
        np.testing.assert_allclose(np.asarray(a, int), np.asarray(b, int), atol=1)


@pytest.mark.soak
def test_an_artifact_with_grad_cam_is_folded_as_its_maps_are_those_of_the_run(
    trained_run: Path, tmp_path: Path
) -> None:
    # The gate compares the maps with those of the trained network.
    result = export(Run(trained_run), tmp_path, ["export.explain=[grad_cam]"])
    assert result["folded"] and result["max_difference"] <= 1e-5


@pytest.mark.soak
def test_a_damaged_image_is_marked_beside_explained_ones(explained: Path) -> None:
    loaded = opened(find_artifact(explained))
    files = tf.constant([EXAMPLE.read_bytes(), b"garbage"])
    answers = loaded.loaded.signatures["explain"](image_bytes=files, **loaded.defaults)
    plain = loaded(files)
    assert answers["valid"].numpy().tolist() == [True, False]
    assert set(answers) - set(plain) == {"explained_class", *METHODS}
    assert answers["grad_cam"].shape == (2, 16, 16) and np.ptp(answers["grad_cam"][0]) > 0
    np.testing.assert_array_equal(answers["class_id"], plain["class_id"])


@pytest.mark.soak
def test_a_server_answers_the_signature(explained: Path) -> None:
    body = {"instances": [b64(EXAMPLE.read_bytes())], "signature_name": "explain"}
    with served(explained) as server:
        status, answer, _ = ask(server.server_port, "POST", "/v1/models/e:predict", body)
    assert status == 200, answer
    [row] = answer["predictions"]
    assert np.shape(row["grad_cam"]) == (16, 16) and row["explained_class"] == row["class_id"]


@pytest.mark.soak
@pytest.mark.parametrize(
    "words, message",
    [
        (("--method", "gradcam"), "--method gradcam: not in this artifact; did you mean"),
        (("--class", "3"), "--class 3: an artifact explains the class with the highest score"),
        (("--layer", "stem"), "give the run instead"),
    ],
)
def test_an_artifact_refuses_options_that_need_the_run(
    cvpipe: Cvpipe, explained: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    code, out, err = cvpipe("explain", explained, EXAMPLE, *words, "--to", tmp_path / "maps")
    assert (code, out) == (2, "") and message in err


def test_an_artifact_without_the_signature_is_an_error(
    cvpipe: Cvpipe, artifact: Path, tmp_path: Path
) -> None:
    code, _, err = cvpipe("explain", artifact, EXAMPLE, "--to", tmp_path / "maps")
    assert code == 2 and "has no signature `explain`; export the run again with --set" in err


def attacked(cvpipe: Cvpipe, run: Path, folder: Path, *words: Any) -> dict[float, float]:
    code, out, err = cvpipe(
        "attack",
        run,
        "--epsilon",
        f"0,{EPSILON}",
        "--limit",
        "100",
        "--to",
        folder,
        "--json",
        *words,
    )
    assert code == 0, err
    result = json.loads(out)
    assert result["images"] == 100 and Path(result["picture"]).is_file()
    return {point["epsilon"]: point["accuracy"] for point in result["points"]}


@pytest.fixture(scope="session")
def hardened(once: Once) -> Path:
    """Train a run with adversarial training."""
    adversarial = f"train.adversarial={{epsilon: {EPSILON}, steps: 3}}"
    config = small_config(adversarial, *LONGER)
    return once("runs/hardened", lambda folder: train(config, folder))


@pytest.mark.soak
def test_training_against_attacks_makes_them_fail_more_often(
    cvpipe: Cvpipe, hardened: Path, once: Once, tmp_path: Path
) -> None:
    config = small_config(*LONGER)
    plain = once("runs/not_hardened", lambda folder: train(config, folder))
    steps = ("--steps", "5")
    soft = attacked(cvpipe, plain, tmp_path / "soft", *steps)
    hard = attacked(cvpipe, hardened, tmp_path / "hard", *steps)
    assert soft[EPSILON] < soft[0.0] and hard[EPSILON] > soft[EPSILON] + 0.1


def test_a_run_is_attacked(cvpipe: Cvpipe, trained_run: Path, tmp_path: Path) -> None:
    found = attacked(cvpipe, trained_run, tmp_path / "attack", "--method", "fgsm")
    assert found[EPSILON] <= found[0.0]
    code, _, err = cvpipe("attack", trained_run, "--epsilon", "0,x")
    assert code == 2 and "not a list of numbers" in err
    assert np.isfinite(list(found.values())).all()
