"""The list of a split's mistakes: mistakes.csv and mistakes.html, worst first."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.atomic_write import atomic_write
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.stream import read_original
from cvpipe.documents import Block, Gallery, Heading, Picture, Table, Text, to_html
from cvpipe.errors import counted
from cvpipe.evaluation import Subject, numbers
from cvpipe.markdown import number
from cvpipe.mistakes import Review, Verdict, load_review, readable
from cvpipe.pictures.drawing import to_jpeg, to_png, try_to_draw
from cvpipe.tasks.task import Metrics

CSV, PAGE = "mistakes.csv", "mistakes.html"


class Mistakes:
    """Judges the answers of an evaluation. Pass `watch` to the evaluation, and call `write`
    afterwards.

    Memory holds only what the review keeps of each answer, no images.
    """

    def __init__(self, subject: Subject):
        """Begin a list for a run or an artifact on a split."""
        self._subject = subject
        self._review = load_review(subject.config, subject.facts)
        self._index: list[np.ndarray] = []
        # By kind of grouping and name of the group.
        self._groups: dict[tuple[str, str], Metrics] = {}

    def watch(self, batch: Mapping[str, Any], predictions: Mapping[str, np.ndarray]) -> None:
        """Judge the readable examples of a batch."""
        index, answers, targets = readable(batch, predictions)
        if not len(index):
            return
        self._review.add(answers, targets)
        self._index.append(index)
        for way, names in self._review.groups(answers, targets).items():
            for name in sorted(set(names)):
                metrics = self._groups.setdefault((way, name), self._subject.task.metrics())
                weight = np.array([own == name for own in names], np.float32)
                metrics.update(answers, targets, weight)

    def write(
        self, folder: Path, title: str, scores: Mapping[str, Any], drawn: int
    ) -> dict[str, Any]:
        """Write the table of all images, and the page, which shows the worst of them.

        Args:
            folder: an existing folder.
            title: the page's heading.
            scores: the result of the evaluation.
            drawn: number of images on the page.

        Returns:
            "images", "wrong" (images with a mistake), "table" and "page" (files).
        """
        verdicts = self._review.verdicts()
        index = np.concatenate([np.zeros(0, np.int64), *self._index])
        order = sorted(
            range(len(verdicts)),
            key=lambda n: (verdicts[n].mistakes == 0, -verdicts[n].cost, int(index[n])),
        )
        names = [self._subject.source.name(int(index[n])) for n in order]
        ranked = [verdicts[n] for n in order]
        with atomic_write(folder / CSV) as stream:
            stream.write(to_csv(names, ranked).encode("utf-8", "backslashreplace"))
        wrong = sum(verdict.mistakes > 0 for verdict in ranked)
        captions = [caption(n, names[n], own) for n, own in enumerate(ranked[:drawn])]
        chosen = index[order[:drawn]]
        pictures = list(draw_examples(self._subject, self._review, chosen, captions).values())
        blocks: list[Block] = [
            Heading(1, title),
            Text(
                f"{counted(len(ranked), 'image')}, {wrong:,} of them with mistakes. All are in"
                f" {CSV}, worst first."
            ),
            Table(
                ["score", "value"], [[name, number(own)] for name, own in numbers(scores).items()]
            ),
            *self._findings(scores),
            *self._scores_of_groups(),
            Heading(2, "Images, worst first"),
            Text(_of_shown(len(pictures), len(ranked), wrong)),
            Gallery(pictures),
        ]
        with atomic_write(folder / PAGE) as stream:
            stream.write(to_html(title, blocks).encode("utf-8", "backslashreplace"))
        files = {"table": str(folder / CSV), "page": str(folder / PAGE)}
        return {"images": len(ranked), "wrong": wrong, **files}

    def _findings(self, scores: Mapping[str, Any]) -> list[Block]:
        blocks: list[Block] = []
        for n, finding in enumerate(self._review.findings(scores)):
            blocks += [Heading(2, finding.title), Text(finding.text)]
            blocks += [finding.table] if finding.table else []
            content = finding.figure and try_to_draw(finding.title, partial(to_png, finding.figure))
            blocks += [Picture(finding.title, f"finding-{n}.png", content)] if content else []
        return blocks

    def _scores_of_groups(self) -> list[Block]:
        score, blocks = self._subject.task.best_by.score, list[Block]()
        for way in dict.fromkeys(way for way, _ in self._groups):
            found = {
                name: metrics.result()
                for (own, name), metrics in self._groups.items()
                if own == way
            }
            rows = [
                [name, str(own["images"]), number(own[score])]
                for name, own in sorted(found.items(), key=lambda item: _natural(item[0]))
            ]
            blocks += [Heading(2, f"By {way}"), Table([way, "images", score], rows)]
        return blocks


def to_csv(names: Sequence[str], ranked: Sequence[Verdict]) -> str:
    """Return a table of verdicts with the names of their images, in their order."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = list(ranked[0].cells) if ranked else []
    writer.writerow(["rank", "image", "mistakes", "cost", *columns])
    for rank, (name, verdict) in enumerate(zip(names, ranked, strict=True), 1):
        cells = (verdict.cells[column] for column in columns)
        writer.writerow([rank, name, verdict.mistakes, round(verdict.cost, 4), *cells])
    return text.getvalue()


def draw_examples(
    subject: Subject, review: Review, index: np.ndarray, captions: Sequence[str]
) -> dict[int, Picture]:
    """Predict some examples of a split again, and draw them one by one.

    Args:
        index: int64 [n], positions in the split.
        captions: n captions.

    Returns:
        Pictures by their place in `index`; those that can't be drawn are left out.
    """
    pictures: dict[int, Picture] = {}
    part = subject.source.subset(index)
    for batch, predictions in subject.answer(part, Quarantine(part, "chosen", 1.0)):
        for n in np.flatnonzero(batch["weight"]).tolist():
            place = int(batch["index"][n])
            pixels = read_original(part, place, subject.config.prepare.channels)
            one = tf.nest.map_structure(
                lambda values, n=n: values[n : n + 1], (predictions, batch["targets"])
            )
            name = part.name(place)
            figure = try_to_draw(name, partial(review.draw, pixels, *one))
            content = figure and try_to_draw(name, partial(to_jpeg, figure))
            if content:
                pictures[place] = Picture(captions[place], f"{place:05}.jpg", content)
    return pictures


def caption(place: int, name: str, verdict: Verdict) -> str:
    """Return the caption of an image's picture, given its place in the order from 0."""
    told = ", ".join(
        f"{column.replace('_', ' ')} {cell}" for column, cell in verdict.cells.items() if cell != ""
    )
    return f"{place + 1}. {name}\n{told}"


def _of_shown(shown: int, images: int, wrong: int) -> str:
    if shown >= images:
        return "All images are shown."
    if shown >= wrong:
        return f"The {shown:,} worst of {images:,} images are shown; the others are right."
    return f"The {shown:,} worst of {wrong:,} images with mistakes are shown."


def _natural(name: str) -> tuple[bool, int, str]:
    """Order groups such as 2–3 and 16–31, or 5% and more, by their first number."""
    digits = "".join(letter if letter.isdigit() else " " for letter in name).split()
    return not name.startswith("below"), int(digits[0]) if digits else 0, name
