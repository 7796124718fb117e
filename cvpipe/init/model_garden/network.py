"""The backbone of an experiment."""

from __future__ import annotations

from typing import Any

from cvpipe.init.model_garden.experiment import Experiment
from cvpipe.models.catalog import MODEL_GARDEN_ACTIVATIONS

AT = "task.model.backbone"
NORM = "task.model.norm_activation"
_DEPTHS = (18, 34, 50, 101, 152)
_MOBILE = {
    "MobileNetV1": "mobilenet_v1",
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3Large": "mobilenet_v3_large",
    "MobileNetV3Small": "mobilenet_v3_small",
}
_REPLACEMENTS = {"mobiledet": "mobilenet_v2", "spinenet_mobile": "mobilenet_v2"}


def model(experiment: Experiment) -> tuple[dict[str, Any], dict[str, str]]:
    """Return `model` without a head, and comments for its keys."""
    kind = experiment.get(f"{AT}.type", "resnet")
    before = len(experiment.notes)
    values: dict[str, Any]
    if kind in ("resnet", "dilated_resnet"):
        values = _resnet(experiment, kind)
    elif kind == "mobilenet":
        values = _mobilenet(experiment)
    elif kind == "efficientnet":
        values = _efficientnet(experiment)
    else:
        values = {"backbone": _REPLACEMENTS.get(kind, "resnet50")}
        _stand_in(experiment, f"{AT}.type", values["backbone"])
    is_same = len(experiment.notes) == before
    drop = experiment.get(f"{AT}.{kind}.stochastic_depth_drop_rate", 0.0)
    if drop:
        values["stochastic_depth"] = drop
        if experiment.get(f"{AT}.{kind}.flat_stochastic_depth_drop_rate", kind == "mobilenet"):
            experiment.note(
                f"{AT}.{kind}.stochastic_depth_drop_rate",
                "here the rate grows linearly toward the last block",
            )
    values |= _norm(experiment, kind)
    reasons = {"model.backbone": f"{AT}: {kind}; the same network, so its checkpoints load"}
    if not is_same:
        reasons = {"model.backbone": f"In place of {AT}: {kind}"}
    values |= _weights(experiment, is_same)
    return values, reasons


def _stand_in(experiment: Experiment, path: str, ours: str) -> None:
    experiment.note(path, f"not in cvpipe; replaced by {ours}")


def _resnet(experiment: Experiment, kind: str) -> dict[str, Any]:
    at = f"{AT}.{kind}"
    depth = experiment.get(f"{at}.model_id", 50)
    nearest = min(_DEPTHS, key=lambda number: abs(number - depth))
    ours = f"resnet{nearest}"
    if nearest != depth:
        _stand_in(experiment, f"{at}.model_id", ours)
    width = experiment.get(f"{at}.depth_multiplier", 1.0)
    if experiment.get(f"{at}.stem_type", "v0") != "v0":
        experiment.note(
            f"{at}.stem_type", f"{ours} begins with one 7×7 convolution, as with stem_type v0"
        )
    if not experiment.get(f"{at}.scale_stem", True) and width != 1:
        experiment.note(f"{at}.scale_stem", "here width also scales the stem")
    if experiment.get(f"{at}.se_ratio", 0.0):
        experiment.note(f"{at}.se_ratio", f"{ours} has no squeeze-and-excitation")
    for key in ("resnetd_shortcut", "replace_stem_max_pool"):
        if experiment.get(f"{at}.{key}", False):
            experiment.note(f"{at}.{key}", f"{ours} has the layers of the paper instead")
    if kind == "dilated_resnet":
        experiment.note(f"{AT}.type", f"replaced by {ours}, without dilation")
    freeze_norms = not experiment.get(f"{at}.bn_trainable", True)
    if freeze_norms:
        experiment.note(f"{at}.bn_trainable", "add model.freeze_norms when you give model.weights")
    return {"backbone": ours, **({"width": width} if width != 1 else {})}


def _mobilenet(experiment: Experiment) -> dict[str, Any]:
    at = f"{AT}.mobilenet"
    size = experiment.get(f"{at}.model_id", "MobileNetV2")
    ours = _MOBILE.get(size, "mobilenet_v3_large")
    if size not in _MOBILE:
        _stand_in(experiment, f"{at}.model_id", ours)
    width = experiment.get(f"{at}.filter_size_scale", 1.0)
    if experiment.get(f"{at}.output_stride", 0) not in (0, 32):
        experiment.note(
            f"{at}.output_stride", f"{ours} reduces images to 1/32 of their size, without dilation"
        )
    return {"backbone": ours, **({"width": width} if width != 1 else {})}


def _efficientnet(experiment: Experiment) -> dict[str, Any]:
    at = f"{AT}.efficientnet"
    ours = f"efficientnet_{experiment.get(f'{at}.model_id', 'b0')}"
    if experiment.get(f"{at}.se_ratio", 0.0) != 0.25:
        experiment.note(f"{at}.se_ratio", f"{ours} has squeeze-and-excitation with a ratio of 0.25")
    return {"backbone": ours}


def _norm(experiment: Experiment, kind: str) -> dict[str, Any]:
    values: dict[str, Any] = {
        "conventions": "model_garden",
        "norm_epsilon": experiment.get(f"{NORM}.norm_epsilon", 0.001),
        "batch_norm_momentum": experiment.get(f"{NORM}.norm_momentum", 0.99),
    }
    activation = experiment.get(f"{NORM}.activation", "relu")
    ours = MODEL_GARDEN_ACTIVATIONS.get(activation)
    default = "silu" if kind == "efficientnet" else "relu"
    if ours is None:
        experiment.note(
            f"{NORM}.activation", "cvpipe has no such activation; the network keeps its default"
        )
    elif ours != default and kind not in ("mobilenet", "mobiledet"):
        # Model Garden's MobileNets ignore the experiment's activation.
        values["activation"] = ours
    return values


def _weights(experiment: Experiment, is_same: bool) -> dict[str, Any]:
    origin = experiment.get("task.init_checkpoint", "")
    # Not needed: the head is loaded if its shape fits.
    experiment.get("task.init_checkpoint_modules")
    frozen = experiment.get("task.freeze_backbone", False)
    if origin and not is_same:
        experiment.note(
            "task.init_checkpoint",
            "belongs to another network; this one starts from random weights",
        )
    if frozen and not (origin and is_same):
        experiment.note(
            "task.freeze_backbone", "all layers are trained, because weights are random"
        )
    if not origin or not is_same:
        return {}
    if "://" in origin:
        experiment.note(
            "task.init_checkpoint",
            "copy its .index and .data files to this machine, and set model.weights to their path",
        )
    return {"weights": origin, **({"freeze": "backbone"} if frozen else {})}
