"""Selection of evaluated examples for pictures."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from cvpipe.config import Config
from cvpipe.data.prepare import restore_pixels
from cvpipe.evaluation import joined
from cvpipe.fields import Field, concatenate_padded
from cvpipe.pictures import Pictures
from cvpipe.pictures.drawing.render import try_to_draw
from cvpipe.tasks.task import Task

SHOWN_IMAGES = 32
# Limit of the number of values in all shown images; each takes one to four bytes.
SHOWN_VALUES = 50_000_000
# Images that keep their own size are padded to a common size.
IMAGE = Field(padding=0)


class Shown(NamedTuple):
    """A selected example."""

    rank: int
    """Examples with lower ranks are preferred."""
    arrays: dict[str, Any]
    """"image", "targets" and "predictions", [1, …] each."""


class ShownExamples:
    """Selects a few examples of a split, with their answers. Pass `watch` to `evaluate`.

    All kinds of `Pictures.kinds` get the same number of examples, if the split has enough. The
    selection depends only on the split and the answers. Only the selected examples and one batch
    are in memory.
    """

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        # By kind, sorted by rank.
        self._kept: dict[int, list[Shown]] = {}

    def watch(self, batch: Mapping[str, Any], predictions: Mapping[str, np.ndarray]) -> None:
        """Add the examples of a batch, and drop those that exceed the limits."""
        every = {"image": batch["image"], "targets": batch["targets"], "predictions": predictions}
        kinds = self._pictures.kinds(batch["targets"], predictions)
        for n in np.flatnonzero(batch["weight"]).tolist():
            arrays = tf.nest.map_structure(lambda values, n=n: values[n : n + 1], every)
            own = self._kept.setdefault(int(kinds[n]), [])
            bisect.insort(own, Shown(_rank(int(batch["index"][n])), arrays), key=_rank_of)
            self._drop_excess()
        # Copy the kept slices, which would otherwise keep their whole batch in memory.
        for own in self._kept.values():
            own[:] = [Shown(rank, tf.nest.map_structure(_owned, arrays)) for rank, arrays in own]

    def in_order(self) -> list[dict[str, Any]]:
        """Return the examples, alternating between kinds, so that the first few show many kinds."""
        places = [
            (place, shown.rank, shown.arrays)
            for own in self._kept.values()
            for place, shown in enumerate(own)
        ]
        return [arrays for _, _, arrays in sorted(places, key=lambda place: place[:2])]

    def draw(self, task: Task, config: Config) -> Figure | None:
        """Draw the examples; None if there are none."""
        shown = self.in_order()
        if not shown:
            return None
        images = concatenate_padded([own["image"] for own in shown], IMAGE)
        # If an image has several views, show the first, which is the center of the image.
        pixels = restore_pixels(
            tf.constant(images[:, 0] if images.ndim == 5 else images), config.prepare
        ).numpy()
        targets = joined([own["targets"] for own in shown], task.targets)
        answers = joined([own["predictions"] for own in shown], task.answers)
        return self._pictures.draw_answers(pixels, targets, answers)

    def _drop_excess(self) -> None:
        """Drop examples of the most frequent kind until the limits are met."""
        sizes = [shown.arrays["image"].size for own in self._kept.values() for shown in own]
        count, values = len(sizes), sum(sizes)
        while count > SHOWN_IMAGES or (values > SHOWN_VALUES and count > 1):
            largest = max(self._kept.values(), key=lambda own: (len(own), own[-1].rank))
            dropped = largest.pop()
            self._kept = {kind: own for kind, own in self._kept.items() if own}
            count, values = count - 1, values - dropped.arrays["image"].size


def draw_evaluation(
    pictures: Pictures, shown: ShownExamples, scores: Mapping[str, Any], task: Task, config: Config
) -> dict[str, Figure]:
    """Draw examples and figures of the scores, by name. Figures that can't be drawn are skipped
    with a warning.
    """
    answers = try_to_draw("predictions", partial(shown.draw, task, config))
    counted = try_to_draw("figures of scores", partial(pictures.draw_scores, scores))
    return {**({"predictions": answers} if answers else {}), **(counted or {})}


def _rank(index: int) -> int:
    """Return the rank of an example by its position in the split.

    Fractional parts of multiples of the golden ratio are spread evenly (Knuth, The Art of Computer
    Programming, volume 3, section 6.4). Therefore the examples with the lowest ranks are spread
    evenly over the split.
    """
    return index * 11_400_714_819_323_198_485 % 2**64


def _rank_of(shown: Shown) -> int:
    return shown.rank


def _owned(values: np.ndarray) -> np.ndarray:
    return values if values.base is None else values.copy()
