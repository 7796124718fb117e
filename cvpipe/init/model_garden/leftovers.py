"""Report of the keys of an experiment that haven't been translated."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from cvpipe.init.model_garden.experiment import Experiment, shown
from cvpipe.init.model_garden.usual import USUAL

_DATA: tuple[str, ...] = ("task.train_data", "task.validation_data")
_LEFT = {
    "Decided by cvpipe's loop": (
        "trainer.*_tf_*",
        "trainer.allow_tpu_summary",
        "trainer.steps_per_loop",
        "trainer.*_interval",
        "trainer.*_timeout",
        "trainer.validation_steps",
        "trainer.validation_summary_subdir",
        "trainer.best_checkpoint_*",
        "trainer.preemption_on_demand_checkpoint",
        "trainer.loss_upper_bound",
        "trainer.recovery_*",
    ),
    "Decided by the machine that trains": ("runtime.*", "task.model.norm_activation.use_sync_bn"),
    "Decided by cvpipe's input": (
        *(
            f"{data}.{key}"
            for data in _DATA
            for key in (
                "shuffle_buffer_size",
                "cache",
                "cycle_length",
                "block_length",
                "ram_budget",
                "deterministic",
                "sharding",
                "*tf_data_service*",
                "tfds_as_supervised",
                "tfds_skip_decoding_feature",
                "trainer_id",
                "seed",
                "prefetch_buffer_size",
                "autotune_algorithm",
                "dtype",
                "drop_remainder",
                "is_training",
                "file_type",
                "decoder.*",
                "decode_jpeg_only",
                "tf_resize_method",
            )
        ),
    ),
    "Decided by cvpipe, which prepares and scores validation images as in serving": (
        "task.validation_data.*",
        "task.evaluation.*",
        "task.*_metrics",
        "task.max_num_eval_detections",
        "task.annotation_file",
    ),
    "No counterpart in cvpipe": (
        "restrictions",
        "restrictions.*",
        "task.name",
        "task.allow_image_summary",
        "task.differential_privacy_config*",
        "task.init_checkpoint_modules",
        "task.*_input_partition_dims",
        "task.model_output_keys",
        "task.export_config*",
        "task.model.backbone.*",
        "task.model.decoder*",
        "task.model.head*",
        "task.model.mask_scoring_head*",
        "task.model.kernel_initializer",
        "task.model.add_head_batch_norm",
        "task.model.output_softmax",
        "task.model.min_level",
        "task.model.max_level",
        "task.losses.*",
        "trainer.optimizer_config.*",
        "task.train_data.aug_*",
        "task.train_data.weights",
        "task.train_data.is_multilabel",
        "task.train_data.tfds_*",
        "task.train_data.three_augment",
        "task.train_data.color_jitter",
        "task.train_data.random_erasing*",
        "task.train_data.mixup_and_cutmix*",
        "task.train_data.randaug_magnitude",
        "task.train_data.center_crop_fraction",
        "task.train_data.repeated_augment",
        "task.train_data.crop_area_range",
        "task.train_data.parser.*",
        "task.train_data.image_feature.*",
        "task.train_data.additional_dense_features",
        "task.train_data.preserve_aspect_ratio",
        "task.train_data.centered_crop",
        "task.train_data.groundtruth_padded_size",
        "task.train_data.resize_eval_groundtruth",
        "task.model.detection_generator.*",
        "task.model.anchor.*",
    ),
}
"""Keys of Model Garden by the reason why they aren't translated; the first match counts."""
_CHOICES = (
    "task.model.backbone",
    "task.model.decoder",
    *(f"{data}.{key}" for data in _DATA for key in ("decoder", "aug_type", "parser.aug_type")),
    *(f"trainer.optimizer_config.{key}" for key in ("optimizer", "learning_rate", "warmup")),
)
"""Keys whose `type` selects one of the mappings below them."""
_OFF: tuple[Any, ...] = ("", False, 0, 0.0, [], {})
"""Values that turn a key of Model Garden off. For keys in `USUAL`, its values apply instead."""
_UNCHOSEN = "Unused by Model Garden, because another type is selected"


def leftovers(experiment: Experiment) -> list[str]:
    """Return a sentence for each reason, with all its keys, and one for each unknown key.

    Keys of Model Garden that are off or have their default value are left out.
    """
    left: dict[str, list[str]] = {}
    unknown = []
    for path, value in experiment.values.items():
        if path in experiment.taken:
            continue
        if _is_unchosen(experiment, path):
            if path in experiment.places:
                left.setdefault(_UNCHOSEN, []).append(f"{path}: {shown(value)}")
            continue
        reason = _reason(path)
        if reason is None:
            place = experiment.places.get(path)
            unknown.append(
                f"{path}: {shown(value)}: not understood" + (f" ({place})." if place else ".")
            )
        elif not _is_usual(path, value):
            left.setdefault(reason, []).append(f"{path}: {shown(value)}")
    return [*unknown, *(f"{reason}: {', '.join(keys)}." for reason, keys in left.items())]


def _is_unchosen(experiment: Experiment, path: str) -> bool:
    """Return True if the value belongs to a mapping that `type` doesn't select."""
    for choice in _CHOICES:
        if path.startswith(f"{choice}.") and path.count(".") > choice.count(".") + 1:
            below = path.removeprefix(f"{choice}.").split(".")[0]
            return below != experiment.values.get(f"{choice}.type", below)
    return False


def _is_usual(path: str, value: Any) -> bool:
    usual = USUAL.get(path.rsplit(".", 1)[-1], _OFF)
    # The type is compared, too, because True == 1 in Python.
    return value is None or any(value == other and type(value) is type(other) for other in usual)


def _reason(path: str) -> str | None:
    return next(
        (
            reason
            for reason, patterns in _LEFT.items()
            if any(fnmatchcase(path, pattern) for pattern in patterns)
        ),
        None,
    )
