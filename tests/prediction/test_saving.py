"""Guards answers saved for labeling tools: cvpipe reads the files as a data set again."""

from __future__ import annotations

import io
import json
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import soaked
from cvpipe.answers import answered_kinds, to_answer
from cvpipe.commands.predict import FORMATS
from cvpipe.data.annotated import Annotated
from cvpipe.data.facts import Facts
from cvpipe.data.formats import find_formats
from cvpipe.data.sources import open_source
from cvpipe.data.writers import TARGETS
from cvpipe.data.writers.reading import annotated_images
from cvpipe.errors import ConfigError, DataError
from cvpipe.export.about import ABOUT
from cvpipe.init import data_of
from cvpipe.prediction.images import ImageFile, find_images
from cvpipe.prediction.saving import check_formats, save_answers
from cvpipe.prediction.shards import locked, write_shards
from image_files import encode, noise

Cvpipe = Callable[..., tuple[int, str, str]]
SIZE = (30, 50)
NAMES = ("ant", "yak")
FACTS = {
    "classification": Facts(NAMES),
    "detection": Facts(NAMES),
    "localization": Facts(NAMES),
    "segmentation": Facts(NAMES),
    "pose": Facts(("person",), ("nose", "tail")),
}


def names(*shape: int) -> np.ndarray:
    return np.resize(np.array([name.encode() for name in NAMES], object), shape)


def predictions(task: str, images: int) -> dict[str, np.ndarray]:
    """Return answers of a task to some images, as its artifact gives them."""
    random = np.random.default_rng(0)
    order = np.stack([np.arange(2) if n % 2 else np.arange(2)[::-1] for n in range(images)])
    best = {
        "top_class_ids": order,
        "top_class_names": np.array([name.encode() for name in NAMES], object)[order],
        "top_probabilities": np.resize([0.75, 0.25], (images, 2)),
        "image_size": np.resize(SIZE, (images, 2)),
    }
    low = random.uniform(0, 0.5, (images, 3, 2)) * SIZE
    sides = np.concatenate([low, low + random.uniform(2, 9, low.shape)], -1).astype(np.float32)
    return {
        "classification": best,
        "localization": {**best, "box": sides[:, 0]},
        "detection": {
            **best,
            "boxes": sides,
            "count": np.array([n % 3 for n in range(images)]),
            "class_ids": np.resize([1, 0, 1], (images, 3)),
            "class_names": np.resize(names(2)[::-1], (images, 4))[:, :3],
            "scores": np.resize([0.9, 0.8, 0.5], (images, 3)),
        },
        "segmentation": {
            **best,
            "mask": random.integers(0, 2, (images, *SIZE), np.uint8),
            "class_names": names(images, 2),
            "shares": np.full((images, 2), 0.5),
        },
        "pose": {
            **best,
            "keypoint_names": np.resize(np.array([b"nose", b"tail"], object), (images, 2)),
            "keypoints": low[:, :2].astype(np.float32),
            "scores": np.full((images, 2), 0.5),
        },
    }[task]


def predict(tmp_path: Path, task: str) -> tuple[Path, Path, list[ImageFile], list[dict[str, Any]]]:
    """Answer eight photos of which one is damaged, into files."""
    photos, artifact = tmp_path / "photos", tmp_path / "artifact"
    photos.mkdir()
    for n in range(8):
        content = encode(noise(*SIZE, seed=n), "JPEG") if n != 4 else b"no"
        (photos / f"{n}.jpg").write_bytes(content)
    (artifact / ABOUT).parent.mkdir(parents=True)
    trained_on = {"facts": FACTS[task].to_json(), "images": {}}
    (artifact / ABOUT).write_text(json.dumps({"trained_on": trained_on, "signatures": {}}))
    images = find_images([str(photos)])
    answered = predictions(task, 8)
    rows = [
        {"image": own.name, **({"error": "broken"} if n == 4 else to_answer(task, answered, n))}
        for n, own in enumerate(images)
    ]
    folder = tmp_path / "answers"
    with locked(folder):
        write_shards(lambda parts: iter([iter(rows)]), images, folder, {}, lambda text: None)
    return folder, artifact, images, rows


def save(name: str, tmp_path: Path, task: str) -> tuple[Path, list[str], list[dict[str, Any]]]:
    folder, artifact, images, rows = predict(tmp_path, task)
    told = save_answers(name, folder, artifact, task, {}, images, lambda text: None)
    return folder / name, told, rows


def read_again(folder: Path, task: str) -> tuple[tuple[str, ...], list[Annotated]]:
    data = data_of(find_formats(str(folder), task)[0])
    splits = open_source(data.source, data)
    return next(iter(splits.values())).classes, list(annotated_images(splits, []))


@pytest.mark.parametrize("name", ["voc", "csv", *soaked("coco", "yolo", "labelme")])
def test_saved_objects_are_read_as_a_data_set(name: str, tmp_path: Path) -> None:
    folder, told, rows = save(name, tmp_path, "detection")
    classes, images = read_again(folder, "detection")
    answered = [row for row in rows if "error" not in row]
    if name == "csv":
        assert "images without objects, which have no row and are left out: 3" in told
        answered = [row for row in answered if row["count"]]
    assert [Path(own.name).name for own in images] == [Path(r["image"]).name for r in answered]
    for own, row in zip(images, answered, strict=True):
        assert own.content == Path(row["image"]).read_bytes()
        objects = own.annotations.objects
        assert objects
        assert [classes[label] for label in objects.labels] == [
            each["class_name"] for each in row["objects"]
        ]
        expected = [list(each["box"].values()) for each in row["objects"]]
        found = objects.boxes * [*SIZE, *SIZE]
        tolerance = 0.5001 if name == "voc" else 1e-4
        np.testing.assert_allclose(found, np.reshape(expected, (-1, 4)), atol=tolerance)
    scored = name in ("coco", "csv", "labelme")
    assert scored != any("whose scores are left out" in text for text in told)


def test_one_object_an_image_and_keypoints_are_saved_as_coco(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    folder, _, rows = save("coco", tmp_path / "a", "localization")
    classes, images = read_again(folder, "detection")
    for own, row in zip(images, [row for row in rows if "error" not in row], strict=True):
        objects = own.annotations.objects
        assert objects and [classes[n] for n in objects.labels] == [row["class_name"]]
    (tmp_path / "b").mkdir()
    folder, _, rows = save("coco", tmp_path / "b", "pose")
    _, images = read_again(folder, "pose")
    for own, row in zip(images, [row for row in rows if "error" not in row], strict=True):
        objects = own.annotations.objects
        assert objects and objects.keypoints is not None and objects.visibility is not None
        expected = [[point["y"], point["x"]] for point in row["keypoints"]]
        np.testing.assert_allclose(objects.keypoints[0] * SIZE, expected, atol=1e-4)
        assert (objects.visibility == 2).all()


def test_saved_masks_and_labels_are_read_as_data_sets(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    folder, _, rows = save("masks", tmp_path / "a", "segmentation")
    classes, images = read_again(folder, "segmentation")
    expected = predictions("segmentation", 8)["mask"][[0, 1, 2, 3, 5, 6, 7]]
    assert classes == NAMES
    for own, mask in zip(images, expected, strict=True):
        np.testing.assert_array_equal(own.annotations.mask, mask)
    for name in ("yolo", "csv"):
        (tmp_path / name).mkdir()
        folder, _, rows = save(name, tmp_path / name, "classification")
        classes, images = read_again(folder, "classification")
        found = {Path(i.name).name: classes[i.annotations.label or 0] for i in images}
        answered = [row for row in rows if "error" not in row]
        assert found == {Path(row["image"]).name: row["class_name"] for row in answered}


def test_crops_show_the_objects_in_folders_of_their_classes(tmp_path: Path) -> None:
    folder, told, rows = save("crops", tmp_path, "detection")
    classes, images = read_again(folder, "classification")
    objects = {
        f"{Path(row['image']).stem}-{n}.png": each
        for row in rows
        for n, each in enumerate(row.get("objects", ()), 1)
    }
    assert {Path(own.name).name for own in images} == objects.keys()
    for own in images:
        each = objects[Path(own.name).name]
        assert classes[own.annotations.label or 0] == each["class_name"]
        box, photo = each["box"], Path(own.name).name.split("-")[0]
        with Image.open(tmp_path / "photos" / f"{photo}.jpg") as whole:
            top, left = int(box["ymin"]), int(box["xmin"])
            bottom, right = int(np.ceil(box["ymax"])), int(np.ceil(box["xmax"]))
            expected = np.asarray(whole.convert("RGB")).astype(int)[top:bottom, left:right]
        crop = np.asarray(Image.open(io.BytesIO(own.content))).astype(int)
        # Decoders of JPEG differ in the last bits.
        assert crop.shape == expected.shape and np.abs(crop - expected).max() <= 8
    assert "images without objects, which have no crops: 3" in told


def test_finished_files_are_kept_and_an_interrupted_format_is_written_again(tmp_path: Path) -> None:
    folder, artifact, images, _ = predict(tmp_path, "detection")
    notes: list[str] = []

    def again() -> Sequence[str]:
        return save_answers("yolo", folder, artifact, "detection", {}, images, notes.append)

    # A killed process leaves such a folder.
    left = folder / f".yolo-partial-{socket.gethostname()}-{os.getpid()}"
    left.mkdir()
    (left / "rest.txt").touch()
    assert again() and not notes
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert not any("rest.txt" in str(path) for path in before)
    assert again() == [] and notes == [f"{folder / 'yolo'} exists already"]
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    Path(images[2].name).unlink()
    with pytest.raises(DataError, match=r"2\.jpg: was answered, but can't be read any more"):
        save_answers("coco", folder, artifact, "detection", {}, images, notes.append)
    assert not (folder / "coco").exists()


def test_every_answer_fits_some_format_and_others_are_refused_before_any_work() -> None:
    assert (*TARGETS, "pictures") == FORMATS
    for task in FACTS:
        assert answered_kinds(task)
    with pytest.raises(
        ConfigError, match="--save coco: there are no labels, boxes, keypoints, masks"
    ):
        check_formats(["pictures", "coco"], "anomaly")
    check_formats(["yolo", "csv", "pictures"], "classification")
    with pytest.raises(
        ConfigError, match="--save voc: can't hold labels; choose yolo or csv or parquet"
    ):
        check_formats(["voc"], "classification")
    with pytest.raises(ConfigError, match="--save csv: can't hold masks; choose coco or masks"):
        check_formats(["masks", "csv"], "segmentation")


def test_init_accepts_answers_that_the_command_saved(
    cvpipe: Cvpipe, artifact: Path, tmp_path: Path
) -> None:
    photos, to = tmp_path / "photos", tmp_path / "answers"
    photos.mkdir()
    for n in range(12):
        (photos / f"{n}.png").write_bytes(encode(noise(8, 8, 1, seed=n), "PNG"))
    save = ("--save", "csv", "--save", "pictures")
    assert cvpipe("predict", artifact, photos, *save)[0] == 2
    code, out, err = cvpipe("predict", artifact, photos, "--to", to, "--json", *save)
    assert code == 0, err
    assert set(json.loads(out)["saved"]) == {"csv", "pictures"}
    assert len(list((to / "pictures").iterdir())) == 12
    code, out, err = cvpipe("init", to / "csv", "--to", tmp_path / "again.yaml", "--json")
    assert code == 0, err
    assert json.loads(out)["source"]["kind"] == "csv"
