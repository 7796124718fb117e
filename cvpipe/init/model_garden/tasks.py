"""The task of an experiment, told by its keys: files don't name it."""

from __future__ import annotations

from cvpipe.errors import ConfigError
from cvpipe.init.model_garden.experiment import Experiment

_OTHERS: dict[str, tuple[str, ...]] = {
    "a detector of two stages": ("task.model.rpn_head", "task.model.roi_generator"),
    "a video model": ("task.train_data.feature_shape", "task.train_data.temporal_stride"),
    "a language model": ("task.model.encoder", "task.train_data.seq_length"),
}
"""Keys by which tasks are told that aren't translated."""
_MARKS: dict[str, tuple[str, ...]] = {
    "detection": (
        "task.model.anchor",
        "task.model.detection_generator",
        "task.train_data.parser",
        "task.annotation_file",
        "task.losses.focal_loss_alpha",
        "task.losses.focal_loss_gamma",
        "task.losses.huber_loss_delta",
        "task.losses.box_loss_weight",
    ),
    "segmentation": (
        "task.model.decoder",
        "task.model.head",
        "task.losses.ignore_label",
        "task.losses.top_k_percent_pixels",
        "task.train_data.output_size",
        "task.train_data.crop_size",
        "task.validation_data.resize_eval_groundtruth",
        "task.evaluation.report_per_class_iou",
    ),
    "classification": (
        "task.model.backbone",
        "task.model.num_classes",
        "task.losses.one_hot",
        "task.train_data.aug_type",
        "task.train_data.label_field_key",
    ),
}
"""Keys by which a task is told; those of the tasks before have been looked for then."""


def task_of(experiment: Experiment) -> str:
    """Return classification, detection or segmentation.

    Raises:
        ConfigError: it is none of them.
    """
    for name, keys in _OTHERS.items():
        if experiment.has(*keys):
            raise ConfigError(
                f"--model-garden: this is {name}, which has no translation; give an experiment of"
                " image classification, RetinaNet or semantic segmentation"
            )
    for task, keys in _MARKS.items():
        if experiment.has(*keys):
            return task
    raise ConfigError(
        "--model-garden: the keys don't tell the task: none of task.model.backbone,"
        " task.model.num_classes or others is there; give an experiment of official.vision, or name"
        " its task with --task"
    )
