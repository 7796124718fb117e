"""Detection of an experiment's task from its keys, because files don't name the task."""

from __future__ import annotations

from cvpipe.errors import ConfigError
from cvpipe.init.model_garden.experiment import Experiment

_OTHERS: dict[str, tuple[str, ...]] = {
    "a two-stage detector": ("task.model.rpn_head", "task.model.roi_generator"),
    "a video model": ("task.train_data.feature_shape", "task.train_data.temporal_stride"),
    "a language model": ("task.model.encoder", "task.train_data.seq_length"),
}
"""Keys of tasks that aren't supported."""
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
"""Keys that identify a task. Tasks are tested in this order, so a key may also belong to earlier
tasks.
"""


def task_of(experiment: Experiment) -> str:
    """Return classification, detection or segmentation.

    Raises:
        ConfigError: the experiment's task is none of these.
    """
    for name, keys in _OTHERS.items():
        if experiment.has(*keys):
            raise ConfigError(
                f"--model-garden: {name} can't be translated; give an experiment of"
                " image classification, RetinaNet or semantic segmentation"
            )
    for task, keys in _MARKS.items():
        if experiment.has(*keys):
            return task
    raise ConfigError(
        "--model-garden: the task can't be detected, because keys such as task.model.backbone and"
        " task.model.num_classes are missing; give an experiment of official.vision, or its task"
        " with --task"
    )
