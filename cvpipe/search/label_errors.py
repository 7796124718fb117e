"""Ranking of labels that are probably wrong, from the runs of a cross-validation.

Each run predicts the part of the data that it held out, so every image is predicted once, by a
model that wasn't trained on it. The results are label_errors.csv and label_errors.html.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvpipe.atomic_write import atomic_write
from cvpipe.config.data import Fold
from cvpipe.documents import Block, Gallery, Heading, Picture, Text, to_html
from cvpipe.errors import ConfigError, counted
from cvpipe.evaluation import Subject, Watch
from cvpipe.mistakes import Verdict, load_review, readable
from cvpipe.mistakes.report import caption, draw_examples, to_csv
from cvpipe.training.report import evaluate_run
from cvpipe.training.run import Run

CSV, PAGE = "label_errors.csv", "label_errors.html"
TITLE = "Labels that are probably wrong"
SPLIT = "validation"


def label_errors(
    runs: Sequence[Run], folder: Path, drawn: int, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Rank the images of a cross-validation, the most doubtful labels first, and write the files.

    Args:
        runs: one run of each fold.
        folder: an existing folder.
        drawn: number of images on the page.
        overrides: `data.key=value` each, for example the path of the data.

    Returns:
        "images", the number of images; "table" and "page", the paths of the files; and "first", the
        names of the first 20 images.

    Raises:
        ConfigError: the runs aren't the folds of one cross-validation, one run for each fold.
    """
    _check_folds(runs)
    review, subjects = load_review(runs[0].config, runs[0].facts), list[Subject]()
    # For each verdict: the number of the run, and the image's position in the validation split.
    places: list[tuple[int, int]] = []

    def begin(subject: Subject) -> Watch:
        subjects.append(subject)
        own = len(subjects) - 1

        def watch(batch: Mapping[str, Any], predictions: Mapping[str, np.ndarray]) -> None:
            examples = readable(batch, predictions)
            if len(examples.position):
                review.add(examples.predictions, examples.targets)
                places.extend((own, index) for index in examples.position.tolist())

        return watch

    for run in runs:
        evaluate_run(run, SPLIT, overrides, begin)
    verdicts = review.verdicts()
    order = sorted(range(len(verdicts)), key=lambda n: (-_doubt(verdicts[n]), places[n]))
    ranked, placed = [verdicts[n] for n in order], [places[n] for n in order]
    names = [subjects[own].source.name(index) for own, index in placed]
    with atomic_write(folder / CSV) as stream:
        stream.write(to_csv(names, ranked).encode("utf-8", "backslashreplace"))
    pictures: dict[int, Picture] = {}
    for own, subject in enumerate(subjects):
        chosen = [n for n, (run_number, _) in enumerate(placed[:drawn]) if run_number == own]
        if chosen:
            index = np.array([placed[n][1] for n in chosen])
            captions = [caption(n, names[n], ranked[n]) for n in chosen]
            found = draw_examples(subject, review, index, captions)
            pictures |= {chosen[place]: picture for place, picture in found.items()}
    blocks: list[Block] = [
        Heading(1, TITLE),
        Text(
            f"{CSV} lists {counted(len(ranked), 'image')}, the most doubtful labels first; this"
            f" page shows the first {len(pictures):,}. Each image was predicted by a model that"
            " wasn't trained on it."
        ),
        Gallery([pictures[n] for n in sorted(pictures)]),
    ]
    with atomic_write(folder / PAGE) as stream:
        page = to_html(TITLE, blocks)
        stream.write(page.encode("utf-8", "backslashreplace"))
    files = {"table": str(folder / CSV), "page": str(folder / PAGE)}
    return {"images": len(ranked), **files, "first": names[:20]}


def _doubt(verdict: Verdict) -> float:
    return verdict.cost if verdict.doubt is None else verdict.doubt


def _check_folds(runs: Sequence[Run]) -> None:
    folds: list[Fold] = []
    for run in runs:
        if run.config.data.fold is None:
            raise ConfigError(
                f"{run.folder}: not a run of a cross-validation; make one with: cvpipe sweep"
                " PIPELINE.yaml --folds 5"
            )
        folds.append(run.config.data.fold)
    of = folds[0].of
    if sorted((fold.of, fold.index) for fold in folds) != [(of, index) for index in range(of)]:
        raise ConfigError(
            f"{runs[0].folder}: give one run of each of its {of} folds, such as"
            f" {runs[0].folder.parent}/fold-*"
        )
    first = runs[0].config.to_json()
    for run in runs[1:]:
        config = run.config.to_json()
        for key in ("task", "prepare"):
            if config[key] != first[key]:
                raise ConfigError(
                    f"{run.folder}: its configuration differs from that of {runs[0].folder} in"
                    f" '{key}'; give the runs of one trial"
                )
        if run.known["digests"].get("test") != runs[0].known["digests"].get("test"):
            raise ConfigError(f"{run.folder}: has other data than {runs[0].folder}")
