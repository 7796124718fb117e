"""Object detection with RetinaNet (official.vision.configs.retinanet)."""

from __future__ import annotations

from typing import Any

from cvpipe.init.model_garden import network, records
from cvpipe.init.model_garden.experiment import Experiment
from cvpipe.init.model_garden.training import Pace, training

PARSER = f"{records.TRAIN}.parser"
ANCHOR, HEAD = "task.model.anchor", "task.model.head"
GENERATOR = "task.model.detection_generator"


def pipeline(experiment: Experiment, pace: Pace) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a pipeline without its task, and comments for its keys."""
    data, about_data = records.data(experiment, {}, records.label_map(experiment))
    most = experiment.get(f"{PARSER}.max_num_instances", 100)
    if most != 100:
        data["max_objects"] = most
    size = records.size_of(experiment, "task.model.input_size")
    model, about_model = network.model(experiment)
    model["head"] = _head(experiment, size)
    keeps = experiment.get(f"{PARSER}.keep_aspect_ratio", True)
    trained, about_training = training(experiment, pace)
    classes = experiment.get("task.model.num_classes", 0)
    values = {
        "data": data,
        "augment": _augment(experiment),
        "prepare": {
            "size": size,
            **({"resize": "letterbox"} if keeps else {}),
            **records.normalization(experiment),
        },
        "model": model,
        "loss": {**_loss(experiment), **records.regularization(experiment)},
        **trained,
    }
    reasons = {**about_data, **about_model, **about_training}
    if classes:
        reasons["model"] = (
            f"The experiment had {classes:,} classes, including the background; in cvpipe the data"
            " determine the number"
        )
    return values, reasons


def _augment(experiment: Experiment) -> list[dict[str, Any]]:
    operations: list[dict[str, Any]] = []
    scale = [experiment.get(f"{PARSER}.aug_scale_{end}", 1.0) for end in ("min", "max")]
    if scale != [1.0, 1.0]:
        operations.append(records.jitter(scale))
    if experiment.get(f"{PARSER}.aug_rand_hflip", False):
        operations.append({"op": "flip"})
    return operations


def _head(experiment: Experiment, size: list[int]) -> dict[str, Any]:
    """Return the most similar head: default boxes on a feature pyramid of the same levels."""
    levels = [experiment.get("task.model.min_level", 3), experiment.get("task.model.max_level", 7)]
    side, longest = experiment.get(f"{ANCHOR}.anchor_size", 4.0), max(size)
    decoder = experiment.get("task.model.decoder.type", "fpn")
    channels = experiment.get(f"task.model.decoder.{decoder}.num_filters", 256)
    aspects = [a for a in experiment.numbers(f"{ANCHOR}.aspect_ratios", (0.5, 1, 2)) if a > 1]
    experiment.get(f"{ANCHOR}.num_scales", 3)
    separable = experiment.get(f"{HEAD}.use_separable_conv", False)
    experiment.notes.append(
        "task.model.head, task.model.decoder and task.model.anchor: cvpipe has no RetinaNet head;"
        " replaced by ssd with a feature pyramid of the same strides, one layer instead of five,"
        " and two squares per cell; only the backbone's weights are loaded from checkpoints."
    )
    return {
        "kind": "ssd",
        "strides": [2**level for level in range(levels[0], min(levels[1], 5) + 1)],
        "coarsest": max(1, longest >> levels[1]),
        "smallest": round(min(side * 2 ** levels[0] / longest, 0.9), 4),
        "largest": round(min(side * 2 ** levels[1] / longest, 0.9), 4),
        "aspects": aspects or [2.0],
        **({"separable": True} if separable else {}),
        "pyramid": channels,
        "overlap": experiment.get(f"{PARSER}.match_threshold", 0.5),
        "suppress": {
            "score_threshold": experiment.get(f"{GENERATOR}.pre_nms_score_threshold", 0.05),
            "iou_threshold": experiment.get(f"{GENERATOR}.nms_iou_threshold", 0.5),
            "max_detections": experiment.get(f"{GENERATOR}.max_num_detections", 100),
        },
    }


def _loss(experiment: Experiment) -> dict[str, Any]:
    at = "task.losses"
    experiment.get(f"{at}.huber_loss_delta")
    experiment.get(f"{at}.box_loss_weight")
    experiment.notes.append(
        "task.losses.box_loss_weight and huber_loss_delta: boxes have another scale here;"
        " loss.box_weight stays 1."
    )
    return {
        "kind": "focal",
        "focal_gamma": experiment.get(f"{at}.focal_loss_gamma", 1.5),
        "focal_alpha": experiment.get(f"{at}.focal_loss_alpha", 0.25),
    }
