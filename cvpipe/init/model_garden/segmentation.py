"""Semantic segmentation (official.vision.configs.semantic_segmentation)."""

from __future__ import annotations

from typing import Any

from cvpipe.init.model_garden import network, records
from cvpipe.init.model_garden.experiment import Experiment, shown
from cvpipe.init.model_garden.training import Pace, training

TRAIN = records.TRAIN
OVERLAP = 64
"""Overlap of tiles, pixels; at most half a tile."""


def pipeline(experiment: Experiment, pace: Pace) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a pipeline without its task, and comments for its keys."""
    classes = experiment.get("task.model.num_classes", 0)
    ignored = _ignored(experiment)
    tfds = {"mask": "segmentation_mask", **ignored}
    data, about_data = records.data(experiment, tfds, {**_named(experiment, classes), **ignored})
    prepared, augment = _images(experiment)
    model, about_model = network.model(experiment)
    model["head"] = _head(experiment)
    trained, about_training = training(experiment, pace)
    values = {
        "data": data,
        "augment": augment,
        "prepare": {**prepared, **records.normalization(experiment)},
        "model": model,
        "loss": {**_loss(experiment), **records.regularization(experiment)},
        **trained,
    }
    reasons = {**about_data, **about_model, **about_training}
    if classes:
        reasons["model"] = (
            f"The experiment had {classes:,} classes; in cvpipe the data determine the number"
        )
    return values, reasons


def _named(experiment: Experiment, classes: int) -> dict[str, Any]:
    """Return the keys for the image, and for the names of classes, which experiments don't have."""
    image = experiment.get(f"{TRAIN}.image_feature.feature_name", "image/encoded")
    if experiment.has(f"{TRAIN}.input_path"):
        experiment.notes.append(
            "data.source.classes: experiments don't name the values of masks; name them."
        )
    keys = {} if image == "image/encoded" else {"image": image}
    return {**keys, "classes": [f"class_{number}" for number in range(min(classes, 255) or 2)]}


def _ignored(experiment: Experiment) -> dict[str, Any]:
    """Return the key for the value of masks that is ignored in training."""
    ignored = experiment.get("task.losses.ignore_label", 255)
    if ignored == 255:
        return {}
    if not 0 <= ignored < 2**16:
        experiment.note("task.losses.ignore_label", "not a value of a mask; left out")
        return {}
    return {"ignore_indices": [ignored]}


def _images(experiment: Experiment) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the keys of `prepare` for the input's size, and the augmentations."""
    scale = [experiment.get(f"{TRAIN}.aug_scale_{end}", 1.0) for end in ("min", "max")]
    # Unused if images are cropped.
    experiment.get("task.model.input_size")
    operations: list[dict[str, Any]] = []
    flips = [{"op": "flip"}] if experiment.get(f"{TRAIN}.aug_rand_hflip", True) else []
    if experiment.get(f"{TRAIN}.crop_size", []):
        size = records.size_of(experiment, f"{TRAIN}.crop_size")
        whole = experiment.get(f"{TRAIN}.output_size", [])
        if whole:
            experiment.note(
                f"{TRAIN}.output_size",
                "here images keep their size and are predicted in tiles of prepare.size",
            )
        operations.append({"op": "scale_crop", "scale": scale})
        tiled = {"size": size, "resize": "tile", "overlap": min(OVERLAP, min(size) // 2)}
        return tiled, [*operations, *flips]
    size = records.size_of(experiment, f"{TRAIN}.output_size", "task.model.input_size")
    if scale != [1.0, 1.0]:
        operations.append(records.jitter(scale))
    keeps = experiment.get(f"{TRAIN}.preserve_aspect_ratio", True)
    prepared = {"size": size, **({"resize": "letterbox"} if keeps else {})}
    return prepared, [*operations, *flips]


def _head(experiment: Experiment) -> dict[str, Any]:
    decoder = experiment.get("task.model.decoder.type", "identity")
    fusion = experiment.get("task.model.head.feature_fusion", "")
    experiment.notes.append(
        f"task.model.decoder and task.model.head: {shown(decoder)}"
        + (f" with {fusion}" if fusion else "")
        + ": not in cvpipe; replaced by fcn with maps down to stride 8; only the backbone's weights"
        " are loaded from checkpoints."
    )
    return {"kind": "fcn", "stride": 8, "output_stride": 4}


def _loss(experiment: Experiment) -> dict[str, Any]:
    at = "task.losses"
    if experiment.get(f"{at}.use_binary_cross_entropy", False):
        experiment.note(f"{at}.use_binary_cross_entropy", "replaced by softmax cross-entropy")
    values: dict[str, Any] = {"kind": "softmax"}
    smoothing = experiment.get(f"{at}.label_smoothing", 0.0)
    if smoothing:
        values["label_smoothing"] = smoothing
    weights = experiment.numbers(f"{at}.class_weights")
    if weights and min(weights) > 0:
        values["class_weights"] = weights
    elif weights:
        experiment.note(f"{at}.class_weights", "weights must be above 0 here; left out")
    hard = experiment.get(f"{at}.top_k_percent_pixels", 1.0)
    if 0 < hard < 1:
        values["hard_pixels"] = hard
    return values
