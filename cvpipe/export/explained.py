"""The signature `explain`: the answers, and maps that explain the class with the highest score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from cvpipe.config import Config
from cvpipe.errors import ConfigError
from cvpipe.evaluation import Predict
from cvpipe.explain.explain import exported_methods
from cvpipe.fields import Field
from cvpipe.tasks.task import Networks, Task

EXPLAIN = "explain"
"""Name of the signature."""
EXPLAINED_CLASS = "explained_class"
"""Output of that signature for the class with the highest score, int32 [B]."""


Maps = Callable[[tf.Tensor], Mapping[str, tf.Tensor]]
"""Maps prepared images to the answers of `map_fields`."""


def make_maps(members: Sequence[Networks], task: Task, config: Config) -> Maps:
    """Return the function that explains a network by the methods in `export.explain`.

    Raises:
        ConfigError: the model is an ensemble, the task has no classes, an image has several views,
            or a method doesn't support the network.
    """
    if len(members) > 1:
        raise ConfigError("export.explain: an ensemble has no single network; export one run")
    subject, methods = exported_methods(members[0], task, config)

    def maps(image: tf.Tensor) -> Mapping[str, tf.Tensor]:
        classes = tf.argmax(subject.all_scores(image), axis=1, output_type=tf.int32)
        importances = {name: method(image, classes) for name, method in methods.items()}
        return {EXPLAINED_CLASS: classes, **importances}

    return maps


def with_maps(predict: Predict, maps: Maps) -> Predict:
    """Return a function that adds the maps to the answers of `predict`, for the same network."""

    @tf.function(reduce_retracing=True)
    @tf.autograph.experimental.do_not_convert
    def explained(
        image: tf.Tensor, extent: tf.Tensor | None = None, **options: tf.Tensor
    ) -> Mapping[str, tf.Tensor]:
        found = maps(image)
        return {**predict(image, extent, **options), **found}

    return explained


def map_fields(config: Config) -> dict[str, Field]:
    """Return the fields of the answers that `make_maps` adds: `EXPLAINED_CLASS`, and a map for each
    method in `export.explain`. Without methods, there are no such answers.
    """
    if not config.export.explain:
        return {}
    index = Field("exact", meaning="[B]: number of the class with the highest score, from 0")
    importance = Field(
        meaning="[B, H, W]: importance of each pixel of the prepared image for that class"
    )
    return {EXPLAINED_CLASS: index} | dict.fromkeys(config.export.explain, importance)
