"""Image classification (official.vision.configs.image_classification)."""

from __future__ import annotations

from typing import Any

from cvpipe.init.model_garden import network, records
from cvpipe.init.model_garden.experiment import Experiment
from cvpipe.init.model_garden.training import Pace, training

TRAIN = records.TRAIN
MIX = f"{TRAIN}.mixup_and_cutmix"


def pipeline(experiment: Experiment, pace: Pace) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a pipeline without its task, and comments for its keys."""
    data, about_data = records.data(experiment, {}, _fields(experiment))
    size = records.size_of(experiment, "task.model.input_size")
    model, about_model = network.model(experiment)
    dropout = experiment.get("task.model.dropout_rate", 0.0)
    if dropout:
        model["dropout"] = dropout
    mix = _mix(experiment)
    prepared, views = _views(experiment, size)
    trained, about_training = training(experiment, pace)
    top = experiment.get("task.evaluation.top_k", 5)
    classes = experiment.get("task.model.num_classes", 0)
    values = {
        "data": data,
        "augment": _augment(experiment),
        **({"mix": mix} if mix else {}),
        "prepare": {"size": size, **prepared, **records.normalization(experiment)},
        **({"test_time": views} if views else {}),
        "model": model,
        "loss": {**_loss(experiment), **records.regularization(experiment)},
        **trained,
        **({"export": {"top_k": top}} if top != 5 else {}),
    }
    reasons = {**about_data, **about_model, **about_training}
    if classes:
        reasons["model"] = (
            f"The experiment had {classes:,} classes; in cvpipe the data determine the number"
        )
    return values, reasons


def _fields(experiment: Experiment) -> dict[str, Any]:
    """Return the keys for the names of features in records."""
    usual = {"image": "image/encoded", "label": "image/class/label"}
    fields = {key: experiment.get(f"{TRAIN}.{key}_field_key", name) for key, name in usual.items()}
    return {key: name for key, name in fields.items() if name != usual[key]}


def _views(experiment: Experiment, size: list[int]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return `prepare.resize` and `test_time`: Model Garden evaluates center crops."""
    experiment.get(f"{TRAIN}.center_crop_fraction")
    path = "task.validation_data.center_crop_fraction"
    fraction = experiment.get(path, 0.875)
    if not experiment.get("task.validation_data.aug_crop", True):
        return {}, None
    if not 0 < fraction < 1:
        return {"resize": "crop"}, None
    return {"resize": "crop"}, {"views": "center", "sides": [round(max(size) / fraction)]}


def _augment(experiment: Experiment) -> list[dict[str, Any]]:
    operations: list[dict[str, Any]] = []
    if experiment.get(f"{TRAIN}.aug_crop", True):
        area = experiment.numbers(f"{TRAIN}.crop_area_range", (0.08, 1.0))
        operations.append({"op": "random_resized_crop", "area": area})
    if experiment.get(f"{TRAIN}.aug_rand_hflip", True):
        operations.append({"op": "flip"})
    jitter = min(experiment.get(f"{TRAIN}.color_jitter", 0.0), 1.0)
    if jitter:
        amounts = dict.fromkeys(("brightness", "contrast", "saturation"), jitter)
        operations.append({"op": "color_jitter", **amounts})
    return [*operations, *_policy(experiment), *_erasing(experiment)]


def _policy(experiment: Experiment) -> list[dict[str, Any]]:
    """Return RandAugment or AutoAugment, from current keys or those of earlier versions."""
    at = f"{TRAIN}.aug_type"
    kind = experiment.get(f"{at}.type", "") or experiment.get(f"{TRAIN}.aug_policy", "")
    if not kind:
        return []
    if kind == "randaug":
        older = float(experiment.get(f"{TRAIN}.randaug_magnitude", 10))
        magnitude = experiment.get(f"{at}.randaug.magnitude", older)
        layers = experiment.get(f"{at}.randaug.num_layers", 2)
        return [{"op": "rand_augment", "layers": layers, "magnitude": min(magnitude, 30.0)}]
    if kind == "autoaug":
        policy = experiment.get(f"{at}.autoaug.augmentation_name", "v0")
        if policy != "v0":
            experiment.note(f"{at}.autoaug.augmentation_name", "replaced by the published policy")
        return [{"op": "auto_augment"}]
    experiment.note(f"{at}.type", "cvpipe has no such policy; left out")
    return []


def _erasing(experiment: Experiment) -> list[dict[str, Any]]:
    at = f"{TRAIN}.random_erasing"
    if not experiment.has(f"{at}.probability", f"{at}.min_area", f"{at}.max_area"):
        return []
    area = [experiment.get(f"{at}.min_area", 0.02), experiment.get(f"{at}.max_area", 1 / 3)]
    aspect = experiment.get(f"{at}.min_aspect", 0.3)
    return [
        {
            "op": "erase",
            "probability": experiment.get(f"{at}.probability", 0.25),
            "area": [round(share, 6) for share in area],
            "aspect": [aspect, round(1 / aspect, 6)],
        }
    ]


def _mix(experiment: Experiment) -> list[dict[str, Any]]:
    at = MIX
    if not _is_mixed(experiment):
        return []
    alphas = {
        "mixup": experiment.get(f"{at}.mixup_alpha", 0.8),
        "cutmix": experiment.get(f"{at}.cutmix_alpha", 1.0),
    }
    if experiment.get(f"{at}.prob", 1.0) != 1:
        experiment.note(f"{at}.prob", "here every pair is mixed")
    if experiment.get(f"{at}.switch_prob", 0.5) != 0.5:
        experiment.note(f"{at}.switch_prob", "both ways of mixing are equally likely here")
    return [{"op": op, "alpha": alpha} for op, alpha in alphas.items() if alpha > 0]


def _is_mixed(experiment: Experiment) -> bool:
    return experiment.has(MIX) and experiment.values.get(MIX, "") is not None


def _loss(experiment: Experiment) -> dict[str, Any]:
    at = "task.losses"
    is_one_hot = experiment.get(f"{at}.one_hot", True)
    experiment.get(f"{at}.soft_labels")
    own = experiment.get(f"{at}.label_smoothing", 0.0)
    is_mixed = _is_mixed(experiment)
    # Mixing smooths labels itself.
    smoothing = experiment.get(f"{MIX}.label_smoothing", 0.1) if is_mixed else own
    if experiment.get(f"{at}.use_binary_cross_entropy", False):
        key = f"{at}.use_binary_cross_entropy"
        classes = experiment.get("task.model.num_classes", 0)
        times = f"{classes:,} times" if classes else "as many times as there are classes"
        experiment.note(
            key,
            f"the mean over classes there, the sum here, so the loss is {times} as large; sgd needs"
            " a smaller learning rate",
        )
        if is_mixed:
            experiment.note(key, "there, a mixed image fully has both labels; here, in proportion")
        return {"kind": "binary"}
    if own and (is_mixed or not is_one_hot):
        experiment.note(f"{at}.label_smoothing", "has no effect there without one_hot; left out")
    if not is_mixed and not is_one_hot:
        smoothing = 0.0
    return {"kind": "softmax", **({"label_smoothing": smoothing} if smoothing else {})}
