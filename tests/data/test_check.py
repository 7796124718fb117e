"""Guards `cvpipe data check`: contents, broken files and duplicates."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import tensorflow as tf
from matplotlib.figure import Figure

from conftest import ROOT, small_config, soaked
from cvpipe.config import Config
from cvpipe.config.digits import Digits
from cvpipe.config.label_sources import Folder
from cvpipe.config.yolo import Yolo
from cvpipe.data import check_report
from cvpipe.data.annotations.annotation import Annotation
from cvpipe.data.annotations.columns import Columns
from cvpipe.data.check import check
from cvpipe.data.check_report import contact_sheet, summary, write_report
from cvpipe.data.decode import decode_image
from cvpipe.data.example import Reader
from cvpipe.data.facts import Facts
from cvpipe.data.graph import in_memory
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.sources.constructors import classification_source
from cvpipe.data.sources.digits import digits
from cvpipe.data.sources.folder import folder
from cvpipe.data.sources.source import make_source
from cvpipe.data.sources.yolo import yolo
from cvpipe.data.statistics import evenly_spaced
from cvpipe.pictures import load_pictures
from cvpipe.pictures.drawing.render import to_pixels
from cvpipe.tasks import load_task
from image_files import BAD, encode, noise, write_classes
from labels import labels_of


def png(seed: int, height: int = 6, width: int = 5) -> bytes:
    return encode(noise(height, width, seed=seed), "PNG")


def opened(root: Path) -> dict[str, Source]:
    return folder(Folder(kind="folder", path=str(root)))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Write images without a fault or duplicate: three classes in two splits."""
    for split, count in (("train", 4), ("test", 2)):
        for number, name in enumerate("abc"):
            contents = [png(100 * number + 10 * len(split) + n, 6 + n, 5) for n in range(count)]
            write_classes(tmp_path / "photos" / split, {name: contents})
    return tmp_path / "photos"


def test_a_data_set_without_faults_is_clean_and_its_images_are_counted(photos: Path) -> None:
    result = check(opened(photos), 3)
    assert result["clean"]
    assert not result["broken"] + result["leaks"] + result["contradictions"] + result["repeated"]
    train = result["splits"]["train"]
    assert (train["examples"], train["broken"]) == (12, 0)
    assert train["classes"] == {"a": 4, "b": 4, "c": 4}
    assert train["sizes"] == {"smallest": [6, 5], "median": [7, 5], "largest": [9, 5]}
    assert train["kinds"] == {"PNG RGB": 12}
    assert result["splits"]["test"]["examples"] == 6


def test_sizes_are_those_of_upright_images(tmp_path: Path) -> None:
    # Orientation 6: the camera was turned by 90°.
    turned = encode(
        noise(10, 30),
        "JPEG",
        exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0",
    )
    assert tuple(decode_image(tf.constant(turned), 3).shape) == (30, 10, 3)
    write_classes(tmp_path, {"a": [turned], "b": [png(1)]})
    assert check(opened(tmp_path), 3)["splits"]["all"]["sizes"]["largest"] == [30, 10]


def test_every_broken_file_is_named_once_with_its_reason(tmp_path: Path) -> None:
    files = write_classes(tmp_path, {"a": list(BAD.values()), "b": [png(1)]})
    result = check(opened(tmp_path), 3)
    assert [row["record"] for row in result["broken"]] == [str(file) for file in files[:-1]]
    reasons = dict(zip(BAD, (row["reason"] for row in result["broken"])))
    assert reasons["empty"] == "the file is empty"
    assert reasons["truncated PNG"] == "the PNG is damaged, cut off or of an unusual kind"
    assert result["splits"]["all"]["broken"] == len(BAD) and not result["clean"]
    assert result["splits"]["all"]["kinds"] == {"PNG RGB": 1}


def test_a_split_of_broken_files_has_no_sizes(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": [b"", b""], "b": [b"x"]})
    result = check(opened(tmp_path), 3)
    assert result["splits"]["all"]["sizes"] == {} and len(result["broken"]) == 3
    # Unreadable files aren't compared, since all empty files are equal.
    assert result["repeated"] == []


def test_duplicates_are_those_that_a_comparison_of_all_pairs_finds(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    contents = [png(seed) for seed in range(12)]
    placed: dict[tuple[str, str, str], bytes] = {}
    for split, name in product(("train", "test"), "ab"):
        chosen = [contents[n] for n in random.integers(0, len(contents), 6)]
        for file, content in zip(write_classes(tmp_path / split, {name: chosen}), chosen):
            placed[split, name, str(file)] = content
    result = check(opened(tmp_path), 3)
    expected: dict[str, set[frozenset[str]]] = {
        "leaks": set(),
        "contradictions": set(),
        "repeated": set(),
    }
    for content in contents:
        same = [key for key, other in placed.items() if other == content]
        splits, classes, files = (
            (set(parts) for parts in zip(*same)) if same else (set(), set(), set())
        )
        if len(files) > 1:
            kinds = [
                kind
                for kind, parts in (("leaks", splits), ("contradictions", classes))
                if len(parts) > 1
            ]
            for kind in kinds or ["repeated"]:
                expected[kind].add(frozenset(files))
    for kind, groups in expected.items():
        assert groups, f"the example has no {kind}"
        assert {frozenset(record["record"] for record in group) for group in result[kind]} == groups
        assert len(result[kind]) == len(groups)
    for group in result["leaks"]:
        for record in group:
            assert (record["split"], record["class"], record["record"]) in placed


def arrays(images: np.ndarray, labels: list[int]) -> Source:
    """Return a source of arrays of two classes, from images uint8 [N, H, W, C]."""
    held = in_memory(images)

    def read(record: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"image": tf.ensure_shape(tf.gather(held, record), images.shape[1:])}

    return classification_source(("x", "y"), np.array(labels), read, lambda record: str(record))


@pytest.mark.parametrize(
    "train, test, faults",
    [
        (([0, 1, 2], "xyx"), ([3], "y"), set()),
        (([0, 1, 0], "xyx"), ([3], "y"), {"repeated"}),
        (([0, 1, 0], "xyy"), ([3], "y"), {"contradictions"}),
        (([0, 1, 2], "xyx"), ([0], "x"), {"leaks"}),
        (([0, 1, 2], "xyx"), ([0], "y"), {"leaks", "contradictions"}),
    ],
)
def test_leaks_and_contradictions_are_faults_and_repetitions_are_not(
    train: tuple[list[int], str], test: tuple[list[int], str], faults: set[str]
) -> None:
    different = noise(4 * 3, 3, 1).reshape(4, 3, 3, 1)
    sources = [
        arrays(different[each], ["xy".index(name) for name in names])
        for each, names in (train, test)
    ]
    result = check(dict(zip(("train", "test"), sources)), 1)
    assert {kind for kind in ("leaks", "contradictions", "repeated") if result[kind]} == faults
    assert result["clean"] is (faults <= {"repeated"})


def test_arrays_are_compared_by_shape_and_pixels() -> None:
    images = np.repeat(np.array([0, 1, 0], np.uint8), 16)
    result = check(
        {
            "train": arrays(images.reshape(3, 4, 4, 1), [0, 1, 0]),
            "test": arrays(images.reshape(3, 2, 8, 1), [0, 1, 0]),
        },
        1,
    )
    assert [
        [(record["split"], record["record"]) for record in group] for group in result["repeated"]
    ] == [[("train", "0"), ("train", "2")], [("test", "0"), ("test", "2")]]
    assert result["clean"] and result["splits"]["train"]["kinds"] == {"array gray": 3}


def test_imbalance_is_the_size_of_the_largest_class_over_the_smallest_nonempty_class(
    tmp_path: Path,
) -> None:
    write_classes(
        tmp_path / "train",
        {"a": [png(n) for n in range(12)], "b": [png(20)], "c": [png(30), png(31)]},
    )
    write_classes(tmp_path / "test", {"a": [png(40), png(41)], "b": [png(50)]})
    result = check(opened(tmp_path), 3)
    assert {name: split["imbalance"] for name, split in result["splits"].items()} == {
        "train": 12,
        "test": 2,
    }
    lines = summary(result)
    assert (
        "  the largest class has 12 times the images of the smallest: look at the scores per class"
        in lines
    )
    assert "  class 'c' has no image here" in lines


def test_a_few_findings_are_printed_and_all_are_written(tmp_path: Path) -> None:
    write_classes(tmp_path / "photos", {"a": [b""] * 20, "b": [png(1), png(1)]})
    result = check(opened(tmp_path / "photos"), 3)
    lines = summary(result)
    assert "broken: 20" in lines and "  and 15 more" in lines and lines[-1] == "not clean"
    assert sum("the file is empty" in line for line in lines) == 5
    write_report(result, None, tmp_path)
    assert [
        json.loads(line) for line in (tmp_path / "broken.jsonl").read_text().splitlines()
    ] == result["broken"]
    [duplicate] = (tmp_path / "duplicates.jsonl").read_text().splitlines()
    assert json.loads(duplicate) == {"kind": "repeated", "records": result["repeated"][0]}
    assert (
        "20 broken" in (tmp_path / "report.md").read_text()
        and "contact" not in (tmp_path / "report.md").read_text()
    )


def test_objects_that_a_source_leaves_out_are_counted_once_and_are_not_clean(
    tmp_path: Path,
) -> None:
    files = {
        "a.png": png(1),
        "b.png": png(2),
        "a.txt": b"0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0 0.2\n0 1.5 0.5 0.2 0.2\n",
        "b.txt": b"0 0.5 0.5 2 0.2\n",
        "c.txt": b"0 0.5 0.5 0.2 0.2\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    section = Yolo.model_validate({"kind": "yolo", "path": str(tmp_path), "classes": ["cat"]})
    # Splits held out from one another share the annotations.
    whole = yolo(section)["all"]
    halves = {"train": [0], "test": [1]}
    result = check(
        {name: dataclasses.replace(whole, records=np.array(r)) for name, r in halves.items()}, 3
    )
    # The box of b.txt is clipped, and training sees it.
    assert result["left_out"] == {
        "a.txt": {"without area, left out": 1, "outside the image, left out": 1},
        "c.txt": {"of a missing image, left out": 1},
    }
    lines = summary(result)
    at = next(n for n, line in enumerate(lines) if line.startswith("left out: 3 objects (training"))
    assert lines[at + 2] == "  c.txt: 1 of a missing image, left out"
    assert lines[-1] == "not clean" and not result["broken"]
    write_report(result, None, tmp_path)
    assert [json.loads(line) for line in (tmp_path / "left_out.jsonl").read_text().splitlines()][
        -1
    ] == {"file": "c.txt", "fault": "of a missing image, left out", "objects": 1}


def test_clipped_objects_are_clean(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(png(2))
    (tmp_path / "b.txt").write_text("0 0.5 0.5 2 0.2\n")
    section = {"kind": "yolo", "path": str(tmp_path), "classes": ["cat"]}
    assert check(yolo(Yolo.model_validate(section)), 3)["clean"]


def test_a_name_that_is_not_utf_8_can_be_printed_and_written(tmp_path: Path) -> None:
    write_classes(tmp_path / "photos", {"a": [png(1)], "b": [png(2)]})
    (tmp_path / "photos" / "a" / "b\udcff.jpg").write_bytes(b"")
    result = check(opened(tmp_path / "photos"), 3)
    write_report(result, None, tmp_path)
    assert any("b\\udcff.jpg" in line for line in summary(result))
    assert json.loads((tmp_path / "broken.jsonl").read_text())["record"].endswith("b\udcff.jpg")


def test_the_last_call_of_the_callback_has_the_number_of_all_examples() -> None:
    calls: list[tuple[int, int]] = []
    check(
        {"all": digits(Digits(kind="digits"))["all"].subset(np.arange(100))},
        1,
        lambda done, examples: calls.append((done, examples)),
    )
    assert calls[-1] == (100, 100) and calls == sorted(calls)


def sheet_config(*overrides: str) -> Config:
    return small_config("augment=[{op: pad_crop, padding: 3}]", *overrides)


def sheet_of(source: Source, config: Config) -> Figure | None:
    pictures = load_pictures(config, source.facts)
    assert pictures
    encode = load_task(config, source.facts).encode
    return contact_sheet(source, config, encode, pictures.draw_targets)


def test_the_contact_sheet_shows_what_training_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    from cvpipe.data.stream import training_batches

    shown: list[np.ndarray] = []
    monkeypatch.setattr(
        check_report, "image_table", lambda images, rows, columns: shown.extend(images)
    )
    config = sheet_config("train.batch_size=64")
    source = open_splits(config.data)["train"].subset(np.arange(64))
    sheet_of(source, config)
    assert len(shown) == 8 and {images.shape for images in shown} == {(5, 16, 16, 1)}
    task = load_task(config, source.facts)
    # Each batch holds the whole source, so it is one epoch.
    for epoch, batch in enumerate(
        training_batches(source, config, task.encode, None, first_step=0, last_step=2)
    ):
        pixels = check_report.restore_pixels(batch["image"], config.prepare).numpy()
        for row, label in zip(shown, evenly_spaced(10, 8)):
            first = int(np.flatnonzero(labels_of(source) == label)[0])
            place = int(np.flatnonzero(batch["index"].numpy() == first)[0])
            np.testing.assert_array_equal(row[1 + epoch], pixels[place])
    assert any((row[1] != row[2]).any() for row in shown)


def test_the_contact_sheet_is_the_same_each_time_and_leaves_broken_images_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One epoch, since building a graph for each is slow.
    monkeypatch.setattr(check_report, "SHEET_EPOCHS", 1)
    write_classes(tmp_path, {"a": [b"", png(1)], "b": [b""], "c": [png(3)]})
    config = sheet_config("prepare.channels=3", f"data.source={{kind: folder, path: {tmp_path}}}")
    sheets = [sheet_of(opened(tmp_path)["all"], config) for _ in range(2)]
    first, second = (to_pixels(sheet) for sheet in sheets if sheet)
    np.testing.assert_array_equal(first, second)
    assert [axes.get_ylabel() for axes in sheets[0].axes if axes.get_ylabel()] == ["a", "c"]  # type: ignore[union-attr]
    write_classes(tmp_path, {"a": [b"", b""], "b": [b""], "c": [b""]})
    assert sheet_of(opened(tmp_path)["all"], config) is None


class Plain(Annotation):
    """An annotation without classes and without places."""

    keys = ("plain",)

    def digests(self, records: np.ndarray) -> list[str]:
        return ["plain"] * len(records)

    def describe(self, record: int, read_record: Reader, facts: Facts) -> str:
        return f"image {record}"

    @classmethod
    def join(cls, parts: Sequence[Self], sizes: Sequence[int]) -> Plain:
        return cls()

    @classmethod
    def from_columns(cls, columns: Columns, facts: Facts) -> Plain:
        return cls()


def test_data_without_classes_is_reported_and_drawn_without_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(check_report, "SHEET_EPOCHS", 1)
    images = in_memory(np.stack([noise(8, 8, seed=seed) for seed in range(20)]))
    source = make_source(
        Facts(), [Plain()], 20, lambda record: {"image": tf.gather(images, record)}, str
    )
    assert not [line for line in summary(check({"train": source}, 3)) if "class" in line]
    sheet = contact_sheet(source, sheet_config(), lambda example: {}, lambda *_: Figure())
    assert sheet
    labels = [axes.get_ylabel() for axes in sheet.axes if axes.get_ylabel()]
    assert labels == [f"image {number}" for number in evenly_spaced(20, 8)]


Cvpipe = Callable[..., tuple[int, str, str]]


@pytest.mark.soak
def test_the_command_writes_its_folder_and_exits_with_0_when_clean(
    cvpipe: Cvpipe, tmp_path: Path
) -> None:
    pipeline = ROOT / "pipelines" / "classification" / "digits.yaml"
    code, out, _ = cvpipe("data", "check", pipeline, "--to", tmp_path / "check", "--json")
    result = json.loads(out)
    assert (
        code == 0
        and result["clean"]
        and sum(split["examples"] for split in result["splits"].values()) == 1797
    )
    assert sorted(file.name for file in (tmp_path / "check").iterdir()) == [
        "broken.jsonl",
        "contact_sheet.png",
        "duplicates.jsonl",
        "left_out.jsonl",
        "near_duplicates.jsonl",
        "odd.jsonl",
        "report.md",
        "sheet.html",
    ]


@pytest.mark.parametrize("checks", [1, *soaked(2)])
def test_the_command_exits_with_1_when_something_is_wrong_and_changes_no_file(
    cvpipe: Cvpipe, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checks: int
) -> None:
    (photos / "test" / "a" / "000.jpg").write_bytes(
        (photos / "train" / "a" / "000.jpg").read_bytes()
    )
    before = {file: file.read_bytes() for file in photos.rglob("*.jpg")}
    monkeypatch.chdir(tmp_path)
    pipeline = ROOT / "pipelines" / "classification" / "digits.yaml"
    overrides = ["--set", f"data.source={{kind: folder, path: {photos}}}"]
    monkeypatch.setattr(check_report, "SHEET_EPOCHS", 1)
    # The second check writes into the folder of the first.
    for _ in range(checks):
        code, out, _ = cvpipe("data", "check", pipeline, *overrides)
        assert (
            code == 1
            and "leaks: 1 (the same image in several splits" in out
            and out.splitlines()[-3] == "not clean"
        )
    assert (tmp_path / "digits-check" / "contact_sheet.png").exists()
    assert {file: file.read_bytes() for file in photos.rglob("*.jpg")} == before


def test_the_command_refuses_a_folder_with_other_content(cvpipe: Cvpipe, tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("mine")
    code, out, err = cvpipe(
        "data", "check", ROOT / "pipelines" / "classification" / "digits.yaml", "--to", tmp_path
    )
    assert (
        (code, out) == (2, "")
        and "cvpipe data check" in err
        and "choose another folder with --to" in err
    )
    assert (tmp_path / "report.md").read_text() == "mine"
