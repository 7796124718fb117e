"""Guards distillation: a frozen teacher adds its distance to any task's loss, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import ROOT, small_config, soaked
from cvpipe import config_file
from cvpipe.config.train import Teacher
from cvpipe.data.facts import Facts
from cvpipe.errors import ConfigError, DataError
from cvpipe.export.export import export
from cvpipe.json_files import write_json
from cvpipe.tasks import load_task
from cvpipe.training.build import build_state
from cvpipe.training.checkpoints import read_checkpoint
from cvpipe.training.distillation import distilled, with_teacher
from cvpipe.training.run import Run
from cvpipe.training.step import make_run_steps
from cvpipe.training.train import train

FACTS = Facts(tuple("0123456789"))
PLAIN = ("model.backbone=linear", "model.norm=none", "model.dropout=0", "train.ema=null")
SCENES = ("prepare.size=[64, 64]", "model.backbone=resnet18", "model.width=0.125")
PIPELINES = {
    "classification": (ROOT / "pipelines/classification/digits.yaml", PLAIN),
    "detection": (
        ROOT / "pipelines/detection/digit_scenes_ssd.yaml",
        (*SCENES, "model.head={kind: ssd, strides: [8, 16]}"),
    ),
    "segmentation": (ROOT / "pipelines/segmentation/digit_scenes_fcn.yaml", SCENES),
}


@pytest.mark.parametrize("name", ["classification", *soaked("detection", "segmentation")])
def test_a_teacher_of_the_same_weights_leaves_the_tasks_own_loss(name: str) -> None:
    config = config_file.load(*PIPELINES[name])
    task = load_task(config, FACTS)
    assert task.imitate
    networks = task.build(False)
    teachers = task.build(False)
    teachers["network"].set_weights(networks["network"].get_weights())
    section = Teacher(run="runs/teacher", weight=0.25)
    taught = distilled(task, task.imitate, teachers, section)
    size = (*config.prepare.size, config.prepare.channels)
    batch = {"image": tf.random.stateless_normal([2, *size], [0, 0]), "targets": targets(name)}
    seed = tf.constant([0, 0], tf.int64)
    own = task.updates[0].losses(networks, batch, seed)
    both = taught.updates[0].losses(
        {**networks, "teacher_network": teachers["network"]}, batch, seed
    )
    assert both.keys() == {*own, "teacher"}
    for part, value in own.items():
        np.testing.assert_allclose(both[part], 0.75 * value, rtol=1e-5)
    assert both["teacher"].shape == (2,) and np.isfinite(both["teacher"]).all()


def targets(name: str) -> dict[str, tf.Tensor]:
    """Targets of two images."""
    return {
        "classification": {"label": tf.constant([1, 2])},
        "detection": {
            "boxes": tf.constant([[[0.1, 0.1, 0.4, 0.4]], [[0.3, 0.3, 0.8, 0.8]]]),
            "labels": tf.constant([[1], [2]]),
            "crowd": tf.zeros([2, 1], tf.bool),
            "extent": tf.constant([[64, 64], [64, 64]]),
        },
        "segmentation": {"mask": tf.ones([2, 64, 64], tf.uint8)},
    }[name]


def test_the_teacher_stays_as_it_is_and_is_no_part_of_the_state() -> None:
    # With the student's seed, both would have the same weights.
    keras.utils.set_random_seed(1)
    config = small_config(*PLAIN, "optimizer={kind: sgd, learning_rate: 0.5}")
    task = load_task(config, FACTS)
    assert task.imitate
    teachers = {"network": task.build(False)["network"]}
    before = teachers["network"].get_weights()
    taught = distilled(task, task.imitate, teachers, Teacher(run="runs/teacher", weight=1))
    state, _ = build_state(config, taught, examples=1000)
    assert not any("teacher" in name for name in state.arrays())
    run_steps = make_run_steps(state, taught, config, tf.distribute.get_strategy())
    size = (*config.prepare.size, config.prepare.channels)
    batch = {
        "image": tf.random.stateless_normal([8, *size], [0, 0]),
        "targets": {"label": tf.zeros([8], tf.int32)},
        "weight": tf.ones([8]),
        "index": tf.range(8, dtype=tf.int64),
    }
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    losses = [float(run_steps(batches, tf.constant(1))["losses"]["teacher"]) for _ in range(30)]
    assert losses[-1] < losses[0]
    for value, kept in zip(teachers["network"].get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, kept)
    # All labels are 0, but the student must follow the teacher alone.
    given, wanted = (
        tf.argmax(network(batch["image"], training=False)["logits"], -1)
        for network in (state.networks["network"], teachers["network"])
    )
    assert np.mean(given == wanted) > 0.8


@pytest.mark.soak
def test_a_taught_run_is_trained_resumed_and_exported_without_its_teacher(
    trained_run: Path, tmp_path: Path, gate_in_this_process: None
) -> None:
    teacher = f"train.teacher={{run: {trained_run}}}"
    config = small_config("train.epochs=1", teacher)
    train(config, tmp_path / "run")
    run = Run(tmp_path / "run")
    assert not any("teacher" in name for name in read_checkpoint(run.checkpoint("last")))
    rows = [row for row in run.metrics() if row["split"] == "train"]
    assert {"cross_entropy", "teacher", "loss"} <= rows[-1].keys()
    train(config, tmp_path / "run")
    assert export(run, tmp_path / "saved")["version"] == 1


@pytest.mark.parametrize(
    "overrides, facts, error, message",
    [
        (["train.teacher.run=runs/none"], FACTS, DataError, "not a run"),
        (["prepare.size=[8, 8]"], FACTS, DataError, "another image preparation"),
        ([], Facts(("cat", "dog")), DataError, "classes that differ"),
        (
            ["loss={kind: binary}"],
            FACTS,
            DataError,
            "its loss.kind is softmax, but the pipeline's is binary, so that the outputs",
        ),
    ],
)
def test_an_incompatible_teacher_is_a_clear_error(
    overrides: list[str], facts: Facts, error: type[Exception], message: str, trained_run: Path
) -> None:
    config = small_config(f"train.teacher={{run: {trained_run}}}", *overrides)
    with pytest.raises(error, match=message):
        with_teacher(load_task(config, facts), config, facts)


def test_a_teacher_of_another_task_is_a_clear_error(trained_run: Path) -> None:
    file, overrides = PIPELINES["segmentation"]
    config = config_file.load(file, [*overrides, f"train.teacher={{run: {trained_run}}}"])
    with pytest.raises(DataError, match="its task is classification, but the pipeline's is segm"):
        with_teacher(load_task(config, FACTS), config, FACTS)


def test_a_teacher_with_other_boxes_is_refused_before_it_is_loaded(
    trained_run: Path, tmp_path: Path
) -> None:
    file, overrides = PIPELINES["detection"]
    run = shutil.copytree(trained_run, tmp_path / "run")
    taught = config_file.load(file, [*overrides, "model.head.smallest=0.3"])
    write_json(run / "config.json", taught.to_json())
    config = config_file.load(file, [*overrides, f"train.teacher={{run: {run}}}"])
    with pytest.raises(DataError, match="its model.head.smallest is 0.3, but the pipeline's is"):
        with_teacher(load_task(config, FACTS), config, FACTS)


def test_lbfgs_has_no_teacher(trained_run: Path, tmp_path: Path) -> None:
    config = small_config(
        *PLAIN,
        "augment=[]",
        "optimizer={kind: lbfgs}",
        "schedule={kind: constant}",
        f"train.teacher={{run: {trained_run}}}",
    )
    with pytest.raises(
        ConfigError, match="train.teacher can't be combined with optimizer.kind: lbfgs"
    ):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
