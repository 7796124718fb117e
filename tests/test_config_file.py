"""Guards errors about pipelines: each is a sentence with place, key and advice."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import Field, TypeAdapter

from conftest import ROOT
from cvpipe import config_file
from cvpipe.config import Classification, Config, Pipeline
from cvpipe.config.augment.augmentation import Augmentation
from cvpipe.config.augment.geometry import Flip
from cvpipe.config.detection import DetectionData
from cvpipe.config.optimizer import Optimizer
from cvpipe.config.section import Count
from cvpipe.config.train import EarlyStopping
from cvpipe.errors import ConfigError

BASE = """\
task: classification
data:
  source: {kind: digits}
augment:
  - op: pad_crop
    padding: 1
prepare:
  size: [32, 32]
  channels: 1
model:
  backbone: resnet20
optimizer:
  kind: sgd
schedule:
  kind: cosine
  warmup_epochs: 1
train:
  epochs: 20
  batch_size: 64
"""
CLASSES = typing.get_args(typing.get_args(Pipeline)[0])
TRAIN_KEYS = (
    "epochs, batch_size, accumulate, clip_norm, clip_value, evaluate_every, "
    "checkpoint_minutes, checkpoints_kept, non_finite, snapshots, early_stopping, ema, teacher, "
    "adversarial, precision, xla, onednn, deterministic, strategy, steps_per_call, pictures, "
    "histograms"
)
NAMES = [repr(typing.get_args(task.model_fields["task"].annotation)[0]) for task in CLASSES]
TASKS = f"{', '.join(NAMES[:-1])} or {NAMES[-1]}"
PIPELINES = sorted((ROOT / "pipelines").rglob("*.yaml"))


def write(folder: Path, text: str = BASE) -> Path:
    (folder / "p.yaml").write_text(text, encoding="utf-8")
    return folder / "p.yaml"


def replaced(old: str, new: str) -> str:
    assert BASE.count(old) == 1
    return BASE.replace(old, new)


def complaint(path: Path, *overrides: str) -> str:
    """Return the error message for a pipeline, without the folder."""
    with pytest.raises(ConfigError) as error:
        config_file.load(path, overrides)
    return str(error.value).replace(f"{path.parent}/", "")


# -- mistakes in a file

FILES = {
    "unknown key": (
        "epochs: 20",
        "epochs: 20\n  evaluate_evry: 2",
        "p.yaml:19: unknown key 'train.evaluate_evry'; did you mean 'evaluate_every'?",
    ),
    "unknown key in capitals": (
        "epochs: 20",
        "epochs: 20\n  EMA: .9",
        "p.yaml:19: unknown key 'train.EMA'; did you mean 'ema'?",
    ),
    "unknown key like no other": (
        "epochs: 20",
        "epochs: 20\n  zzz: 2",
        f"p.yaml:19: unknown key 'train.zzz'; known here: {TRAIN_KEYS}",
    ),
    "unknown key at the top": (
        "task: classification",
        "task: classification\ntrian: {}",
        "p.yaml:2: unknown key 'trian'; did you mean 'train'?",
    ),
    "unknown key in a list": (
        "padding: 1",
        "paddin: 1",
        "p.yaml:6: unknown key 'augment.0.paddin'; did you mean 'padding'?",
    ),
    "key of another kind": (
        "{kind: digits}",
        "{kind: digits, path: x}",
        "p.yaml:3: 'data.source.path' is for kind: idx, folder",
    ),
    "unknown key of a section with one": (
        "{kind: digits}",
        "{kind: digits, zzz: x}",
        "p.yaml:3: unknown key 'data.source.zzz'; known here: kind",
    ),
    "key of another operation": (
        "padding: 1",
        "degrees: 1",
        "p.yaml:6: 'augment.0.degrees' is for op: rotate or shear, not for op: pad_crop; leave it",
    ),
    "no task": ("task: classification\n", "", f"p.yaml: 'task' is missing; add it ({TASKS})"),
    "no number": (
        "epochs: 20",
        "epochs: many",
        (
            "p.yaml:18: 'train.epochs' should be an integer, not \"many\" (Passes over the training"
            " split)"
        ),
    ),
    "no number for a key whose description has several lines": (
        "epochs: 20",
        "epochs: 20\n  accumulate: many",
        (
            "p.yaml:19: 'train.accumulate' should be an integer, not \"many\" (Gradient"
            " accumulation: number of parts in which each device processes its share of a batch,"
            " which saves memory)"
        ),
    ),
    "no choice among options that are explained": (
        "channels: 1",
        "channels: 1\n  resize: squeeze",
        (
            "p.yaml:10: 'prepare.resize' should be 'stretch', 'crop' or 'letterbox', not"
            ' "squeeze" (stretch: to `size`, ignoring the aspect ratio. crop: keep'
            " the aspect ratio"
        ),
    ),
    "true is not an integer": (
        "epochs: 20",
        "epochs: true",
        "p.yaml:18: 'train.epochs' should be an integer, not true",
    ),
    "a fraction is not an integer": (
        "epochs: 20",
        "epochs: 2.5",
        "p.yaml:18: 'train.epochs' should be an integer, not 2.5",
    ),
    "null is not an integer": (
        "epochs: 20",
        "epochs:",
        "p.yaml:18: 'train.epochs' should be an integer, not null",
    ),
    "a number with a leading zero is not an integer": (
        "epochs: 20",
        "epochs: 020",
        "p.yaml:18: 'train.epochs' should be an integer, not \"020\"",
    ),
    "no text": (
        "backbone: resnet20",
        "backbone: 3",
        "p.yaml:11: 'model.backbone' should be a string, not 3; write it as \"3\"",
    ),
    "no list": ("[32, 32]", "32", "p.yaml:8: 'prepare.size' should be a list, not 32"),
    "no mapping": (
        "{kind: digits}",
        "digits",
        "p.yaml:3: 'data.source' should be a mapping, not \"digits\"",
    ),
    "no mapping of a kind": (
        "optimizer:\n  kind: sgd",
        "optimizer: sgd",
        (
            "p.yaml:12: 'optimizer' should be a mapping, not \"sgd\" (its kind is one of sgd, adam,"
            " adamw, adagrad, rmsprop, lbfgs)"
        ),
    ),
    "item of a list": (
        "[32, 32]",
        "[32, a]",
        "p.yaml:8: 'prepare.size.1' should be an integer, not \"a\"",
    ),
    "item of a long list": (
        "- op: pad_crop\n    padding: 1",
        "- op: flip\n  - 3",
        "p.yaml:6: 'augment.1' should be a mapping, not 3",
    ),
    "too long a list": (
        "[32, 32]",
        "[32, 32, 3]",
        "p.yaml:8: 'prepare.size' should have at most 2 items, not [32, 32, 3]",
    ),
    "too small": (
        "epochs: 20",
        "epochs: 0",
        "p.yaml:18: 'train.epochs' should be greater than or equal to 1, not 0",
    ),
    "not a number": (
        "warmup_epochs: 1",
        "warmup_epochs: .nan",
        "p.yaml:16: 'schedule.warmup_epochs' should be a finite number, not NaN",
    ),
    "no choice": (
        "channels: 1",
        "channels: 2",
        "p.yaml:9: 'prepare.channels' should be 1 or 3, not 2",
    ),
    "missing key": ("  epochs: 20\n", "", "p.yaml:17: 'train.epochs' is missing; add it"),
    "missing key of a kind": (
        "{kind: digits}",
        "{kind: folder}",
        "p.yaml:3: 'data.source.path' is missing; add it",
    ),
    "missing section": (
        "optimizer:\n  kind: sgd\n",
        "",
        (
            "p.yaml: 'optimizer' is missing; add it (its kind is one of sgd, adam, adamw, adagrad,"
            " rmsprop, lbfgs)"
        ),
    ),
    "wrong kind": (
        "kind: sgd",
        "kind: sdg",
        (
            "p.yaml:12: 'optimizer': 'sdg' is not a known kind; did you mean 'sgd'? known: 'sgd',"
            " 'adam', 'adamw'"
        ),
    ),
    "kind in another case": (
        "kind: sgd",
        "kind: SGD",
        "p.yaml:12: 'optimizer': 'SGD' is not a known kind; did you mean 'sgd'? known: 'sgd',",
    ),
    "half a kind": (
        "{kind: digits}",
        "{kind: digts_set}",
        "p.yaml:3: 'data.source': 'digts_set' is not a known kind; did you mean 'digits'? known:",
    ),
    "op in another case": (
        "op: pad_crop",
        "op: PadCrop",
        "p.yaml:5: 'augment.0': 'PadCrop' is not a known op; did you mean 'pad_crop'? known:",
    ),
    "a misspelled word": (
        "epochs: 20",
        "epochs: 20\n  precision: mixed_float",
        "p.yaml:19: 'train.precision' should be 'float32', 'mixed_bfloat16' or 'mixed_float16',"
        " not \"mixed_float\"; did you mean 'mixed_float16'? (Keras dtype policy",
    ),
    "a misspelled task": (
        "task: classification",
        "task: clasification",
        f"p.yaml:1: 'task' should be {TASKS}, not \"clasification\"; did you mean"
        " 'classification'?",
    ),
    "a task in other words": (
        "task: classification",
        "task: Object_Detection",
        f"p.yaml:1: 'task' should be {TASKS}, not \"Object_Detection\"; did you mean 'detection'?",
    ),
    "a task without a value": (
        "task: classification",
        "task:",
        f"p.yaml:1: 'task' should be {TASKS}, not null",
    ),
    "wrong op": (
        "op: pad_crop",
        "op: padcrop",
        (
            "p.yaml:5: 'augment.0': 'padcrop' is not a known op; did you mean 'pad_crop'? known:"
            " 'flip', 'pad_crop', 'random_resized_crop', "
        ),
    ),
    "no kind": (
        "  kind: cosine\n",
        "",
        "p.yaml:14: 'schedule': no 'kind' is given; known: 'constant', 'step', 'cosine'",
    ),
    "no op": (
        "op: pad_crop\n    padding",
        "padding",
        (
            "p.yaml:5: 'augment.0': no 'op' is given; known: 'flip', 'pad_crop',"
            " 'random_resized_crop', 'short_side_crop', "
        ),
    ),
    "unknown backbone": (
        "resnet20",
        "mobilenet",
        (
            "p.yaml:11: 'model.backbone': unknown backbone 'mobilenet'; did you mean"
            " 'mobilenet_v2'? known: linear, two_layer, "
        ),
    ),
    "rule of a section": (
        "op: pad_crop\n    padding: 1",
        "op: random_resized_crop\n    area: [1, .5]",
        "p.yaml:5: 'augment.0': area must be [smallest, largest] with largest at most 1",
    ),
    "rule between sections": (
        "warmup_epochs: 1",
        "warmup_epochs: 20",
        "p.yaml:16: schedule.warmup_epochs (20) must be below train.epochs (20)",
    ),
    "rule between an operation and a section": (
        "op: pad_crop\n    padding: 1",
        "op: flip\n  - op: short_side_crop\n    sides: [16, 32]",
        ("p.yaml:7: augment.1.sides must be at least 32, the longer side of prepare.size"),
    ),
    "key given twice": (
        "epochs: 20",
        "epochs: 20\n  epochs: 3",
        "p.yaml:19: the key 'epochs' is given twice; keep one of the two",
    ),
    "bracket left open": (
        "epochs: 20",
        "epochs: [20",
        "p.yaml:19: not valid YAML: expected ',' or ']', but got ':'",
    ),
    "tab": (
        "  epochs: 20",
        "\tepochs: 20",
        "p.yaml:18: not valid YAML: found character '\\t' that cannot start any token",
    ),
    "control character": (
        "epochs: 20",
        "epochs: \x01",
        "p.yaml:18: not valid YAML: the character '\\x01' is not allowed; remove it",
    ),
    "list as a key": (
        "task: classification",
        "task: classification\n? [a, b]\n: 3",
        "p.yaml:2: not valid YAML: found unhashable key",
    ),
    "tag": (
        "task: classification",
        "task: !!python/name:os.system x",
        "p.yaml:1: not valid YAML: could not determine a constructor",
    ),
    "two documents": (
        "batch_size: 64\n",
        "batch_size: 64\n---\na: 1\n",
        "p.yaml:20: not valid YAML: but found another document",
    ),
    "binary": (
        "task: classification",
        "task: !!binary aGVsbG8=",
        (f"p.yaml:1: 'task' should be {TASKS}, not \"b'hello'\""),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_mistake_in_a_file_is_a_sentence_with_its_line(tmp_path: Path, name: str) -> None:
    old, new, expected = FILES[name]
    message = complaint(write(tmp_path, replaced(old, new)))
    assert message.startswith(expected)
    assert "\n" not in message


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words", "3"])
def test_a_pipeline_is_a_mapping(tmp_path: Path, text: str) -> None:
    assert (
        complaint(write(tmp_path, text))
        == "p.yaml: a pipeline file is a mapping of keys to values, such as 'task: classification'"
    )


def test_all_mistakes_are_reported_at_once_unknown_keys_first(tmp_path: Path) -> None:
    text = replaced("epochs: 20", "epoch: 20").replace("channels: 1", "channels: 2")
    assert complaint(write(tmp_path, text)).splitlines() == [
        "p.yaml:18: unknown key 'train.epoch'; did you mean 'epochs'?",
        ("p.yaml:9: 'prepare.channels' should be 1 or 3, not 2 (1: gray, 3: RGB)"),
        "p.yaml:17: 'train.epochs' is missing; add it (Passes over the training split)",
    ]


@pytest.mark.parametrize(
    "path, hint",
    [
        (
            "pipelines/classification/digit.yaml",
            "did you mean pipelines/classification/digits.yaml?",
        ),
        ("digits.yaml", "did you mean pipelines/classification/digits.yaml?"),
        ("digits", "did you mean pipelines/classification/digits.yaml?"),
        ("qqqqqqqqq", "look under pipelines/"),
    ],
)
def test_a_missing_file_is_reported_with_the_most_similar_file(
    path: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError) as error:
        config_file.load(path)
    assert str(error.value) == f"{path}: no such pipeline file; {hint}"


def test_a_file_that_is_not_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b"\xff\xfe\x00")
    assert (
        complaint(tmp_path / "p.yaml") == "p.yaml: not a text file in UTF-8; give a pipeline file"
    )
    (tmp_path / "folder").mkdir()
    assert (
        complaint(tmp_path / "folder")
        == "folder: can't be read: Is a directory; give a pipeline file"
    )


# -- --set

OVERRIDES = {
    "train.epochs": "write it as key=value, such as --set train.epochs=3",
    "=3": "write it as key=value, such as --set train.epochs=3",
    "train.epochs=x": (
        "'train.epochs' should be an integer, not \"x\" (Passes over the training split)"
    ),
    "train.epochs=": (
        "'train.epochs' should be an integer, not null (Passes over the training split)"
    ),
    "train.epochs=[": "'[' is not a YAML value; quote it if it is text",
    "train.epohcs=3": "unknown key 'train.epohcs'; did you mean 'epochs'?",
    "trian.epochs=3": "unknown key 'trian'; did you mean 'train'?",
    "task.x=1": "'task' is a value and has no keys",
    "augment.1.padding=2": "'1' is not a position in this list of 1; positions begin at 0",
    "augment.x=2": "'x' is not a position in this list of 1; positions begin at 0",
    "augment.0.padding=a": (
        "'augment.0.padding' should be an integer, not \"a\" (Pixels of the source image added on"
        " each side)"
    ),
    "augment=[{op: flip}, {op: flp}]": (
        "'augment.1': 'flp' is not a known op; did you mean 'flip'? known: 'flip', 'pad_crop', "
    ),
    "prepare.size=[8]": "'prepare.size.1' is missing; add it (Height and width",
    "train.early_stopping=3": (
        "'train.early_stopping' should be a mapping, not 3 (Early stopping; omit to train all"
        " epochs)"
    ),
    "train.early_stopping.patience=0": (
        "'train.early_stopping.patience' should be greater than or equal to 1, not 0 (Evaluations"
    ),
    "train.early_stopping.patienc=3": (
        "unknown key 'train.early_stopping.patienc'; did you mean 'patience'?"
    ),
    "train.ema=2": (
        "'train.ema' should be less than 1, not 2 (Decay of an exponential moving average"
    ),
    "train={epochs: 3, batch_size: x}": (
        "'train.batch_size' should be an integer, not \"x\" (Examples per step"
    ),
    "schedule={kind: step, at: []}": (
        "'schedule.at' should have at least 1 item, not [] (Epochs, in ascending order)"
    ),
    "schedule.warmup_epochs=30": "schedule.warmup_epochs (30) must be below train.epochs (20)",
    "data.source={kind: idx}": (
        "'data.source.path' is missing; add it (A folder or zip archive with the four"
    ),
    "loss={kind: softmax, l3: 1}": "unknown key 'loss.l3'; did you mean 'l2'?",
    "loss.l2=1": "'loss': no 'kind' is given; known: 'softmax', 'hinge', 'squared_hinge',",
    "loss={kind: hinge, label_smoothing: 0.1}": (
        "'loss.label_smoothing' is for kind: softmax, not for kind: hinge; leave it out"
    ),
    "loss={kind: softmax, dice_weight: 1}": (
        "'loss.dice_weight' is for task: segmentation, not for task: classification; leave it out"
    ),
    "loss={kind: dice}": (
        "'loss': kind: dice is for task: segmentation, not for task: classification; known:"
        " 'softmax', 'hinge', 'squared_hinge', 'binary', 'focal'"
    ),
    "data.max_objects=3": (
        "'data.max_objects' is for task: detection, not for task: classification; leave it out"
    ),
    "data.source={kind: voc, path: x}": (
        "'data.source': kind: voc is for task: detection or localization, not for task:"
        " classification; known: 'digits', 'idx', 'folder', 'csv', "
    ),
    "data.source={kind: digit_scenes}": (
        "'data.source': kind: digit_scenes is for task: detection, localization or segmentation,"
        " not for task: classification; known: 'digits', "
    ),
    "augment=[{op: flip}, {op: mosaic}]": (
        "'augment.1': op: mosaic is for task: detection or localization, not for task:"
        " classification; known:"
        " 'flip', "
    ),
    "augment=[{op: scale_crop, balance: 0.5}]": (
        "'augment.0.balance' is for task: segmentation, not for task: classification; leave it out"
    ),
    "prepare.resize=tile": (
        "'prepare.resize' should be 'stretch', 'crop' or 'letterbox', not \"tile\", which is for"
        " task: segmentation (stretch: to `size`"
    ),
    "prepare.overlap=8": (
        "'prepare.overlap' is for task: segmentation, not for task: classification; leave it out"
    ),
    "model.head={kind: fcn}": ("'model.head' is for task: detection, "),
    "export.png=[mask]": (
        "'export.png' is for task: segmentation, not for task: classification; leave it out"
    ),
    "data.only=[a]": "data.only: one class can't be distinguished from others; name at least two",
    "name=a b": (
        "'name' should match pattern '^[A-Za-z0-9][A-Za-z0-9_.-]*$', not \"a b\" (Name of the run"
        " and the served model"
    ),
    "name=2024": (
        "'name' should be a string, not 2024; write it as \"2024\" (Name of the run and the served"
        " model"
    ),
    "train.epochs=99999999999999999999": (
        "'train.epochs' should be less than or equal to 1000000, not 99999999999999999999 (Passes"
    ),
    "train.batch_size=99999999999999999999": (
        "'train.batch_size' should be less than or equal to 2147483647, not 99999999999999999999"
    ),
    "prepare.size=[8, 1000000]": (
        "'prepare.size.1' should be less than or equal to 16384, not 1000000 (Height and width"
    ),
    "seed=99999999999999999999": (
        "'seed' should be less than or equal to 2147483647, not 99999999999999999999 (Random seed"
    ),
    "data.split_seed=99999999999999999999": (
        "'data.split_seed' should be less than or equal to 2147483647, not 99999999999999999999"
    ),
    "optimizer.learning_rate=1e300": (
        "'optimizer.learning_rate' should be less than or equal to 1e+30, not 1e+300"
    ),
    "model.initializer_value=-1e300": (
        "'model.initializer_value' should be greater than or equal to -1e+30, not -1e+300"
    ),
    "train.onednn=off": "'train.onednn' should be a boolean, not \"off\" (Use oneDNN",
    "seed=1:30": "'seed' should be an integer, not \"1:30\" (Random seed",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_mistake_in_an_override_is_a_sentence_with_the_override(
    tmp_path: Path, override: str
) -> None:
    assert complaint(write(tmp_path), override).startswith(
        f"--set {override}: {OVERRIDES[override]}"
    )


def test_an_error_about_the_file_does_not_name_an_unrelated_override(tmp_path: Path) -> None:
    text = replaced("epochs: 20", "epochs: x")
    assert complaint(write(tmp_path, text), "train.batch_size=8", "seed=1").startswith(
        "p.yaml:18: 'train.epochs'"
    )


def test_an_error_names_the_last_override_of_its_key(tmp_path: Path) -> None:
    message = complaint(write(tmp_path), "train.epochs=1", "train.epochs=x", "train.batch_size=8")
    assert message.startswith("--set train.epochs=x: ")
    assert complaint(write(tmp_path), "schedule.final=x", "schedule={kind: nope}").startswith(
        "--set schedule={kind: nope}: "
    )


def test_the_error_of_a_missing_key_names_the_override_that_created_its_section(
    tmp_path: Path,
) -> None:
    text = replaced("schedule:\n  kind: cosine\n  warmup_epochs: 1\n", "")
    assert (
        complaint(write(tmp_path, text), "schedule.final=0.1")
        == "--set schedule.final=0.1: 'schedule': no 'kind' is given; known: 'constant', 'step',"
        " 'cosine', 'polynomial', 'exponential', 'inverse', 'restarts', 'cyclic', 'plateau'"
    )


def test_later_overrides_replace_earlier_ones_and_values_of_the_file(tmp_path: Path) -> None:
    config = config_file.load(
        write(tmp_path), ["train.epochs=5", "train.batch_size=8", "train.epochs=7", "seed=3"]
    )
    assert (config.train.epochs, config.train.batch_size, config.seed) == (7, 8, 3)
    assert config.schedule.warmup_epochs == 1


def test_overrides_change_items_of_lists_or_whole_lists(tmp_path: Path) -> None:
    config = config_file.load(write(tmp_path), ["augment.0.padding=3", "prepare.size.1=16"])
    assert config.augment[0].model_dump() == {"op": "pad_crop", "padding": 3, "mode": "constant"}
    assert config.prepare.size == (32, 16)
    assert config_file.load(write(tmp_path), ["augment=[]"]).augment == ()


@pytest.mark.parametrize(
    "override, expected",
    [
        ("train.early_stopping={}", EarlyStopping(patience=5)),
        ("train.early_stopping.patience=3", EarlyStopping(patience=3)),
        ("train.early_stopping=null", None),
    ],
)
def test_an_override_may_begin_a_section_that_the_file_leaves_out(
    tmp_path: Path, override: str, expected: Any
) -> None:
    assert config_file.load(write(tmp_path), [override]).train.early_stopping == expected


def test_an_override_may_give_an_optional_value(tmp_path: Path) -> None:
    assert config_file.load(write(tmp_path)).train.ema is None
    assert config_file.load(write(tmp_path), ["train.ema=.99"]).train.ema == 0.99
    assert config_file.load(write(tmp_path), ["train.ema=.99", "train.ema=null"]).train.ema is None


# -- values


@pytest.mark.parametrize(
    "text, value",
    [("1e-3", 1e-3), ("1E-3", 1e-3), ("1.e-3", 1e-3), ("2e0", 2.0), (".5", 0.5), ("1", 1.0)],
)
def test_numbers_are_read_in_every_notation(tmp_path: Path, text: str, value: float) -> None:
    for config in (
        config_file.load(
            write(tmp_path, replaced("kind: sgd", f"kind: sgd\n  learning_rate: {text}"))
        ),
        config_file.load(write(tmp_path), [f"optimizer.learning_rate={text}"]),
    ):
        assert config.optimizer.learning_rate == value and isinstance(
            config.optimizer.learning_rate, float
        )


@pytest.mark.parametrize("text", ["on", "off"])
def test_on_and_off_are_read_as_text(tmp_path: Path, text: str) -> None:
    assert config_file.load(write(tmp_path), [f"train.xla={text}"]).train.xla == text


@pytest.mark.parametrize("text, value", [("true", True), ("False", False)])
def test_true_and_false_are_booleans(tmp_path: Path, text: str, value: bool) -> None:
    assert config_file.load(write(tmp_path), [f"train.onednn={text}"]).train.onednn is value


def test_dates_and_words_such_as_no_are_text(tmp_path: Path) -> None:
    text = replaced(
        "{kind: digits}", "{kind: idx, path: x, classes: [no, yes, on, 2020-01-01, 007]}"
    )
    assert config_file.load(write(tmp_path, text)).data.source.model_dump()["classes"] == (
        "no",
        "yes",
        "on",
        "2020-01-01",
        "007",
    )
    assert config_file.load(write(tmp_path), ["name=2020-01-01"]).name == "2020-01-01"


def test_a_run_without_a_name_is_named_after_its_file(tmp_path: Path) -> None:
    assert config_file.load(write(tmp_path)).name == "p"
    assert config_file.load(write(tmp_path, BASE + "name: other\n")).name == "other"
    for file, name in (
        ("my pipeline.yaml", "my-pipeline"),
        ("größe_2.yaml", "gr-e_2"),
        ("写真.yaml", "pipeline"),
    ):
        (tmp_path / file).write_text(BASE)
        assert config_file.load(tmp_path / file).name == name


@pytest.mark.parametrize(
    "override, key",
    [("data.source.kind=idx", "data.source.kind"), ("train.epochs=9", "train.epochs")],
)
def test_only_the_data_of_a_saved_configuration_can_be_overridden(
    tmp_path: Path, override: str, key: str
) -> None:
    config = config_file.load(write(tmp_path))
    assert config_file.with_data(config, ["data.max_bad_share=0.5"]).data.max_bad_share == 0.5
    with pytest.raises(ConfigError, match=f"--set {override}: "):
        config_file.with_data(config, [override])


def test_a_value_that_contains_itself_is_an_error_sentence(tmp_path: Path) -> None:
    assert "contains itself" in complaint(write(tmp_path, "augment: &a [*a]\n"))


def test_merged_mappings_are_read(tmp_path: Path) -> None:
    text = replaced(
        "- op: pad_crop\n    padding: 1",
        "- &pad {op: pad_crop, padding: 1}\n  - {<<: *pad, padding: 2}",
    )
    assert [
        op.model_dump()["padding"] for op in config_file.load(write(tmp_path, text)).augment
    ] == [1, 2]


# -- saved configurations


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_every_shipped_pipeline_loads_and_is_unchanged_by_json(path: Path) -> None:
    config = config_file.load(path)
    assert config.name == path.stem
    assert config.task == path.parent.name
    assert config_file.parse(json.dumps(config.to_json()), "config.json") == config


def test_there_are_shipped_pipelines() -> None:
    assert PIPELINES


def test_every_option_is_unchanged_by_json(tmp_path: Path) -> None:
    config = config_file.load(
        write(tmp_path),
        [
            (
                "augment=[{op: flip}, {op: random_resized_crop, area: [0.1, 0.30000000000000004]},"
                " {op: color_jitter, hue: 0.1}]"
            ),
            "optimizer={kind: adamw, weight_decay: 1e-5}",
            "schedule={kind: step, at: [1, 2.5]}",
            "train.early_stopping={}",
            "train.ema=0.999",
            "data.source={kind: folder, path: größe}",
        ],
    )
    again = config_file.parse(json.dumps(config.to_json()), "config.json")
    assert again == config
    assert [type(op) for op in again.augment] == [type(op) for op in config.augment]
    saved = tmp_path / "config.json"
    saved.write_text(json.dumps(config.to_json()))
    assert config_file.load(saved) == config


@pytest.mark.parametrize(
    "text, expected",
    [
        ("[", "run/config.json:1: not valid JSON: "),
        ("{\n", "run/config.json:2: not valid JSON: "),
        ("[]", "run/config.json: a pipeline file is a mapping"),
        ('{"task": "x"}', (f"run/config.json: 'task' should be {TASKS}, not \"x\"")),
    ],
)
def test_a_damaged_saved_configuration_is_an_error_sentence(text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)):
        config_file.parse(text, "run/config.json")


def test_a_configuration_cant_be_changed(tmp_path: Path) -> None:
    config = config_file.load(write(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        config.train.epochs = 3  # type: ignore[misc]


# -- the schema


SCHEMA = TypeAdapter(Pipeline).json_schema()


def fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the dotted name and the schema of every field of every section."""
    for name, section in schema["$defs"].items():
        for key, field in section["properties"].items():
            yield f"{name}.{key}", field


def described(field: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Return True if a field has a description, or if each section it may hold has one."""
    sections = [field, *field.get("oneOf", [])]
    references = [
        schema["$defs"][section["$ref"].rpartition("/")[2]]
        for section in sections
        if "$ref" in section
    ]
    return "description" in field or (
        bool(references) and all("description" in section for section in references)
    )


def test_every_field_of_the_schema_has_a_description() -> None:
    # The description of a section describes its key `kind`.
    silent = [
        name
        for name, field in fields(SCHEMA)
        if not described(field, SCHEMA) and "const" not in field
    ]
    assert silent == []
    assert len(list(fields(SCHEMA))) > 50


def test_every_number_of_the_schema_has_bounds() -> None:
    def unbounded(field: Any) -> bool:
        if isinstance(field, list):
            return any(map(unbounded, field))
        if not isinstance(field, dict):
            return False
        if field.get("type") in ("integer", "number") and not {"const", "enum"} & field.keys():
            low, high = (
                {end, f"exclusive{end.capitalize()}"} & field.keys()
                for end in ("minimum", "maximum")
            )
            return not (low and high)
        return any(unbounded(value) for key, value in field.items() if key != "default")

    assert [name for name, field in fields(SCHEMA) if unbounded(field)] == []


def test_every_section_has_a_description() -> None:
    assert [name for name, section in SCHEMA["$defs"].items() if "description" not in section] == []


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_the_schema_accepts_every_shipped_pipeline(path: Path) -> None:
    jsonschema.validate(config_file.load(path).to_json(), SCHEMA)


@pytest.mark.parametrize(
    "task, section, key",
    [
        ("detection", "Detection", "mix"),
        ("segmentation", "SegmentationModel", "drop_connect"),
        ("detection", "DetectionPrepare", "overlap"),
        ("classification", "ClassificationExport", "png"),
    ],
)
def test_the_schema_of_a_task_contains_only_keys_of_the_task(
    task: str, section: str, key: str
) -> None:
    assert SCHEMA["discriminator"]["mapping"][task] == f"#/$defs/{task.capitalize()}"
    offered = SCHEMA["$defs"][section]
    assert key not in offered["properties"] and offered["additionalProperties"] is False


# -- keys without effect

DIGITS = ROOT / "pipelines/classification/digits.yaml"
SSD = ROOT / "pipelines/detection/digit_scenes_ssd.yaml"
UNUSED = [
    (
        SSD,
        ("model.dropout=0.1",),
        "model.dropout does nothing with model.head: ssd, which has no dropout; leave it out",
    ),
    (
        DIGITS,
        ("model={backbone: vgg16, stochastic_depth: 0.1}",),
        "stochastic_depth does nothing in vgg16, which has no residual blocks that can be skipped",
    ),
    (
        DIGITS,
        ("model={backbone: keras/ResNet50, stochastic_depth: 0.1}",),
        "stochastic_depth does nothing in keras/ResNet50, which has no residual blocks",
    ),
    (
        DIGITS,
        ("model={backbone: two_layer, activation: elu}",),
        "activation does nothing in two_layer, whose layers are fixed; leave it out",
    ),
    (
        DIGITS,
        ("model={backbone: keras/ResNet50, norm: group}",),
        "norm does nothing in keras/ResNet50, whose layers are fixed; leave it out",
    ),
    (
        DIGITS,
        (
            "model={backbone: linear, norm: none}",
            "optimizer={kind: lbfgs}",
            "schedule={kind: constant}",
            "augment=[]",
            "train.non_finite=skip",
        ),
        "train.non_finite: skip does nothing with optimizer.kind: lbfgs",
    ),
    (
        DIGITS,
        (
            "model={backbone: linear, norm: none}",
            "optimizer={kind: lbfgs}",
            "schedule={kind: constant}",
            "augment=[]",
            "train.adversarial={epsilon: 0.1, clean: 0.5}",
        ),
        "clean doesn't go with optimizer.kind: lbfgs, for which the same weights must give the same"
        " loss on the whole training set; the same examples would always be attacked",
    ),
]


@pytest.mark.parametrize("path, overrides, sentence", UNUSED, ids=lambda value: str(value)[-40:])
def test_a_key_without_effect_is_refused(
    path: Path, overrides: tuple[str, ...], sentence: str
) -> None:
    assert sentence in complaint(path, *overrides)


@pytest.mark.parametrize("head", ["yolo_v2", "yolo_v3"])
def test_dropout_is_refused_for_heads_without_it(head: str) -> None:
    given = f"model.head={{kind: {head}, anchors: [[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]]}}"
    assert f"model.dropout does nothing with model.head: {head}" in complaint(
        SSD, given, "loss={kind: yolo}", "model.dropout=0.1"
    )


# -- an additional task


class Stroke(Augmentation):
    """Draw a stroke."""

    op: Literal["stroke"]
    """Kind of operation."""


class Sketching(Config):
    """A pipeline of a task that cvpipe doesn't have."""

    task: Literal["sketching"]
    """Task of the pipeline."""
    data: DetectionData
    """Source and splits of the data."""
    augment: tuple[Annotated[Flip | Stroke, Field(discriminator="op")], ...] = ()
    """Random changes to training images."""
    strokes: Count = 3
    """Number of strokes in a sketch."""
    critic: Optimizer
    """Optimizer of the second network."""

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        return {"artist": self.optimizer, "critic": self.critic}


SKETCHING = """\
task: sketching
data: {source: {kind: digit_scenes}, max_objects: 3}
augment: [{op: flip}, {op: stroke}]
prepare: {size: [32, 32]}
model: {backbone: lenet5}
loss: {kind: some}
strokes: 5
optimizer: {kind: adam}
critic: {kind: sgd}
train: {epochs: 2, batch_size: 4}
"""


@pytest.fixture
def sketching(monkeypatch: pytest.MonkeyPatch) -> None:
    union = Annotated[Classification | Sketching, Field(discriminator="task")]
    monkeypatch.setattr("cvpipe.config.Pipeline", union)


@pytest.mark.usefixtures("sketching")
def test_a_pipeline_of_an_additional_task_loads_and_is_unchanged_by_json(tmp_path: Path) -> None:
    config = config_file.load(write(tmp_path, SKETCHING))
    assert isinstance(config, Sketching) and config.strokes == 5
    assert [type(op) for op in config.augment] == [Flip, Stroke]
    assert {name: one.kind for name, one in config.optimizers.items()} == {
        "artist": "adam",
        "critic": "sgd",
    }
    assert config_file.parse(json.dumps(config.to_json()), "config.json") == config


@pytest.mark.usefixtures("sketching")
def test_error_messages_include_an_additional_task(tmp_path: Path) -> None:
    assert complaint(write(tmp_path, BASE + "strokes: 3\n")) == (
        "p.yaml:20: 'strokes' is for task: sketching, not for task: classification; leave it out"
    )
    assert "augment doesn't go with optimizer.kind: lbfgs" in complaint(
        write(tmp_path, SKETCHING), "critic={kind: lbfgs}"
    )
    assert complaint(write(tmp_path, SKETCHING), "task=sketchin").endswith(
        "'task' should be 'classification' or 'sketching', not \"sketchin\"; did you mean"
        " 'sketching'?"
    )


def test_loading_a_pipeline_doesnt_load_tensorflow() -> None:
    script = (
        "import sys; from cvpipe import config_file; from cvpipe.config import Pipeline\n"
        "from pydantic import TypeAdapter\n"
        "config_file.load(sys.argv[1]); TypeAdapter(Pipeline).json_schema()\n"
        "print(sorted({'tensorflow', 'keras', 'sklearn', 'matplotlib'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(PIPELINES[0])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
