"""The data of an experiment, and the normalization of images."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

from cvpipe.init.model_garden.experiment import Experiment
from cvpipe.init.model_garden.network import AT

TRAIN, VALIDATION = "task.train_data", "task.validation_data"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
"""Mean and standard deviation of red, green and blue in 0…1 in Model Garden."""
_TESTED = (
    ", which are the test split here; checkpoints are chosen by images held out of training"
    " (data.validation)"
)
SIDE = 224
"""Height and width of images if an experiment doesn't give them."""


def jitter(scale: Sequence[float]) -> dict[str, Any]:
    """Return the operation for `aug_scale_min` and `aug_scale_max` of images that aren't cropped.
    At a factor of 1 an image of any size fills the network's input.
    """
    return {"op": "scale_jitter", "scale": list(scale), "aspect": [1, 1]}


def data(
    experiment: Experiment, for_tfds: dict[str, Any], for_records: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return `data`, and comments for its keys.

    Args:
        experiment: the experiment.
        for_tfds: further keys of kind: tfds.
        for_records: further keys of kind: tfrecord.
    """
    name = experiment.get(f"{TRAIN}.tfds_name", "")
    if name:
        return _tfds(experiment, {"kind": "tfds", "name": name, **for_tfds})
    paths, held_out = (_paths(experiment, f"{at}.input_path") for at in (TRAIN, VALIDATION))
    reason = f"{TRAIN}.input_path: {', '.join(paths) or 'not given'}"
    if held_out:
        reason += f"; {VALIDATION}.input_path: {', '.join(held_out)}"
    folder = _common_folder([*paths, *held_out])
    if paths and not folder:
        experiment.notes.append(
            f"The records are in folders without a common parent, {', '.join([*paths, *held_out])}:"
            " move them below one folder, or merge them (kind: merge)."
        )
    if experiment.get(f"{TRAIN}.file_type", "tfrecord") != "tfrecord" or not paths or not folder:
        reason += ". kind: auto detects the format; set path to the folder of the data set"
        known = posixpath.dirname(paths[0]) if paths else "data"
        return {"source": {"kind": "auto", "path": known or "."}}, {"data.source": reason}
    if "://" in folder:
        experiment.notes.append(
            f"{TRAIN}.input_path: copy the records to this machine first, and set data.source.path."
        )
    source = {"kind": "tfrecord", "path": folder, "train": _pattern(paths, folder)}
    if held_out:
        source["test"] = _pattern(held_out, folder)
        reason += _TESTED
    return {"source": {**source, **for_records}}, {"data.source": reason}


def _tfds(experiment: Experiment, source: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    folder = experiment.get(f"{TRAIN}.tfds_data_dir", "")
    if folder:
        source["data_dir"] = folder
    source["train"] = experiment.get(f"{TRAIN}.tfds_split", "") or "train"
    held_out = experiment.get(f"{VALIDATION}.tfds_split", "")
    if not held_out:
        return {"source": source}, {}
    reason = f"{VALIDATION}.tfds_split: {held_out}{_TESTED}"
    return {"source": {**source, "test": held_out}}, {"data.source": reason}


def label_map(experiment: Experiment) -> dict[str, Any]:
    """Return the key for the label map of kind: tfrecord, if the experiment has one."""
    at = f"{TRAIN}.decoder"
    path = experiment.get(f"{at}.label_map_decoder.label_map", "")
    if experiment.get(f"{at}.type", "simple_decoder") != "label_map_decoder" or not path:
        return {}
    paths = _paths(experiment, f"{TRAIN}.input_path")
    folder = _common_folder([*paths, *_paths(experiment, f"{VALIDATION}.input_path")])
    alike = posixpath.isabs(path) == posixpath.isabs(folder)
    return {"names": posixpath.relpath(path, folder) if alike and folder else path}


def normalization(experiment: Experiment) -> dict[str, Any]:
    """Return the keys of `prepare` that normalize."""
    at = f"{TRAIN}.image_feature"
    mean = [round(value / 255, 6) for value in experiment.numbers(f"{at}.mean")]
    std = [round(value / 255, 6) for value in experiment.numbers(f"{at}.stddev")]
    return {"mean": mean or MEAN, "std": std or STD}


def size_of(experiment: Experiment, *paths: str) -> list[int]:
    """Return the height and width of the network's input: the first given value among these paths.
    Add a note if the experiment has none of them.
    """
    for path in paths:
        values = experiment.get(path, [])
        if len(values) >= 2 and all(isinstance(side, int) and side > 0 for side in values[:2]):
            return list(values[:2])
    experiment.notes.append(f"{paths[0]} isn't given: prepare.size is {SIDE}×{SIDE}.")
    return [SIDE, SIDE]


def regularization(experiment: Experiment) -> dict[str, Any]:
    """Return `loss.l2`, if there is weight decay; Model Garden adds half the sum of squares."""
    if experiment.get("task.losses.loss_weight", 1.0) != 1:
        experiment.note(
            "task.losses.loss_weight", "multiply optimizer.learning_rate by this value instead"
        )
    decay = experiment.get("task.losses.l2_weight_decay", 0.0)
    if decay and experiment.get(f"{AT}.type", "resnet") in ("mobilenet", "efficientnet"):
        experiment.note(
            "task.losses.l2_weight_decay", "here it also applies to depthwise convolutions"
        )
    return {"l2": decay / 2} if decay else {}


def _paths(experiment: Experiment, path: str) -> list[str]:
    value = experiment.get(path)
    if value is None:
        # The key is a mapping of several data sets by name.
        below = [key for key in experiment.values if key.startswith(f"{path}.")]
        return [file for key in below for file in _paths(experiment, key)]
    values = value if isinstance(value, list) else [value]
    return [file.strip() for entry in values for file in str(entry).split(",") if file.strip()]


def _common_folder(paths: list[str]) -> str:
    """Return the deepest folder that contains all files, without patterns; "" if there is none."""
    common = list(posixpath.commonprefix([path.split("/")[:-1] for path in paths]))
    while set("*?[{") & set("".join(common)):
        common.pop()
    if not common and not any(path.startswith("/") or "://" in path for path in paths):
        return "." if paths else ""
    folder = "/".join(common)
    # The beginning of a bucket's address isn't a folder.
    return "" if folder.endswith((":", ":/")) else folder


def _pattern(paths: list[str], folder: str) -> str:
    """Return one pattern, relative to a folder, for all files of a split."""
    below = [path.removeprefix(f"{folder}/") for path in paths]
    return below[0] if len(below) == 1 else f"{{{','.join(below)}}}"
