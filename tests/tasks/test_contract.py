"""Guards the contract of tasks: each does what the fields of `Task` promise the core."""

from __future__ import annotations

import importlib.util
import itertools
import pkgutil
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import cvpipe.tasks
from conftest import ROOT, small_config
from cvpipe import config_file
from cvpipe.config import Config
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.stream import training_batches
from cvpipe.errors import ConfigError
from cvpipe.evaluation import (
    Answered,
    Predict,
    Subject,
    answer_images,
    ask,
    batches_of,
    evaluate,
    make_predict,
)
from cvpipe.export.compare import STRICT, difference
from cvpipe.export.ranks import aligned
from cvpipe.mistakes.report import Mistakes
from cvpipe.tasks import load_task
from cvpipe.tasks.task import Networks, Task
from cvpipe.training.step import step_seed

SCENES = (
    "data.source.size=[48, 64]",
    "data.source.digit_sizes=[16, 32]",
    "data.source.train=6",
    "data.source.validation=2",
    "data.source.test=3",
    "prepare.size=[32, 32]",
    "model.width=0.125",
    "train.batch_size=3",
)
# Heights and widths of three original images; answers give places in their pixels.
EXTENTS = [[48, 64], [30, 50], [48, 20]]


def scenes(pipeline: str, *overrides: str) -> Config:
    return config_file.load(ROOT / "pipelines" / pipeline, [*SCENES, *overrides])


def figures(*overrides: str) -> Config:
    kept = [own for own in SCENES if "digit" not in own]
    return config_file.load(ROOT / "pipelines/pose/stick_figures.yaml", [*kept, *overrides])


def styles() -> Config:
    pipeline = ROOT / "pipelines" / "style"
    names = enumerate(("swirls", "glass", "circles"))
    small = (
        "data.source={kind: digits}",
        "loss.features=random",
        "loss.features_width=0.125",
        *(f"loss.styles.{n}.file={pipeline / name}.jpg" for n, name in names),
    )
    return config_file.load(pipeline / "three_styles.yaml", [*SCENES[5:], *small])


def scratches(*overrides: str) -> Config:
    kept = [own for own in SCENES if "digit" not in own and "width" not in own]
    pipeline = ROOT / "pipelines/anomaly/scratched_digits.yaml"
    return config_file.load(pipeline, [*kept, "prepare={size: [32, 32]}", *overrides])


# Each task in every form of its answers, with all optional answers switched on.
CASES = {
    "anomaly": lambda: scratches(
        "model={backbone: resnet18, width: 0.125, head: {kind: patchcore, bank: 20}}"
    ),
    "anomaly by Gaussians": lambda: scratches(
        "model={backbone: resnet18, width: 0.125, head: {kind: padim, channels: 8}}"
    ),
    "classification": lambda: small_config("train.batch_size=3", "data.limit=40"),
    "detection": lambda: scenes("detection/digit_scenes_ssd.yaml"),
    "localization": lambda: scenes("localization/digit_scenes.yaml"),
    "pose": lambda: figures(),
    "pose by regression": lambda: figures("model.head={kind: regression}", "loss.kind=smooth_l1"),
    "segmentation": lambda: scenes(
        "segmentation/digit_scenes_fcn.yaml", "export.png=[mask, overlay]"
    ),
    "segmentation in tiles": lambda: scenes(
        "segmentation/digit_scenes_fcn.yaml",
        "prepare={size: [32, 32], resize: tile, overlap: 8}",
        "export.png=[mask, overlay]",
    ),
    "style": styles,
}
# Slow cases, of whose task another case is faster.
LONG = ("anomaly by Gaussians",)
PARAMS = [pytest.param(name, marks=pytest.mark.soak) if name in LONG else name for name in CASES]


class Case(NamedTuple):
    """A task with a pipeline, data, and fresh networks."""

    config: Config
    task: Task
    source: Source
    networks: Networks
    predict: Predict

    def training_batches(self) -> tf.data.Dataset:
        return training_batches(
            self.source, self.config, self.task.encode, None, first_step=0, last_step=1
        )

    def evaluation_batches(self, count: int) -> list[dict[str, Any]]:
        quarantine = Quarantine(self.source, "train", 0.0)
        batches = batches_of(self.source, self.task, self.config, quarantine)
        return [
            tf.nest.map_structure(lambda tensor: tensor.numpy(), batch)
            for batch in itertools.islice(batches, count)
        ]

    def three_images(self) -> np.ndarray:
        """Three prepared images; of one size, even where the pipeline lets images keep theirs."""
        batches = [batch["image"] for batch in self.evaluation_batches(3)]
        return np.concatenate(batches)[:3]


@pytest.fixture(scope="module", params=PARAMS)
def case(request: pytest.FixtureRequest) -> Case:
    config = CASES[request.param]()
    source = open_splits(config.data)["train"]
    task = load_task(config, source.facts)
    keras.utils.set_random_seed(0)
    networks = task.build(False)
    return Case(config, task, source, networks, make_predict([networks], task, config))


def test_every_task_is_held_to_the_contract() -> None:
    tasks = {module.name for module in pkgutil.iter_modules(cvpipe.tasks.__path__)} - {"task"}
    assert tasks == {name.split()[0] for name in CASES}


def test_updates_move_networks_that_are_built_by_optimizers_that_the_pipeline_has(
    case: Case,
) -> None:
    for update in case.task.updates:
        assert set(update.moves) <= case.networks.keys() - set(case.task.frozen)
        assert update.optimizer in case.config.optimizers


def test_a_training_batch_has_fixed_shapes(case: Case) -> None:
    for spec in tf.nest.flatten(case.training_batches().element_spec):
        assert spec.shape.is_fully_defined(), spec


def test_losses_are_parts_of_one_number_an_example(case: Case) -> None:
    [batch] = case.training_batches()
    for update in case.task.updates:
        parts = update.losses(case.networks, batch, step_seed(case.config, tf.constant(0)))
        assert parts and "loss" not in parts
        for name, part in parts.items():
            assert (part.dtype, part.shape) == (tf.float32, batch["weight"].shape), name
            assert np.isfinite(part).all(), name


def test_answers_and_decorations_are_the_fields_that_the_task_names(case: Case) -> None:
    answers = case.predict(case.three_images(), tf.constant(EXTENTS))
    assert {len(value) for value in answers.values()} == {3}
    added = {}
    if case.task.decorate:
        first = {name: value[0] for name, value in answers.items()}
        added = case.task.decorate(tf.zeros([*EXTENTS[0], 3], tf.uint8), first)
        assert {(value.dtype, value.shape.rank) for value in added.values()} == {(tf.string, 0)}
    assert sorted([*answers, *added]) == sorted(case.task.answers)


def test_targets_that_differ_in_size_say_how_they_are_padded(case: Case) -> None:
    specs = tf.data.Dataset.range(1).map(case.source.read).element_spec
    # Images in files have sizes that the graph doesn't know.
    of_any_size = {
        name: tf.TensorSpec([None, None, *spec.shape[2:]], spec.dtype)
        if name in ("image", "mask")
        else spec
        for name, spec in specs.items()
    }
    targets = tf.function(case.task.true_targets, autograph=False)
    shapes = targets.get_concrete_function(of_any_size).output_shapes
    assert {name for name, shape in shapes.items() if not shape.is_fully_defined()} == set(
        case.task.targets
    )
    assert all(field.padding is not None for field in case.task.targets.values())


def test_an_image_is_answered_alone_as_among_others(case: Case) -> None:
    images, extents = case.three_images(), np.array(EXTENTS, np.int32)
    together = ask(case.predict, tf.constant(images), tf.constant(extents))
    for n in range(3):
        one = slice(n, n + 1)
        alone = ask(case.predict, tf.constant(images[one]), tf.constant(extents[one]))
        expected = {name: value[one] for name, value in together.items()}
        alone = aligned(expected, alone, case.task.answers, STRICT.close)
        for name, value in expected.items():
            difference(value, alone[name], case.task.answers[name])


def test_options_are_taken_by_name_and_their_defaults_change_nothing(case: Case) -> None:
    if not case.task.options:
        pytest.skip("this task has no options")
    again = make_predict([case.networks], case.task, case.config)
    images, extents = tf.constant(case.three_images()), tf.constant(EXTENTS)
    options = case.task.options
    defaults = {name: tf.constant(option.default) for name, option in options.items()}
    expected, given = case.predict(images, extents), again(images, extents, **defaults)
    for name, value in expected.items():
        np.testing.assert_array_equal(given[name], value)


def test_every_answer_and_option_says_what_it_means_and_boxes_the_order_of_their_numbers(
    case: Case,
) -> None:
    meanings = {name: field.meaning for name, field in case.task.answers.items()}
    assert all(meanings.values())
    assert all(option.meaning for option in case.task.options.values())
    for name, meaning in meanings.items():
        assert ("ymin, xmin, ymax, xmax" in meaning) == (name in ("box", "boxes"))


def test_what_marks_the_best_checkpoint_is_among_the_scores(case: Case) -> None:
    metrics = case.task.metrics()
    for batch in case.evaluation_batches(2):
        answers = ask(case.predict, batch["image"], batch["extent"])
        metrics.update(answers, batch["targets"], batch["weight"])
    best_by = case.task.best_by
    score = metrics.result()[best_by.score]
    # Errors have no upper bound, and training images may have nothing to find.
    assert np.isnan(score) or 0 <= score <= (1 if best_by.direction == "max" else np.inf)


def test_a_task_lists_its_mistakes_or_says_that_it_cant(case: Case, tmp_path: Path) -> None:
    def answer(part: Source, quarantine: Quarantine) -> Answered:
        return answer_images(case.predict, batches_of(part, case.task, case.config, quarantine))

    part = case.source.subset(np.arange(3))
    subject = Subject(part, case.task, case.config, part.facts, answer)
    if importlib.util.find_spec(f"cvpipe.mistakes.{case.config.task}") is None:
        with pytest.raises(ConfigError, match="its mistakes can't be listed"):
            Mistakes(subject)
        return
    mistakes = Mistakes(subject)
    quarantine = Quarantine(part, "train", 0.0)
    scores = evaluate(
        case.predict, part, case.task, case.config, quarantine=quarantine, watch=mistakes.watch
    )
    assert mistakes.write(tmp_path, "title", scores, drawn=2)["images"] == 3
    page = (tmp_path / "mistakes.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 2
