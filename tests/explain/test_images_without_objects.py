"""Guards that images without an object are left out of attacks and certificates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from conftest import Once
from cvpipe import config_file
from cvpipe.data.known_splits import open_split
from cvpipe.data.quarantine import Quarantine
from cvpipe.evaluation import batches_of
from cvpipe.explain.inspection import UNLABELED, Subject, look
from cvpipe.explain.score import feature_layer
from cvpipe.training.run import Run
from cvpipe.training.train import train
from cvpipe.training.trained import load

Cvpipe = Callable[..., tuple[int, str, str]]
IMAGES, EMPTY = 12, 3
"""Images of each split, and those without an object among them."""


def pipeline(folder: Path) -> Path:
    """Write red and green rectangles in the layout of COCO; return the pipeline's file."""
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        images, objects = list[dict[str, Any]](), list[dict[str, Any]]()
        for n in range(IMAGES):
            pixels = random.integers(0, 60, (32, 32, 3), np.uint8)
            name = f"{split}{n}.png"
            images.append({"id": n, "file_name": name, "width": 32, "height": 32})
            if n % 4:
                pixels[8:24, 4:20] = [220, 30, 30] if n % 2 else [30, 220, 30]
                box = {"bbox": [4, 8, 16, 16], "area": 256, "iscrowd": 0}
                objects.append({"id": n, "image_id": n, "category_id": n % 2, **box})
            Image.fromarray(pixels).save(folder / "images" / name)
        classes = [{"id": 0, "name": "green"}, {"id": 1, "name": "red"}]
        table = {"images": images, "annotations": objects, "categories": classes}
        (folder / f"{split}.json").write_text(json.dumps(table))
    splits = {
        split: {"images": "images", "annotations": f"{split}.json"} for split in ("train", "test")
    }
    sections = {
        "task": "localization",
        "data": {"source": {"kind": "coco", "path": str(folder), **splits}, "validation": 0.25},
        "prepare": {"size": [32, 32]},
        "model": {"backbone": "resnet8", "width": 0.25},
        "loss": {"kind": "softmax", "box": "smooth_l1"},
        "optimizer": {"kind": "adam"},
        "schedule": {"kind": "constant"},
        "train": {"epochs": 1, "batch_size": 3, "pictures": False},
    }
    file = folder / "pipeline.yaml"
    file.write_text(yaml.safe_dump(sections))
    return file


@pytest.fixture
def run(once: Once) -> Path:
    """Train a tiny localizer; return its run."""
    data = once("data/images_without_objects", lambda folder: pipeline(folder))
    config = config_file.load(data / "pipeline.yaml")
    return once("runs/images_without_objects", lambda folder: train(config, folder))


def test_images_without_an_object_dont_count_under_attack(
    cvpipe: Cvpipe, run: Path, tmp_path: Path
) -> None:
    words = ("--epsilon", "0,0.1", "--method", "fgsm", "--to", tmp_path / "a", "--json")
    code, out, err = cvpipe("attack", run, *words)
    assert code == 0, err
    result, scores = json.loads(out), json.loads((run / "scores-test.json").read_text())
    assert result["images"] == IMAGES - EMPTY
    assert result["points"][0]["accuracy"] == pytest.approx(scores["measured"]["accuracy"])


def test_images_without_an_object_arent_certified(
    cvpipe: Cvpipe, run: Path, tmp_path: Path
) -> None:
    words = ("--samples", "100", "--to", tmp_path / "c", "--json")
    code, out, err = cvpipe("certify", run, *words)
    assert code == 0, err
    assert json.loads(out)["images"] == IMAGES - EMPTY


def test_images_without_an_object_have_no_class_in_an_inspection(run: Path) -> None:
    trained = load(Run(run))
    network = trained.members[0]["network"]
    source = open_split(trained.config, "test", Run(run).known)
    subject = Subject(network, trained.task, trained.config, trained.facts, source)
    quarantine = Quarantine(source, "test", 0.0)
    batches = batches_of(source, trained.task, trained.config, quarantine)
    seen = look(subject, batches, [feature_layer(network)])
    assert seen.labels.count(UNLABELED) == EMPTY
