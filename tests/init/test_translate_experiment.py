"""Guards `cvpipe init --model-garden`: translated experiments load as pipelines with the same
learning rates, and no key is dropped silently.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT
from cvpipe import config_file
from cvpipe.config import Config
from cvpipe.errors import ConfigError
from cvpipe.init.model_garden import Translated, translate
from cvpipe.init.model_garden.experiment import read_experiment
from cvpipe.training.schedules import make_schedule

Cvpipe = Callable[..., tuple[int, str, str]]
REGISTERED = {
    "image_classification": (
        "image_classification",
        "resnet_imagenet",
        "resnet_rs_imagenet",
        "revnet_imagenet",
        "mobilenet_imagenet",
        "deit_imagenet_pretrain",
        "vit_imagenet_pretrain",
        "vit_imagenet_finetune",
    ),
    "semantic_segmentation": (
        "semantic_segmentation",
        "seg_deeplabv3_pascal",
        "seg_deeplabv3plus_pascal",
        "seg_resnetfpn_pascal",
        "mnv2_deeplabv3_pascal",
        "seg_deeplabv3plus_cityscapes",
        "mnv2_deeplabv3_cityscapes",
        "mnv2_deeplabv3plus_cityscapes",
    ),
    "retinanet": (
        "retinanet",
        "retinanet_resnetfpn_coco",
        "retinanet_spinenet_coco",
        "retinanet_mobile_coco",
    ),
}
TASKS = {"image_classification": "classification", "retinanet": "detection"}
# Shortened from Model Garden's EfficientNet-B0, plus `colour_jitter`, which isn't one of its keys.
EFFICIENTNET = """
runtime: {distribution_strategy: tpu, mixed_precision_dtype: bfloat16}
task:
  model:
    num_classes: 1001
    input_size: [224, 224, 3]
    backbone: {type: efficientnet, efficientnet: {model_id: b0, se_ratio: 0.25}}
    norm_activation: {activation: swish, norm_momentum: 0.99, norm_epsilon: 0.001}
  losses: {l2_weight_decay: 0.0001, one_hot: true, label_smoothing: 0.1}
  train_data:
    input_path: imagenet-2012-tfrecord/train*
    global_batch_size: 4096
    colour_jitter: 0.4
    aug_type: {type: randaug, randaug: {magnitude: 10}}
  validation_data: {input_path: imagenet-2012-tfrecord/valid*, global_batch_size: 4096}
trainer:
  train_steps: 109200
  validation_interval: 312
  optimizer_config:
    optimizer: {type: rmsprop, rmsprop: {momentum: 0.9, rho: 0.9, epsilon: 0.001}}
    ema: {average_decay: 0.9999}
    learning_rate:
      type: exponential
      exponential: {initial_learning_rate: 0.512, decay_steps: 748, decay_rate: 0.97}
    warmup: {type: linear, linear: {warmup_steps: 1560}}
"""


def loaded(translated: Translated, folder: Path) -> Config:
    file = folder / "own.yaml"
    file.write_text(translated.text, encoding="utf-8")
    return config_file.load(file)


def written(folder: Path, text: str, name: str = "experiment.yaml") -> str:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return str(file)


# -- Experiments that Model Garden registers


def test_the_experiments_tested_here_are_all_that_model_garden_registers() -> None:
    found = find_spec("official")
    assert found is not None and found.submodule_search_locations
    [root] = found.submodule_search_locations
    for module, names in REGISTERED.items():
        source = Path(root, "vision", "configs", f"{module}.py").read_text(encoding="utf-8")
        assert tuple(re.findall(r"register_config_factory\('(\w+)'\)", source)) == names


@pytest.mark.parametrize(
    "module, name", [(module, name) for module, names in REGISTERED.items() for name in names]
)
def test_a_registered_experiment_becomes_a_pipeline_that_loads(
    module: str, name: str, tmp_path: Path
) -> None:
    translated = translate([name])
    config = loaded(translated, tmp_path)
    assert config.task == translated.task == TASKS.get(module, "segmentation")
    assert not [note for note in translated.notes if "not understood" in note]


@pytest.mark.parametrize("name", ["image_classification", "semantic_segmentation", "retinanet"])
def test_default_values_are_not_reported(name: str) -> None:
    notes = "\n".join(translate([name]).notes)
    assert "Decided by" not in notes and "No counterpart" not in notes


def test_an_experiment_keeps_its_numbers(tmp_path: Path) -> None:
    config = loaded(translate(["resnet_imagenet"]), tmp_path)
    values = config.to_json()
    assert values["model"]["backbone"] == "resnet50" and values["model"]["norm_epsilon"] == 1e-5
    assert values["train"]["epochs"] == 90 and values["train"]["batch_size"] == 4096
    assert values["optimizer"] == {
        "backbone_rate": 1.0,
        "kind": "sgd",
        "learning_rate": 1.6,
        "momentum": 0.9,
        "nesterov": False,
    }
    assert values["schedule"]["at"] == [30, 60, 80] and values["schedule"]["warmup_epochs"] == 5
    # Model Garden's L2 penalty is half the sum of squares.
    assert values["loss"]["l2"] == 5e-5
    assert values["test_time"] == {"views": "center", "sides": [256]}


@pytest.mark.parametrize(
    "name", ["resnet_imagenet", "vit_imagenet_finetune", "seg_deeplabv3_pascal"]
)
def test_learning_rates_are_those_of_model_garden(name: str, tmp_path: Path) -> None:
    from official.core import exp_factory
    from official.modeling import optimization

    trainer = exp_factory.get_exp_config(name).trainer
    theirs = optimization.OptimizerFactory(trainer.optimizer_config).build_learning_rate()
    config = loaded(translate([name]), tmp_path)
    steps_per_epoch, steps = trainer.validation_interval, trainer.train_steps
    ours = make_schedule(config, steps_per_epoch, steps)
    # Steps after the warm-up, away from the steps where the rate changes.
    sampled = np.linspace(6.5 * steps_per_epoch, steps - 2, 40).astype(int)
    found = [float(ours(step)) for step in sampled]
    expected = [float(theirs(step)) for step in sampled]
    assert len(set(np.round(expected, 6))) > 2
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_file_overrides_a_registered_experiment(tmp_path: Path) -> None:
    changes = "task: {model: {backbone: {type: mobilenet}}, train_data: {global_batch_size: 64}}"
    config = loaded(translate(["resnet_imagenet", written(tmp_path, changes)]), tmp_path)
    assert config.model.backbone == "mobilenet_v2" and config.train.batch_size == 64
    assert config.model.norm_epsilon == 1e-5


# -- Files


def test_a_file_keeps_its_numbers(tmp_path: Path) -> None:
    translated = translate([written(tmp_path, EFFICIENTNET)])
    values = loaded(translated, tmp_path).to_json()
    source = values["data"]["source"]
    assert (source["kind"], source["path"]) == ("tfrecord", "imagenet-2012-tfrecord")
    assert (source["train"], source["test"]) == ("train*", "valid*")
    assert (
        values["model"]["backbone"] == "efficientnet_b0" and values["model"]["activation"] is None
    )
    assert values["model"]["conventions"] == "model_garden"
    assert values["train"]["ema"] == 0.9999 and values["train"]["precision"] == "mixed_bfloat16"
    assert {"op": "rand_augment", "layers": 2, "magnitude": 10.0} in values["augment"]
    # The rate decays by 0.97 ^ (312 / 748) per epoch.
    assert np.exp(-values["schedule"]["decay"]) == pytest.approx(0.97 ** (312 / 748), rel=1e-6)
    assert values["optimizer"]["epsilon"] == 0.001 and values["optimizer"]["rho"] == 0.9


@pytest.mark.parametrize(
    "train, held_out, source",
    [
        ("a/b/train*", "a/b/val*", {"path": "a/b", "train": "train*", "test": "val*"}),
        ("a/b/t*,a/c/t*", "", {"path": "a", "train": "{b/t*,c/t*}"}),
        ("/d/x*/t.tfrecord", "", {"path": "/d", "train": "x*/t.tfrecord"}),
        ("train*", "d/val*", {"path": ".", "train": "train*", "test": "d/val*"}),
        ("gs://b/coco/t*", "", {"path": "gs://b/coco", "train": "t*"}),
    ],
)
def test_input_paths_become_patterns(
    train: str, held_out: str, source: dict[str, Any], tmp_path: Path
) -> None:
    text = f"""task:
  model: {{num_classes: 3}}
  train_data: {{input_path: '{train}', image_field_key: image, label_field_key: label}}
  validation_data: {{input_path: '{held_out}'}}"""
    translated = translate([written(tmp_path, text)])
    translated_source = loaded(translated, tmp_path).data.source.model_dump(exclude_defaults=True)
    assert translated_source == {"kind": "tfrecord", "image": "image", "label": "label", **source}
    bucket = [note for note in translated.notes if "copy the records to this machine" in note]
    assert bool(bucket) == source["path"].startswith("gs://")


def test_paths_without_a_common_folder_are_reported(tmp_path: Path) -> None:
    text = "task: {model: {num_classes: 3}, train_data: {input_path: '/a/t*,b/t*'}}"
    translated = translate([written(tmp_path, text)])
    assert loaded(translated, tmp_path).data.source.kind == "auto"
    assert any("folders without a common parent, /a/t*, b/t*" in note for note in translated.notes)


def test_a_label_map_and_masks_are_kept(tmp_path: Path) -> None:
    text = """task:
  train_data:
    input_path: coco/train*
    parser: {num_channels: 3}
    decoder: {type: label_map_decoder, label_map_decoder: {label_map: coco/names.csv}}"""
    source = loaded(translate([written(tmp_path, text)]), tmp_path).data.source
    assert source.kind == "tfrecord" and source.names == "names.csv"
    text = """task:
  model: {num_classes: 3}
  losses: {ignore_label: 250}
  train_data: {input_path: city/train*, crop_size: [64, 64]}"""
    translated = translate([written(tmp_path, text)])
    source = loaded(translated, tmp_path).data.source
    assert source.classes == ("class_0", "class_1", "class_2") and source.ignore_indices == (250,)
    assert any("experiments don't name the values of masks" in note for note in translated.notes)


def test_a_validation_split_of_tfds_is_the_test_split(tmp_path: Path) -> None:
    text = """task:
  model: {num_classes: 10}
  train_data: {tfds_name: cifar10, tfds_split: train}
  validation_data: {tfds_name: cifar10, tfds_split: test}"""
    source = loaded(translate([written(tmp_path, text)]), tmp_path).data.source
    assert source.train == "train" and source.test == "test" and source.validation is None


def test_each_key_that_is_not_understood_is_named_with_its_line(tmp_path: Path) -> None:
    more = EFFICIENTNET + "extra: {switch: false, list: [1, 2], nothing: null}\n"
    file = written(tmp_path, more)
    notes = "\n".join(translate([file]).notes)
    assert f"task.train_data.colour_jitter: 0.4: not understood ({file}:13)." in notes
    for key, value in {"switch": "false", "list": r"\[1, 2\]", "nothing": "null"}.items():
        assert re.search(rf"extra\.{key}: {value}: not understood", notes)
    assert "runtime.distribution_strategy: tpu" in notes


def test_a_switch_that_is_usually_on_is_reported_if_it_is_off(tmp_path: Path) -> None:
    text = "task: {annotation_file: a.json, model: {head: {share_level_convs: SWITCH}}}"
    for switch, named in {"true": False, "false": True}.items():
        notes = translate([written(tmp_path, text.replace("SWITCH", switch))]).notes
        assert ("share_level_convs" in "\n".join(notes)) == named


def test_notes_are_written_to_the_pipeline_file_too(tmp_path: Path) -> None:
    translated = translate([written(tmp_path, EFFICIENTNET)])
    text = " ".join(line.removeprefix("#").strip() for line in translated.text.splitlines())
    assert translated.notes and all(note in text for note in translated.notes)
    assert max(map(len, translated.text.splitlines())) <= 100


def test_epochs_are_computed_from_the_number_of_images_if_given(tmp_path: Path) -> None:
    translated = translate([written(tmp_path, EFFICIENTNET)], images=1_281_167)
    config = loaded(translated, tmp_path)
    assert config.train.epochs == round(109_200 / (1_281_167 / 4096))
    assert not [note for note in translated.notes if "--images" in note]


@pytest.mark.parametrize(
    "backbone, weights",
    [("{type: resnet}", "seen/ckpt-9"), ("{type: resnet, resnet: {stem_type: v1}}", None)],
)
def test_weights_are_kept_only_if_the_network_is_the_same(
    backbone: str, weights: str | None, tmp_path: Path
) -> None:
    text = f"task: {{init_checkpoint: seen/ckpt-9, model: {{backbone: {backbone}}}}}"
    translated = translate([written(tmp_path, text)])
    assert loaded(translated, tmp_path).model.weights == weights
    assert ("task.init_checkpoint" in "\n".join(translated.notes)) == (weights is None)


@pytest.mark.parametrize(
    "text",
    [
        "task: {model: {anchor: {num_scales: 3}}, train_data: {parser: {SCALES}}}",
        "task: {model: {head: {low_level: 2}}, train_data: {output_size: [64, 64], SCALES}}",
    ],
)
def test_scales_of_whole_images_are_relative_to_the_input(text: str, tmp_path: Path) -> None:
    scales = "aug_scale_min: 0.8, aug_scale_max: 1.2, aug_rand_hflip: false"
    values = loaded(translate([written(tmp_path, text.replace("SCALES", scales))]), tmp_path)
    # Model Garden's images fill the input at a factor of 1, whatever their size.
    [operation] = values.to_json()["augment"]
    assert operation == {"op": "scale_jitter", "scale": [0.8, 1.2], "aspect": [1, 1]}


@pytest.mark.parametrize(
    "losses, mixing, kind, smoothing, noted",
    [
        ("label_smoothing: 0.1", "null", "softmax", 0.1, ()),
        ("one_hot: false, label_smoothing: 0.1", "null", "softmax", 0.0, ("without one_hot",)),
        ("one_hot: false, soft_labels: true", "{label_smoothing: 0.3}", "softmax", 0.3, ()),
        ("one_hot: false, soft_labels: true", "{mixup_alpha: 0.2}", "softmax", 0.1, ()),
        ("use_binary_cross_entropy: true", "null", "binary", None, ("1,000 times",)),
        (
            "use_binary_cross_entropy: true",
            "{mixup_alpha: 0.2}",
            "binary",
            None,
            ("1,000 times", "fully has both labels"),
        ),
    ],
)
def test_labels_are_smoothed_as_in_model_garden(
    losses: str,
    mixing: str,
    kind: str,
    smoothing: float | None,
    noted: tuple[str, ...],
    tmp_path: Path,
) -> None:
    text = (
        f"task: {{model: {{num_classes: 1000}}, losses: {{{losses}}},"
        f" train_data: {{mixup_and_cutmix: {mixing}}}}}"
    )
    translated = translate([written(tmp_path, text)], task="classification")
    loss = loaded(translated, tmp_path).to_json()["loss"]
    assert (loss["kind"], loss.get("label_smoothing")) == (kind, smoothing)
    notes = [note for note in translated.notes if note.startswith("task.losses")]
    assert len(notes) == len(noted)
    for words, note in zip(noted, notes, strict=True):
        assert words in note


def test_boundaries_at_the_first_step_are_behind_the_training(tmp_path: Path) -> None:
    text = (
        "{trainer: {train_steps: 1000, validation_interval: 100, optimizer_config: {learning_rate:"
        " {type: stepwise, stepwise: {boundaries: [0, 500, 800], values: [1.0, 0.1, 0.01, 0.001]}}}"
        "}}"
    )
    values = loaded(translate([written(tmp_path, text)], task="classification"), tmp_path).to_json()
    assert values["optimizer"]["learning_rate"] == 0.1
    assert values["schedule"]["at"] == [5, 8] and values["schedule"]["factor"] == 0.1


def test_crops_of_segmentation_become_tiles(tmp_path: Path) -> None:
    values = loaded(translate(["seg_deeplabv3plus_cityscapes"]), tmp_path).to_json()
    assert values["prepare"]["size"] == [512, 1024] and values["prepare"]["resize"] == "tile"
    assert values["augment"][0]["op"] == "scale_crop" and values["augment"][0]["scale"] == [
        0.5,
        2.0,
    ]


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("task: {model: {rpn_head: {num_convs: 1}}}", "a two-stage detector can't be translated"),
        ("task: {train_data: {feature_shape: [8, 224, 224, 3]}}", "a video model"),
        ("task: {model: {encoder: {type: bert}}}", "a language model"),
        ("trainer: {train_steps: 10}", "the task can't be detected"),
        ("- 1", "not an experiment; give a YAML file with task and trainer"),
        ("task: {model: {num_classes: [", "experiment.yaml:1"),
        (
            "task: {model: {backbone: {type: [resnet]}}}",
            r"yaml:1: task.model.backbone.type is \['resnet'\], but .* needs the type str",
        ),
        (
            "task: {model: {num_classes: 3}, train_data: {crop_area_range: [a, b]}}",
            "task.train_data.crop_area_range must be numbers",
        ),
    ],
)
def test_experiments_of_other_tasks_are_refused(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        translate([written(tmp_path, text)])


def test_a_name_that_is_neither_file_nor_experiment_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such file"):
        read_experiment(["gone.yaml"])
    with pytest.raises(ConfigError, match="resnet_imagent: neither a file nor an experiment that"):
        read_experiment(["resnet_imagent"])


def test_the_experiment_on_the_page_becomes_the_pipeline_on_the_page(
    cvpipe: Cvpipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs/model_garden.md").read_text(encoding="utf-8")
    experiment, pipeline = re.findall(r"```yaml\n(.*?)```", page, re.S)
    monkeypatch.chdir(tmp_path)
    Path("flowers.yaml").write_text(experiment, encoding="utf-8")
    assert translate(["flowers.yaml"]).text == pipeline
    [commands] = re.findall(r"```sh\n(.*?)```", page, re.S)
    for command in commands.splitlines():
        code, _, error = cvpipe(*command.split()[1:])
        assert code == 0, error


# -- The command


def test_the_command_writes_a_pipeline_and_prints_what_is_missing_in_it(
    cvpipe: Cvpipe, tmp_path: Path
) -> None:
    file, to = written(tmp_path, EFFICIENTNET), tmp_path / "b0.yaml"
    code, out, _ = cvpipe("init", "--model-garden", file, "--to", to)
    assert code == 0 and "note      task.train_data.colour_jitter: 0.4: not understood" in out
    assert config_file.load(to).model.backbone == "efficientnet_b0"
    code, _, error = cvpipe("init", "--model-garden", file, "--to", to)
    assert code != 0 and "exists already" in error


def test_the_command_prints_what_has_to_be_corrected_by_hand(
    cvpipe: Cvpipe, tmp_path: Path
) -> None:
    file = written(tmp_path, "task: {model: {num_classes: 3, dropout_rate: 7}}")
    code, out, _ = cvpipe("init", "--model-garden", file, "--to", tmp_path / "own.yaml")
    assert code == 0 and re.search(r"correct .*own\.yaml:\d+: 'model.dropout' should be", out)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ([], "give one of them"),
        (["photos", "--model-garden", "a.yaml"], "give one of them"),
        (["--model-garden", "a.yaml", "--kind", "voc"], "--kind is a kind of data set"),
        (["--model-garden", "a.yaml", "--task", "pose"], "Model Garden has no such experiments"),
        (["--model-garden", "a.yaml", "--images", "0"], "give the number of training images"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    cvpipe: Cvpipe, arguments: list[Any], sentence: str
) -> None:
    code, _, error = cvpipe("init", *arguments)
    assert code != 0 and sentence in error
