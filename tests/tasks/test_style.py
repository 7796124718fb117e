"""Guards style: colors, blends, images of any size, what a pipeline allows, and the artifact."""

from __future__ import annotations

import argparse
import inspect
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from conftest import Once
from cvpipe import config_file
from cvpipe.answers.style import picture_of, to_answer
from cvpipe.commands import predict
from cvpipe.config import Config
from cvpipe.config.style import RESERVED
from cvpipe.data.facts import Facts
from cvpipe.errors import ConfigError
from cvpipe.export.artifact import Artifact, open_artifact
from cvpipe.export.export import export
from cvpipe.tasks import load_task
from cvpipe.tasks.style import LUMA, with_colors_of
from cvpipe.training.run import Run
from cvpipe.training.train import train

STYLES = Path(__file__).parents[2] / "pipelines" / "style"
PIPELINE = f"""
task: style
name: small
data:
  source: {{kind: folder, path: PHOTOS}}
  validation: 0.25
augment:
  - {{op: random_resized_crop}}
prepare: {{size: [32, 32], longest: 40}}
model: {{width: 0.125, residual_blocks: 1}}
loss:
  kind: perceptual
  features: random
  features_width: 0.125
  styles:
    - {{name: glass, file: {STYLES / "glass.jpg"}, size: 48}}
    - {{name: swirls, file: {STYLES / "swirls.jpg"}, size: 48}}
optimizer: {{kind: adam, learning_rate: 0.01}}
train: {{epochs: 4, batch_size: 2, pictures: false, evaluate_every: 2}}
"""


def config_of(folder: Path, *overrides: str) -> Config:
    """Return the pipeline on photos that are drawn in a folder."""
    photos, random = folder / "photos", np.random.default_rng(0)
    for n in range(12):
        (photos / f"{n % 2}").mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (4, 5, 3)).astype(np.uint8))
        coarse.resize((36 + n, 44 - n), Image.Resampling.BICUBIC).save(photos / f"{n % 2}/{n}.png")
    file = folder / "small.yaml"
    file.write_text(PIPELINE.replace("PHOTOS", str(photos)))
    return config_file.load(file, overrides)


@pytest.fixture(scope="module")
def run(once: Once) -> Path:
    """A finished run of two styles."""
    return once("runs/style", lambda folder: train(config_of(folder.parent / "style_data"), folder))


def png(height: int, width: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_training_lowers_the_loss_of_every_style(run: Path) -> None:
    rows = [row for row in Run(run).metrics() if row["split"] == "train"]
    assert {"content", "style", "variation"} <= rows[0].keys()
    assert rows[-1]["loss"] < rows[0]["loss"]
    [last] = [row for row in Run(run).metrics() if row["split"] == "validation"][-1:]
    parts = [last[f"{name}_loss"] for name in ("content", "style", "variation")]
    assert last["perceptual_loss"] == pytest.approx(sum(parts), rel=1e-6)


@pytest.mark.soak
def test_an_artifact_answers_pictures_of_the_photos_sizes_in_blends_of_styles(
    run: Path, tmp_path: Path, gate_in_either_process: None
) -> None:
    artifact = open_artifact(Path(export(Run(run), tmp_path / "style")["artifact"]))
    files = tf.constant([png(25, 33), b"garbage", png(90, 61)])

    def answered(**options: float) -> dict[str, np.ndarray]:
        given = {name: tf.constant(value) for name, value in options.items()}
        return {name: value.numpy() for name, value in artifact(files, **given).items()}

    plain = answered()
    assert plain["valid"].tolist() == [True, False, True]
    assert plain["picture"].shape == (3, 90, 61, 3)
    assert (plain["picture"][0, 25:] == -1).all() and (plain["picture"][0, :, 33:] == -1).all()
    for n, size in ((0, (25, 33)), (2, (90, 61))):
        answer = to_answer(plain, n)
        assert answer["image_size"] == list(size)
        decoded = np.array(Image.open(io.BytesIO(plain["picture_bytes"][n])))
        np.testing.assert_array_equal(picture_of(answer), decoded)
    swirls, blend = answered(glass=0.0, swirls=3.0), answered(glass=1.0, swirls=1.0)
    same = answered(glass=2.0, swirls=0.0)
    np.testing.assert_allclose(same["picture"], plain["picture"], atol=1e-5)
    for own, other in ((plain, swirls), (plain, blend), (blend, swirls)):
        assert abs(own["picture"] - other["picture"]).max() > 1e-3
    # Answered alone as among others.
    alone = artifact(files[:1])["picture"].numpy()
    np.testing.assert_allclose(alone[0], plain["picture"][0, :25, :33], atol=1e-5)


def test_colors_are_the_photos_and_light_is_the_pictures() -> None:
    random = np.random.default_rng(0)
    photo, picture = (tf.constant(random.uniform(0.4, 0.6, (4, 5, 3)), tf.float32) for _ in "ab")
    kept = with_colors_of(photo, picture, tf.constant(1.0)).numpy()
    np.testing.assert_allclose(kept @ LUMA, picture.numpy() @ LUMA, atol=1e-5)
    colors = [x - (x @ np.float32(LUMA))[..., np.newaxis] for x in (kept, photo.numpy())]
    np.testing.assert_allclose(*colors, atol=1e-5)
    np.testing.assert_array_equal(with_colors_of(photo, picture, tf.constant(0.0)), picture)


def test_photos_are_stylized_at_the_longest_side_that_is_allowed(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    task = load_task(config, Facts())
    seen: list[Any] = []

    def network(inputs: Any, training: bool) -> dict[str, tf.Tensor]:
        seen.append(inputs[0].shape)
        return {"picture": tf.sigmoid(inputs[0])}

    for height, width in ((100, 50), (5, 30), (1, 1)):
        image = tf.zeros([1, height, width, 3], tf.uint8)
        answer = task.predict({"network": network}, image)
        assert answer["picture"].shape == (1, height, width, 3)
    assert [tuple(shape[1:3]) for shape in seen] == [(40, 24), (24, 32), (24, 24)]


@pytest.mark.parametrize(
    "given, expected",
    [
        ({}, [1, 0]),
        ({"glass": 0.0}, [1, 0]),
        ({"glass": 0.0, "swirls": 0.0}, [1, 0]),
        ({"glass": 0.0, "swirls": 0.5}, [0, 1]),
        ({"glass": 1.0, "swirls": 3.0}, [0.25, 0.75]),
    ],
)
def test_weights_of_styles_sum_to_1_and_without_any_the_first_style_is_drawn(
    given: dict[str, float], expected: list[float], tmp_path: Path
) -> None:
    task = load_task(config_of(tmp_path), Facts())
    seen: list[Any] = []

    def network(inputs: Any, training: bool) -> dict[str, tf.Tensor]:
        seen.append(inputs[1].numpy())
        return {"picture": inputs[0]}

    options = {name: tf.constant(value) for name, value in given.items()}
    task.predict({"network": network}, tf.zeros([1, 24, 24, 3], tf.uint8), **options)
    np.testing.assert_allclose(seen, [[expected]])
    assert all(task.options[name].least == 0 for name in ("glass", "swirls"))


@pytest.mark.parametrize(
    "override, said",
    [
        ("augment=[{op: flip}]", "add op: random_resized_crop"),
        ("model.dropout=0.1", "dropout does nothing in a stylizer"),
        ("loss.content_layer=stage2_conf2", "stage2_conv2"),
        ("loss.styles=[]", "loss.styles"),
        ("loss.styles=[{name: a, file: x}, {name: a, file: y}]", "two styles are called a"),
        ("prepare.resize=stretch", "keep"),
    ],
)
def test_pipelines_that_dont_fit_style_are_errors(tmp_path: Path, override: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        config_of(tmp_path, override)
    assert said in str(error.value)


def test_corruptions_of_pictures_without_a_score_are_a_sentence(
    cvpipe: Callable[..., tuple[int, str, str]], run: Path, tmp_path: Path
) -> None:
    code, out, err = cvpipe("corrupt", run, "--to", tmp_path / "corruptions")
    assert (code, out) == (2, "")
    assert "task: style: can't be corrupted, because the task has no scores of single images" in err
    assert not (tmp_path / "corruptions").exists()


def test_a_style_cant_have_the_name_of_an_input_or_option(tmp_path: Path) -> None:
    commands = argparse.ArgumentParser().add_subparsers()
    predict.add(commands)
    arguments = commands.choices["predict"]._actions
    options = {
        option.lstrip("-").replace("-", "_")
        for argument in arguments
        for option in (argument.dest, *argument.option_strings)
    }
    assert options - {"h"} <= RESERVED
    for call in (Artifact.__call__, load_task(config_of(tmp_path), Facts()).predict):
        arguments_of_call = inspect.signature(call).parameters.values()
        assert {one.name for one in arguments_of_call if one.kind != one.VAR_KEYWORD} <= RESERVED
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(PIPELINE)
    for name in ("class", "image_bytes", "keep_color", "draw", "self"):
        styles = f"loss.styles=[{{name: {name}, file: {STYLES / 'glass.jpg'}}}]"
        with pytest.raises(ConfigError, match=f"a style can't be called {name}"):
            config_file.load(pipeline, [styles])
