"""Errors of models under common corruptions (Hendrycks and Dietterich 2019, section 4).

Dimensions: M models, V corruptions × severities, N images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from cvpipe.config import Config
from cvpipe.data.altered import altered
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source
from cvpipe.errors import ConfigError
from cvpipe.evaluation import Subject
from cvpipe.explain.corruption import corrupt
from cvpipe.metrics.intervals import bootstrap, interval
from cvpipe.mistakes import Review, has_review, load_review, readable

Say = Callable[[str], None]


class Scores(NamedTuple):
    """Scores of a model on a split, corrupted in one way or not at all."""

    score: float
    """The task's score of the whole split, such as its AP50."""
    images: dict[int, float]
    """Score of each image, `Verdict.score`, by its position; nan if there is nothing to find."""


class Measured(NamedTuple):
    """A model's scores without corruption, and with each corruption at each severity."""

    clean: Scores
    corrupted: dict[tuple[str, int], Scores]


def check_scored(config: Config) -> None:
    """Raise ConfigError if the pipeline's task has no scores of single images."""
    if not has_review(config):
        raise ConfigError(
            f"task: {config.task}: can't be corrupted, because the task has no scores of single"
            " images"
        )


def measure(
    subject: Subject,
    split: str,
    kinds: Sequence[str],
    severities: Sequence[int],
    seed: int,
    say: Say,
    thresholds: np.ndarray | None = None,
) -> Measured:
    """Score a model on the readable images of its source, clean and corrupted. The pipeline must
    pass `check_scored`.

    Images are corrupted at their own size, before they are prepared for the network.

    Args:
        subject: the model and its images.
        split: name of the images' split, for messages.
        kinds: names of CORRUPTIONS.
        severities: 1 to 5.
        seed: at least 0; the random draws depend on the seed and the record's number.
        say: called with the name of each corruption when it is measured.
        thresholds: score thresholds of `Review.thresholds`; None to choose them on the clean
            images, if the task has thresholds.

    Raises:
        DataError: more records are bad than the pipeline allows.
    """
    review = load_review(subject.config, subject.facts)
    review.thresholds = thresholds
    clean = _score(subject, subject.source, split, review)
    # Unreadable images are reported once, not once for each corruption.
    usable = subject.source.subset(np.array(sorted(clean.images)))
    place = dict(enumerate(sorted(clean.images)))
    corrupted = {}
    for kind in kinds:
        for severity in severities:

            def alter(
                image: np.ndarray, record: int, how: tuple[str, int] = (kind, severity)
            ) -> Any:
                return corrupt(image, *how, (seed, record))

            channels = subject.config.prepare.channels
            corrupted_review = load_review(subject.config, subject.facts)
            # Thresholds chosen on corrupted images would hide a part of their errors.
            corrupted_review.thresholds = review.thresholds
            found = _score(subject, altered(usable, alter, channels), split, corrupted_review)
            images = {place[position]: score for position, score in found.images.items()}
            corrupted[kind, severity] = found._replace(images=images)
        say(kind)
    return Measured(clean, corrupted)


def summarize(
    models: Sequence[Measured], kinds: Sequence[str], severities: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the errors of models on the images that could be scored for all models and
    corruptions.

    An error is 1 − the mean score of images. Intervals are bootstrapped over images.

    Returns:
        A row for each model: "images", their number; "clean" with "error", "interval" and "score",
        the task's score; "corruptions" by name, each with "error" and "interval" of the mean over
        severities, and "severities", a list with "severity", "error", "interval" and "score";
        "mean_error", the mean over corruptions, with "mean_error_interval". Rows after the first
        also have "mce", the mean over corruptions of the error divided by the first model's
        (equation 1), and "relative_mce", the same ratio of the increases over the clean error
        (equation 2), both with intervals.

    Raises:
        ConfigError: no image has a score.
    """
    cells = [(kind, severity) for kind in kinds for severity in severities]
    each = [[model.clean, *(model.corrupted[cell] for cell in cells)] for model in models]
    common = [
        place
        for place in each[0][0].images
        if all(np.isfinite(s.images.get(place, np.nan)) for scores in each for s in scores)
    ]
    if not common:
        raise ConfigError("the split has no image that all corruptions can be scored on")
    errors = 1 - np.array(
        [[[s.images[place] for place in common] for s in scores] for scores in each]
    )  # [M, 1 + V, N]
    flat = errors.reshape(-1, len(common))
    drawn = bootstrap(flat).reshape(*errors.shape[:2], -1)  # [M, 1 + V, resamples]
    found = np.concatenate([errors.mean(axis=2, keepdims=True), drawn], axis=2)
    clean, by_kind = found[:, 0], found[:, 1:].reshape(len(models), len(kinds), len(severities), -1)
    rows = []
    for n, model in enumerate(models):
        row: dict[str, Any] = {
            "images": len(common),
            "clean": {**_error(clean[n]), "score": model.clean.score},
            "corruptions": {
                kind: {
                    **_error(by_kind[n, k].mean(axis=0)),
                    "severities": [
                        {
                            **_error(by_kind[n, k, s]),
                            "severity": severity,
                            "score": model.corrupted[kind, severity].score,
                        }
                        for s, severity in enumerate(severities)
                    ],
                }
                for k, kind in enumerate(kinds)
            },
            **_error(by_kind[n].mean(axis=(0, 1)), "mean_error"),
        }
        if n:
            ratios = mean_ratio(by_kind[n].sum(axis=1), by_kind[0].sum(axis=1))
            row |= _error(ratios, "mce")
            increases = [(by_kind[m] - clean[m]).sum(axis=1) for m in (n, 0)]
            row |= _error(mean_ratio(*increases), "relative_mce")
        rows.append(row)
    return rows


def mean_ratio(errors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis of errors / reference; nan if a reference is 0."""
    ratios = np.full_like(errors, np.nan)
    np.divide(errors, reference, out=ratios, where=reference != 0)
    return ratios.mean(axis=0)


def _error(values: np.ndarray, name: str = "error") -> dict[str, Any]:
    """Return a number and its interval, given the number followed by its resampled values."""
    bounds = interval(values[1:]) if np.isfinite(values).all() else (np.nan, np.nan)
    return {name: float(values[0]), f"{name}_interval" if name != "error" else "interval": bounds}


def _score(subject: Subject, source: Source, split: str, review: Review) -> Scores:
    quarantine = Quarantine(source, split, subject.config.data.max_bad_share)
    metrics, index = subject.task.metrics(), list[int]()
    for batch, predictions in subject.answer(source, quarantine):
        metrics.update(predictions, batch["targets"], batch["weight"])
        usable = readable(batch, predictions)
        if len(usable.position):
            review.add(usable.predictions, usable.targets)
            index.extend(usable.position.tolist())
    quarantine.check()
    scores = {n: verdict.score for n, verdict in zip(index, review.verdicts(), strict=True)}
    return Scores(float(metrics.result()[subject.task.best_by.score]), scores)
