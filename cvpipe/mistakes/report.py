"""The list of a split's mistakes, worst first: mistakes.csv, mistakes.html, and slices.csv with
scores by columns of the data's files.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.atomic_write import atomic_write
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.samples import read_original
from cvpipe.documents import Block, Gallery, Heading, Picture, Table, Text, to_html
from cvpipe.errors import counted
from cvpipe.evaluation import Subject, numbers
from cvpipe.markdown import number
from cvpipe.mistakes import Review, Verdict, load_review, readable
from cvpipe.mistakes.slices import group_values
from cvpipe.pictures.drawing.render import to_jpeg, to_png, try_to_draw
from cvpipe.tasks.task import Metrics

CSV, PAGE, SLICES = "mistakes.csv", "mistakes.html", "slices.csv"


class Group(NamedTuple):
    """Examples that are scored separately."""

    name: str
    images: int
    score: float
    """The score that selects the best checkpoint."""


class Mistakes:
    """Judges the answers of an evaluation. Pass `watch` to the evaluation, and call `write`
    afterwards.

    Images aren't kept in memory, only the data of each answer that the review needs.
    """

    def __init__(self, subject: Subject, columns: Sequence[str] = ()):
        """Begin a list for a run or an artifact on a split.

        Args:
            columns: columns of the data's files; each value is scored separately.

        Raises:
            DataError: there is no such column.
        """
        self._subject = subject
        self._columns = {column: subject.source.column(column, "--slice") for column in columns}
        self._slices = {column: group_values(values) for column, values in self._columns.items()}
        self._review = load_review(subject.config, subject.facts)
        self._index: list[np.ndarray] = []
        # By kind of grouping and name of the group.
        self._groups: dict[str, dict[str, Metrics]] = {}

    def watch(self, batch: Mapping[str, Any], predictions: Mapping[str, np.ndarray]) -> None:
        """Judge the readable examples of a batch."""
        index, answers, targets = readable(batch, predictions)
        if not len(index):
            return
        self._review.add(answers, targets)
        self._index.append(index)
        sliced = {
            column: [groups.of_each[n] for n in index.tolist()]
            for column, groups in self._slices.items()
        }
        for kind, names in {**self._review.groups(answers, targets), **sliced}.items():
            groups = self._groups.setdefault(kind, {})
            for name in sorted(set(names)):
                metrics = groups.setdefault(name, self._subject.task.metrics())
                weight = np.array([other == name for other in names], np.float32)
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
            "images", "wrong" (images with a mistake), "table" and "page" (files), and "slices", a
            list of `Group` for each column.
        """
        verdicts = self._review.verdicts()
        groups = self._scores_of_groups()
        index = np.concatenate([np.zeros(0, np.int64), *self._index])
        order = sorted(
            range(len(verdicts)),
            key=lambda n: (verdicts[n].mistakes == 0, -verdicts[n].cost, int(index[n])),
        )
        names = [self._subject.source.name(int(index[n])) for n in order]
        ranked = [self._with_columns(verdicts[n], int(index[n])) for n in order]
        with atomic_write(folder / CSV) as stream:
            stream.write(to_csv(names, ranked).encode("utf-8", "backslashreplace"))
        wrong = sum(verdict.mistakes > 0 for verdict in ranked)
        captions = [caption(n, names[n], verdict) for n, verdict in enumerate(ranked[:drawn])]
        chosen = index[order[:drawn]]
        pictures = list(draw_examples(self._subject, self._review, chosen, captions).values())
        blocks: list[Block] = [
            Heading(1, title),
            Text(
                f"{counted(len(ranked), 'image')}, {wrong:,} of them with mistakes. All are in"
                f" {CSV}, worst first."
            ),
            Table(
                ["score", "value"],
                [[name, number(value)] for name, value in numbers(scores).items()],
            ),
            *self._findings(scores),
            *self._group_blocks(groups),
            Heading(2, "Images, worst first"),
            Text(_of_shown(len(pictures), len(ranked), wrong)),
            Gallery(pictures),
        ]
        with atomic_write(folder / PAGE) as stream:
            stream.write(to_html(title, blocks).encode("utf-8", "backslashreplace"))
        files = {"table": str(folder / CSV), "page": str(folder / PAGE)}
        slices = {column: groups.get(column, []) for column in self._columns}
        if slices:
            with atomic_write(folder / SLICES) as stream:
                text = slices_to_csv(slices, self._subject.task.best_by.score)
                stream.write(text.encode("utf-8", "backslashreplace"))
            files["slice_table"] = str(folder / SLICES)
        by_column = {column: [group._asdict() for group in each] for column, each in slices.items()}
        return {"images": len(ranked), "wrong": wrong, **files, "slices": by_column}

    def _with_columns(self, verdict: Verdict, index: int) -> Verdict:
        """Add an example's values to the cells, unless the task has a cell of that name."""
        values = {column: values[index] for column, values in self._columns.items()}
        return verdict._replace(cells={**values, **verdict.cells})

    def _findings(self, scores: Mapping[str, Any]) -> list[Block]:
        blocks: list[Block] = []
        for n, finding in enumerate(self._review.findings(scores)):
            blocks += [Heading(2, finding.title), Text(finding.text)]
            blocks += [finding.table] if finding.table else []
            content = finding.figure and try_to_draw(finding.title, partial(to_png, finding.figure))
            blocks += [Picture(finding.title, f"finding-{n}.png", content)] if content else []
        return blocks

    def _scores_of_groups(self) -> dict[str, list[Group]]:
        """Return the scored groups of each kind of grouping, in order."""
        score, found = self._subject.task.best_by.score, dict[str, list[Group]]()
        for kind, groups in self._groups.items():
            results = {name: metrics.result() for name, metrics in groups.items()}
            slices = self._slices.get(kind)
            names = slices.order if slices else sorted(results, key=_natural)
            found[kind] = [
                Group(name, results[name]["images"], results[name][score])
                for name in names
                if name in results
            ]
        return found

    def _group_blocks(self, groups: Mapping[str, Sequence[Group]]) -> list[Block]:
        score, blocks = self._subject.task.best_by.score, list[Block]()
        for kind, each in groups.items():
            rows = [[group.name, f"{group.images:,}", number(group.score)] for group in each]
            blocks += [Heading(2, f"By {kind}"), Table([kind, "images", score], rows)]
        return blocks


def slices_to_csv(slices: Mapping[str, Sequence[Group]], score: str) -> str:
    """Return a table of the groups of each column."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["column", "value", "images", score])
    for column, groups in slices.items():
        writer.writerows([column, *group] for group in groups)
    return text.getvalue()


def to_csv(names: Sequence[str], ranked: Sequence[Verdict]) -> str:
    """Return a table of verdicts with the names of their images, in the given order."""
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
    """Predict some examples of a split again, and draw them example by example.

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
            example = tf.nest.map_structure(
                lambda values, n=n: values[n : n + 1], (predictions, batch["targets"])
            )
            name = part.name(place)
            figure = try_to_draw(name, partial(review.draw, pixels, *example))
            content = figure and try_to_draw(name, partial(to_jpeg, figure))
            if content:
                pictures[place] = Picture(captions[place], f"{place:05}.jpg", content)
    return pictures


def caption(place: int, name: str, verdict: Verdict) -> str:
    """Return the caption of an image. `place` is its rank, from 0 for the worst image."""
    cells = ", ".join(
        f"{column.replace('_', ' ')} {cell}" for column, cell in verdict.cells.items() if cell != ""
    )
    return f"{place + 1}. {name}\n{cells}"


def _of_shown(shown: int, images: int, wrong: int) -> str:
    if shown >= images:
        return "All images are shown."
    if shown >= wrong:
        return f"The {shown:,} worst of {images:,} images are shown; the others have no mistakes."
    return f"The {shown:,} worst of {wrong:,} images with mistakes are shown."


def _natural(name: str) -> tuple[bool, int, str]:
    """Order groups such as 2–3 and 16–31, or 5% and more, by their first number."""
    digits = "".join(letter if letter.isdigit() else " " for letter in name).split()
    return not name.startswith("below"), int(digits[0]) if digits else 0, name
