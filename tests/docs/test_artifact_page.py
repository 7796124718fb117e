"""Guards docs/artifact.md: its code prepares images as the exported model does."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from conftest import ROOT, small_config
from cvpipe.config import Config
from cvpipe.data.prepare import prepare, restore_boxes
from cvpipe.export.describe import describe_preparation
from cvpipe.export.formats.onnx import RUNTIME
from cvpipe.export.formats.plain import plain

PAGE = (ROOT / "docs/artifact.md").read_text(encoding="utf-8")
PREPARE, ANSWER, RESTORE = re.findall(r"```python\n(.*?)```", PAGE, re.S)
RGB = "prepare={size: [20, 30], channels: 3, resize: %s, mean: [0.5, 0.4, 0.3], std: [0.2]}"
PIPELINES = [
    *(RGB % resize for resize in ("stretch", "crop", "letterbox")),
    "prepare={size: [24, 16], channels: 1, resize: letterbox, normalize: channels}",
]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def run(block: str, folder: Path, **names: Any) -> dict[str, Any]:
    """Execute code of the page for the artifact and the photo.png in `folder`."""
    code = block.replace("ARTIFACT", str(folder)).replace("photo.jpg", str(folder / "photo.png"))
    exec(code, names)
    return names


def run_prepare(config: Config, pixels: np.ndarray, folder: Path) -> dict[str, Any]:
    """Execute the preparation of an image by the description of a pipeline."""
    image = {"prepare": json.loads(json.dumps(describe_preparation(config)))}
    (folder / "assets.extra").mkdir(exist_ok=True)
    about = json.dumps({"signatures": {"tensor": {"inputs": {"image": image}}}})
    (folder / "assets.extra/cvpipe.json").write_text(about, encoding="utf-8")
    Image.fromarray(pixels.squeeze()).save(folder / "photo.png")
    return run(PREPARE, folder)


@pytest.mark.parametrize("override", PIPELINES)
@pytest.mark.parametrize("size", [(57, 41), (30, 90), (11, 7), None])
def test_the_code_prepares_as_the_pipeline(
    override: str, size: tuple[int, int] | None, tmp_path: Path
) -> None:
    config = small_config(override)
    pixels = noise(*(size or config.prepare.size))[..., : config.prepare.channels]
    found = run_prepare(config, pixels, tmp_path)
    # An unknown shape, as after decoding.
    spec = tf.TensorSpec([None, None, config.prepare.channels], tf.uint8)
    graph = tf.function(lambda image: prepare(image, config.prepare), input_signature=[spec])
    # Pillow rounds after each of two passes: to half a level each, in units of 1 / (255 std).
    step = 1 / 255 / min(config.prepare.scaling[1])
    np.testing.assert_allclose(
        found["image"][0], graph(pixels), rtol=0, atol=1.5 * step if size else 1e-5
    )
    assert found["image"].dtype == np.float32
    least, most = found["rule"]["range"]
    assert least - 1e-6 <= found["image"].min() and found["image"].max() <= most + 1e-6

    boxes = np.random.default_rng(1).random((5, 4)).astype(np.float32)
    scale = np.tile(config.prepare.size, 2)
    given = {key: value for key, value in found.items() if key != "__builtins__"}
    restored = run(RESTORE, tmp_path, **given, answers={"boxes": [boxes * scale]})["boxes"]
    extent = pixels.shape[:2]
    expected = restore_boxes(boxes, tf.constant(extent), config.prepare) * np.tile(extent, 2)
    np.testing.assert_allclose(restored, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("scale", [1, 2])
def test_tensor_answers_prepared_images_as_serving_default_answers_photos(
    scale: int, artifact: Path, tmp_path: Path
) -> None:
    found, expected, loaded = answered(scale, artifact, tmp_path)
    actual = loaded.signatures["tensor"](image=tf.constant(found["image"]))
    compare(actual["probabilities"], expected, scale)


def test_onnx_answers_prepared_images_as_serving_default_answers_photos(
    artifact: Path, tmp_path: Path
) -> None:
    for module in RUNTIME.modules:
        pytest.importorskip(module)
    found, expected, _ = answered(1, artifact, tmp_path)
    file = tmp_path / "artifact/assets.extra/formats/model.onnx"
    file.parent.mkdir()
    RUNTIME.convert(plain(artifact, None), file)
    answers = run(ANSWER, tmp_path / "artifact", image=found["image"])["answers"]
    compare(answers["probabilities"], expected, 1)


def answered(scale: int, artifact: Path, folder: Path) -> tuple[dict[str, Any], np.ndarray, Any]:
    """Return the names of the preparation, the probabilities by `serving_default`, and the
    artifact, for an image of `scale` times the prepared size.
    """
    copy = shutil.copytree(artifact, folder / "artifact")
    loaded = tf.saved_model.load(str(copy))
    _, height, width, _ = loaded.signatures["tensor"].structured_input_signature[1]["image"].shape
    Image.fromarray(noise(scale * height, scale * width)[..., 0]).save(copy / "photo.png")
    encoded = tf.constant([(copy / "photo.png").read_bytes()])
    answers = loaded.signatures["serving_default"](image_bytes=encoded)
    return run(PREPARE, copy), answers["probabilities"].numpy(), loaded


def compare(actual: Any, expected: np.ndarray, scale: int) -> None:
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 if scale == 1 else 1e-2)
