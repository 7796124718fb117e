"""Guards files for other runtimes: each gives evaluation's answers, or the export fails."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from conftest import ROOT, Once, soaked
from cvpipe import config_file
from cvpipe.config import Config
from cvpipe.errors import ConfigError, UserError
from cvpipe.export.about import read_about
from cvpipe.export.card import CARD
from cvpipe.export.compare import Tolerance
from cvpipe.export.export import export
from cvpipe.export.formats import FOLDER, NAMES, litert, onnx, openvino
from cvpipe.export.formats.plain import Plain
from cvpipe.export.formats.replay_file import RUNTIMES
from cvpipe.export.formats.runtime import Runtime, Unconvertible
from cvpipe.export.formats.write import check_formats
from cvpipe.export.manifest import check_manifest
from cvpipe.export.operations import check_operations
from cvpipe.tasks import load_task
from cvpipe.training.run import Run
from cvpipe.training.train import train

RUNTIME: dict[str, Runtime] = {
    name: module.RUNTIME for name, module in zip(NAMES, (litert, onnx, openvino))
}
SCENES = "data.source={kind: digit_scenes, size: [96, 128], train: 48, validation: 8, test: 12}"
TINY = (
    "prepare={size: [64, 64], resize: letterbox}",
    "train.epochs=1",
    "train.batch_size=8",
    "train.pictures=false",
    "schedule={kind: constant}",
)
FEW = "model.head.suppress.max_detections=20"
PIPELINES: dict[str, tuple[str, tuple[str, ...]]] = {
    "ssd": (
        "detection/digit_scenes_ssd.yaml",
        (
            SCENES,
            "model.backbone=resnet8",
            "model.width=0.25",
            "model.head={kind: ssd, strides: [2, 4]}",
            FEW,
        ),
    ),
    "yolo": (
        "detection/digit_scenes_ssd.yaml",
        (
            SCENES,
            "model.backbone=resnet18",
            "model.width=0.125",
            "model.head={kind: yolo_v3, strides: [16], anchors: [[0.2, 0.15], [0.3, 0.25]]}",
            "loss={kind: yolo, empty_weight: 0.05}",
            FEW,
        ),
    ),
    "segmentation": (
        "segmentation/digit_scenes_fcn.yaml",
        (SCENES, "model.backbone=resnet8", "model.width=0.25"),
    ),
    "pose": (
        "pose/stick_figures.yaml",
        (
            "data.source={kind: stick_figures, size: [64, 80], train: 32, validation: 8, test: 12}",
            "model.width=0.125",
            "model.head={kind: heatmaps, start: 16, stride: 4}",
        ),
    ),
}


def installed(name: str) -> bool:
    return all(importlib.util.find_spec(module) for module in RUNTIME[name].modules)


def skip_unless_installed(name: str) -> None:
    if not installed(name):
        pytest.skip(f"{' and '.join(RUNTIME[name].modules)}: not installed; see extra {name}")


def small(pipeline: str) -> Config:
    file, overrides = PIPELINES[pipeline]
    return config_file.load(ROOT / "pipelines" / file, [*TINY, *overrides])


@pytest.fixture(scope="session", params=["classification", *soaked(*PIPELINES)])
def run(request: pytest.FixtureRequest, once: Once) -> Run:
    """Train a run of each task."""
    if request.param == "classification":
        return Run(request.getfixturevalue("trained_run"))
    return Run(once(f"runs/formats_{request.param}", lambda to: train(small(request.param), to)))


@pytest.fixture
def exported(run: Run, once: Once, gate_in_this_process: None) -> Path:
    """Export `run` with files for all installed runtimes."""
    names = [name for name in NAMES if installed(name)]
    folder = once(f"saved_formats/{run.folder.name}", lambda to: export(run, to, formats=names))
    return folder / "1"


@pytest.mark.parametrize("name", NAMES)
def test_a_file_answers_as_the_signature_of_tensors(name: str, exported: Path) -> None:
    skip_unless_installed(name)
    entry = read_about(exported)["formats"][name]
    assert entry["max_difference"] <= entry["tolerance"]
    signature = tf.saved_model.load(str(exported)).signatures["tensor"]
    specs = signature.structured_input_signature[1]
    images = np.random.default_rng(1).random((3, *specs["image"].shape[1:]), np.float32)
    actual = RUNTIMES[name](str(exported / entry["file"]), images)
    settings = {
        key: tf.constant(value["default"], specs[key].dtype)
        for key, value in read_about(exported)["signatures"]["tensor"]["inputs"].items()
        if "default" in value
    }
    answers = signature(image=tf.constant(images), **settings).items()
    # Files have class numbers instead of class names, because other runtimes have no strings.
    expected = {key: value.numpy() for key, value in answers if value.dtype != tf.string}
    assert set(actual) == set(expected) == set(entry["answers"])
    for key in expected:
        assert actual[key].shape == expected[key].shape and actual[key].dtype == expected[key].dtype


@pytest.mark.parametrize("name", NAMES)
def test_a_file_needs_no_tensorflow(name: str, exported: Path, tmp_path: Path) -> None:
    skip_unless_installed(name)
    entry = read_about(exported)["formats"][name]
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], None, '__main__');"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'tensorflow', 'cvpipe'}))"
    )
    shape = tf.saved_model.load(str(exported)).signatures["tensor"].inputs[0].shape[1:]
    np.savez(tmp_path / "images.npz", images=np.zeros((1, *shape), np.float32))
    script = ROOT / "cvpipe" / "export" / "formats" / "replay_file.py"
    files = [exported / entry["file"], tmp_path / "images.npz", tmp_path / "answers.npz"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, script, name, *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "[]"


def test_files_are_in_the_manifest_and_the_model_card(exported: Path) -> None:
    files = {entry["file"] for entry in read_about(exported)["formats"].values()}
    manifest = (exported / "assets.extra" / "SHA256SUMS").read_text(encoding="utf-8")
    assert files and all(file in manifest for file in files)
    assert check_manifest(exported) == len(manifest.splitlines())
    check_operations(exported)
    assert [child.name for child in exported.parent.iterdir()] == ["1"]
    assert "## Other runtimes" in (exported / CARD).read_text(encoding="utf-8")


@pytest.mark.soak
@pytest.mark.usefixtures("gate_in_this_process")
def test_a_file_with_different_answers_leaves_no_export(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_unless_installed("litert")
    monkeypatch.setattr("cvpipe.export.formats.write.TOLERANCE", Tolerance(close=-1.0))
    with pytest.raises(UserError, match=r"model.tflite: refused, because \w+ \(LiteRT\) differs"):
        export(Run(trained_run), tmp_path / "model", formats=["litert"])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_named_with_its_extra(
    trained_run: Path, cvpipe: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "openvino" else found(name)
    )
    code, _, err = cvpipe("export", trained_run, "--to", tmp_path / "m", "--format", "openvino")
    assert code == 2
    assert "needs openvino; install it with: pip install 'cvpipe[openvino]'" in err
    assert not (tmp_path / "m").exists()


def test_a_network_for_images_of_any_size_has_no_file(trained_run: Path) -> None:
    skip_unless_installed("litert")
    run = Run(trained_run)
    tiles = ("augment=[{op: scale_crop}]", "prepare={size: [64, 64], resize: tile, overlap: 16}")
    config = config_file.load(
        ROOT / "pipelines" / "segmentation" / "digit_scenes_fcn.yaml", [SCENES, *tiles]
    )
    with pytest.raises(ConfigError, match="needs a network with a fixed image size"):
        check_formats(["litert"], load_task(run.config, run.facts), config)


@pytest.mark.parametrize(
    "key", ["export.target=gpu", "export.precision=bfloat16", "export.batching={}"]
)
def test_a_variant_only_for_tensorflow_has_no_file(
    trained_run: Path, key: str, tmp_path: Path
) -> None:
    skip_unless_installed("litert")
    with pytest.raises(ConfigError, match="--format litert: can't be combined with export"):
        export(Run(trained_run), tmp_path / "model", [key], ["litert"])
    assert not (tmp_path / "model").exists()


def test_keras_files_have_no_formats(trained_run: Path, cvpipe: Any, tmp_path: Path) -> None:
    code, _, err = cvpipe(
        "export", trained_run, "--keras", tmp_path / "a.keras", "--format", "litert"
    )
    assert code == 2 and "--format litert: is only for SavedModels; leave --keras out" in err


def bessel(image: tf.Tensor) -> dict[str, tf.Tensor]:
    # Only TensorFlow has this operation.
    return {"answer": tf.math.bessel_i0e(image)}


@pytest.mark.parametrize("name", NAMES)
def test_an_operation_that_a_runtime_lacks_is_named(name: str, tmp_path: Path) -> None:
    skip_unless_installed(name)
    function = tf.function(bessel, autograph=False)
    plain = Plain(function, tf.TensorSpec([1, 4], tf.float32, "image"), tf.Module())
    with pytest.raises(Unconvertible, match="BesselI0e"):
        RUNTIME[name].convert(plain, tmp_path / RUNTIME[name].file)


@pytest.mark.soak
def test_the_command_prints_each_file(
    trained_run: Path, cvpipe: Any, tmp_path: Path, gate_in_this_process: None
) -> None:
    skip_unless_installed("litert")
    code, out, _ = cvpipe(
        "export", trained_run, "--to", tmp_path / "m", "--format", "litert", "--json"
    )
    assert code == 0
    [(name, entry)] = json.loads(out)["formats"].items()
    assert name == "litert" and entry["batch"] == 1
    assert (tmp_path / "m" / "1" / FOLDER / "model.tflite").is_file()
    code, out, _ = cvpipe("verify", tmp_path / "m")
    assert code == 0 and "as they were exported" in out
    shutil.rmtree(tmp_path / "m" / "1" / FOLDER)
    code, _, err = cvpipe("verify", tmp_path / "m")
    assert code == 1 and "model.tflite is missing" in err
