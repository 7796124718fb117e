"""Knowledge distillation from a trained network (Hinton et al. 2015)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.train import Teacher
from cvpipe.data.example import Batch
from cvpipe.data.facts import Facts
from cvpipe.errors import ConfigError, DataError
from cvpipe.tasks.task import Imitate, Networks, Task, Tensors, Update
from cvpipe.training.build import load_networks
from cvpipe.training.outputs import outputs_differ
from cvpipe.training.run import Run
from cvpipe.user_paths import find_path

PREFIX = "teacher_"


def with_teacher(task: Task, config: Config, facts: Facts) -> Task:
    """Return the task with distillation from the run `train.teacher`; the task itself without this
    key.

    Call this in the strategy's scope, because it loads the teacher's networks.

    Raises:
        ConfigError: the task doesn't support distillation.
        DataError: the run does not exist, or its task, classes, image preparation or outputs differ
            from the pipeline's.
    """
    teacher = config.train.teacher
    if teacher is None:
        return task
    if task.imitate is None:
        raise ConfigError(
            f"train.teacher: task: {config.task} does not support a teacher; remove the key"
        )
    run = Run(find_path(teacher.run))
    _check_fits(run, config, facts)
    networks = load_networks(run, run.checkpoint(run.config.export.checkpoint))
    return distilled(task, task.imitate, networks, teacher)


def distilled(
    task: Task, imitate: Imitate, teachers: Mapping[str, keras.Model], section: Teacher
) -> Task:
    """Return the task with distillation added to each update.

    The loss is (1 − weight) × the task's loss + weight × the distance from the teacher's outputs
    for the same inputs. Teachers are frozen and not saved in checkpoints.

    Args:
        task: the task.
        imitate: the task's `Task.imitate`.
        teachers: a trained network for each network of the task, by name.
        section: temperature and weight of the distillation loss.
    """
    frozen = {f"{PREFIX}{name}": teacher for name, teacher in teachers.items()}
    for teacher in frozen.values():
        teacher.trainable = False
    return dataclasses.replace(
        task,
        build=lambda synchronized: {**task.build(synchronized), **frozen},
        updates=tuple(_with_distillation(update, imitate, section) for update in task.updates),
        frozen=(*task.frozen, *frozen),
    )


def _with_distillation(update: Update, imitate: Imitate, section: Teacher) -> Update:
    def losses(networks: Networks, batch: Batch, seed: tf.Tensor) -> Tensors:
        calls: list[tuple[str, tuple[Any, ...], Tensors]] = []

        def watched(name: str) -> Any:
            def student(*inputs: Any, training: bool) -> Tensors:
                outputs = networks[name](*inputs, training=training)
                calls.append((name, inputs, outputs))
                return outputs

            return student

        # Record the calls of networks by the task's losses, and repeat the calls with the teachers.
        students = {name: watched(name) for name in update.moves}
        own = update.losses({**networks, **students}, batch, seed)
        distances = [
            imitate(
                outputs, networks[f"{PREFIX}{name}"](*inputs, training=False), section.temperature
            )
            for name, inputs, outputs in calls
        ]
        share = section.weight
        return {
            **{name: (1 - share) * part for name, part in own.items()},
            "teacher": share * tf.add_n(distances),
        }

    return dataclasses.replace(update, losses=losses)


def _check_fits(run: Run, config: Config, facts: Facts) -> None:
    taught = run.config
    if taught.task != config.task:
        raise DataError(
            f"train.teacher.run: {run.folder}: its task is {taught.task}, but the pipeline's is"
            f" {config.task}; give a run of the same task"
        )
    if run.facts != facts:
        raise DataError(
            f"train.teacher.run: {run.folder}: was trained on classes that differ from the"
            f" pipeline's: {', '.join(run.facts.class_names)}; give a run on the same data"
        )
    if taught.prepare != config.prepare:
        raise DataError(
            f"train.teacher.run: {run.folder}: was trained with another image preparation; give the"
            " pipeline the same 'prepare' section"
        )
    if difference := outputs_differ(taught, config):
        key, theirs, ours = difference
        raise DataError(
            f"train.teacher.run: {run.folder}: its {key} is {theirs}, but the pipeline's is {ours},"
            " so that the outputs of the networks don't correspond; give a teacher with the same"
            f" {key}, or change the pipeline's"
        )
