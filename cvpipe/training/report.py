"""Report of a run, report.md and report.html: scores, curves and pictures."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cvpipe.config.optimizer import Lbfgs
from cvpipe.data.known_splits import open_split
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source
from cvpipe.documents import (
    Block,
    Code,
    Heading,
    Picture,
    Table,
    Text,
    pictures_of,
    to_html,
    to_markdown,
)
from cvpipe.errors import counted
from cvpipe.evaluation import (
    Answered,
    Begin,
    Subject,
    Watch,
    answer_images,
    batches_of,
    evaluate,
    numbers,
)
from cvpipe.json_files import write_json
from cvpipe.markdown import number
from cvpipe.metrics.shares import one_sided
from cvpipe.pictures import load_pictures
from cvpipe.pictures.drawing.charts import curves
from cvpipe.pictures.drawing.render import to_png, try_to_draw
from cvpipe.training.checkpoints import read_checkpoint
from cvpipe.training.run import Run
from cvpipe.training.schedules import last_step_of
from cvpipe.training.shown_examples import ShownExamples, draw_evaluation
from cvpipe.training.trained import Trained, load

log = logging.getLogger(__name__)
CAPTIONS = {
    "predictions": (
        "The pictures show all classes, and correct and wrong answers, equally often, so wrong"
        " answers may be more frequent here than in the split."
    )
}


def evaluate_run(
    run: Run, split: str = "test", overrides: Sequence[str] = (), begin: Begin | None = None
) -> dict[str, Any]:
    """Evaluate the checkpoint that would be exported on one split, and write the report. Return the
    scores of `score_run`.
    """
    return score_run(run, split, overrides, begin)[0]


def score_run(
    run: Run, split: str, overrides: Sequence[str], begin: Begin | None = None
) -> tuple[dict[str, Any], Path | None]:
    """Evaluate the checkpoint that would be exported on one split, and write the report.

    If training is not finished, the log and the report say so. If the run's folder can't be
    written, or the overrides choose other data than the run's, no report is written, and the log
    says so.

    Args:
        run: the run.
        split: name of the split.
        overrides: `data.key=value` each, for example the path of the data.
        begin: called before the evaluation; returns a callback for batches and answers.

    Returns:
        The result of `evaluation.evaluate` with "split", its name; the report's file, None if no
        report is written.
    """
    trained = load(run, run.config.export.checkpoint, overrides)
    source = open_split(trained.config, split, run.known)
    listed = run.quarantine_file if run.is_writable else None
    quarantine = Quarantine(source, split, trained.config.data.max_bad_share, listed)
    pictures = load_pictures(trained.config, trained.facts)
    shown = ShownExamples(pictures) if pictures else None
    watches: list[Watch] = [shown.watch] if shown else []
    if begin:
        watches.append(begin(answering(trained, source)))

    def watch(batch: Mapping[str, Any], predictions: Mapping[str, np.ndarray]) -> None:
        for each in watches:
            each(batch, predictions)

    scores = evaluate(
        trained.predict, source, trained.task, trained.config, quarantine=quarantine, watch=watch
    )
    result = {**scores, "split": split}
    score = trained.task.best_by.score
    figures: dict[str, Figure | None] = {}
    figures["curves"] = try_to_draw("curves", partial(curves, run.metrics(), score))
    if pictures and shown:
        figures |= draw_evaluation(pictures, shown, scores, trained.task, trained.config)
    if said := unfinished(run):
        log.warning("%s: %s", run.folder, said)
    if not run.is_writable:
        log.warning("%s: can't be written, so the report isn't written", run.folder)
        return result, None
    if overrides and source.digest() != run.known["digests"].get(split):
        # An export would publish these scores as those of the run's data.
        log.warning(
            "%s: scores of other data aren't the run's, so no report is written", run.folder
        )
        return result, None
    measured = {"split": split, "step": trained.steps[0], "measured": numbers(scores)}
    write_json(run.scores_file(split), measured)
    drawn = {name: figure for name, figure in figures.items() if figure}
    write_report(run, split, len(source), scores, drawn)
    return result, run.report(split)


def answering(trained: Trained, source: Source) -> Subject:
    """Return the answers of a trained model to a split as the subject of an evaluation."""

    def answer(part: Source, quarantine: Quarantine) -> Answered:
        batches = batches_of(part, trained.task, trained.config, quarantine)
        return answer_images(trained.predict, batches)

    return Subject(source, trained.task, trained.config, trained.facts, answer)


def write_report(
    run: Run, split: str, examples: int, scores: Mapping[str, Any], figures: Mapping[str, Figure]
) -> None:
    """Write report.md with its pictures, and report.html, which embeds them. A picture that can't
    be drawn is skipped with a warning.

    Args:
        run: the run.
        split: name of the split.
        examples: number of examples in the split.
        scores: the scores.
        figures: figures by name, in the order of the report.
    """
    config, folder = run.config, run.pictures(split)
    folder.mkdir(exist_ok=True)
    drawn = {name: try_to_draw(name, partial(to_png, own)) for name, own in figures.items()}
    blocks: list[Block] = [
        Heading(1, config.name),
        Text(
            f"Scores on the {split} split, which has {counted(examples, 'example')}; the training"
            f" split had {run.known['examples']['train']:,}."
        ),
        *(Text(said) for said in (unfinished(run), one_sided(scores)) if said),
        Table(
            ["score", "value"], [[name, number(value)] for name, value in numbers(scores).items()]
        ),
    ]
    for name, content in drawn.items():
        if content is not None:
            title = _title(name)
            blocks += [Heading(2, title), Picture(title, f"{folder.name}/{name}.png", content)]
            blocks += [Text(CAPTIONS[name])] if name in CAPTIONS else []
    if "per_class" in scores:
        blocks += [Heading(2, "Per class"), per_class_table(scores["per_class"])]
    made_with = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    resolved = json.dumps(config.to_json(), indent=2)
    blocks += [Heading(2, "Made with"), Text(made_with), Code("json", resolved)]
    for name, content in pictures_of(blocks).items():
        (run.folder / name).write_bytes(content)
    report = run.report(split)
    report.write_text(to_markdown(blocks), encoding="utf-8")
    report.with_suffix(".html").write_text(to_html(config.name, blocks), encoding="utf-8")


def unfinished(run: Run) -> str | None:
    """Describe the progress of an unfinished training run; None if it is finished."""
    config, last = run.config, run.checkpoint("last")
    reached = read_checkpoint(last, ("step", "converged", "evaluations_since_best"))
    step, stopping = int(reached["step"]), config.train.early_stopping
    total = config.train.epochs
    if not isinstance(config.optimizer, Lbfgs):
        total = last_step_of(config.train.epochs, config, run.known["examples"]["train"])
    stopped = stopping and int(reached["evaluations_since_best"]) >= stopping.patience
    if step >= total or bool(reached["converged"]) or stopped:
        return None
    return (
        f"The training is not finished: {step} of {total} steps are done. The same cvpipe train"
        " command continues it."
    )


def per_class_table(scores: Mapping[str, Mapping[str, float]]) -> Table:
    """Return a table of the scores "per_class", with a row per class and "–" for undefined
    scores.
    """
    columns = list(next(iter(scores.values())))
    return Table(
        ["class", *columns],
        [[name, *(number(own[column]) for column in columns)] for name, own in scores.items()],
    )


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
