"""The data of an experiment, and the normalization of images."""

from __future__ import annotations

import posixpath
from typing import Any

from cvpipe.init.model_garden.experiment import Experiment
from cvpipe.init.model_garden.network import AT

TRAIN, VALIDATION = "task.train_data", "task.validation_data"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
"""Mean and standard deviation of red, green and blue in 0…1 in Model Garden."""
SIDE = 224
"""Height and width of images if an experiment doesn't give them."""


def data(experiment: Experiment, more: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return `data`, and comments for its keys. `more` are keys for kind: tfds."""
    name = experiment.get(f"{TRAIN}.tfds_name", "")
    if name:
        source: dict[str, Any] = {"kind": "tfds", "name": name, **more}
        folder = experiment.get(f"{TRAIN}.tfds_data_dir", "")
        if folder:
            source["data_dir"] = folder
        source["train"] = experiment.get(f"{TRAIN}.tfds_split", "") or "train"
        held_out = experiment.get(f"{VALIDATION}.tfds_split", "")
        if held_out:
            source |= {"validation": held_out, "test": held_out}
        return {"source": source}, {}
    paths = _paths(experiment, f"{TRAIN}.input_path") or ["data/*"]
    held_out = _paths(experiment, f"{VALIDATION}.input_path")
    folder = posixpath.dirname(paths[0]) or "."
    if {posixpath.dirname(path) or "." for path in [*paths, *held_out]} != {folder}:
        experiment.notes.append(
            f"The records are in several folders, {', '.join([*paths, *held_out])}: data.source has"
            " the first; put the others beside it, or merge them (kind: merge)."
        )
    if experiment.get(f"{TRAIN}.file_type", "tfrecord") == "tfrecord":
        experiment.notes.append(
            "data.source doesn't read Model Garden's TFRecords; give the original images in any"
            " format of docs/data_formats.md, or packed data."
        )
    reasons = {
        "data.source": f"{TRAIN}.input_path: {', '.join(paths)}"
        + (f"; {VALIDATION}.input_path: {', '.join(held_out)}" if held_out else "")
        + ". kind: auto detects the format; set path to the folder of the data set"
    }
    return {"source": {"kind": "auto", "path": folder}}, reasons


def normalization(experiment: Experiment) -> dict[str, Any]:
    """Return the keys of `prepare` that normalize."""
    at = f"{TRAIN}.image_feature"
    mean = [round(value / 255, 6) for value in experiment.numbers(f"{at}.mean")]
    std = [round(value / 255, 6) for value in experiment.numbers(f"{at}.stddev")]
    return {"mean": mean or MEAN, "std": std or STD}


def size_of(experiment: Experiment, *paths: str) -> list[int]:
    """Return the height and width of the network's input: the first of these values that is given.

    Adds a note if none is.
    """
    for path in paths:
        values = experiment.get(path, [])
        if len(values) >= 2 and all(isinstance(own, int) and own > 0 for own in values[:2]):
            return list(values[:2])
    experiment.notes.append(f"{paths[0]} isn't given: prepare.size is {SIDE}×{SIDE}.")
    return [SIDE, SIDE]


def regularization(experiment: Experiment) -> dict[str, Any]:
    """Return `loss.l2`, if there is weight decay; Model Garden adds half the sum of squares."""
    if experiment.get("task.losses.loss_weight", 1.0) != 1:
        experiment.note("task.losses.loss_weight", "multiply optimizer.learning_rate by it instead")
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
        below = [own for own in experiment.values if own.startswith(f"{path}.")]
        return [one for own in below for one in _paths(experiment, own)]
    values = value if isinstance(value, list) else [value]
    return [one.strip() for own in values for one in str(own).split(",") if one.strip()]
