"""Comparison of finished runs: configurations, curves, and scores on the same images. The results
are comparison.json and comparison.html.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cvpipe.atomic_write import atomic_write
from cvpipe.documents import Block, Heading, Picture, Table, Text, to_html
from cvpipe.errors import ConfigError, counted
from cvpipe.evaluation import Subject, Watch, numbers
from cvpipe.json_files import write_json
from cvpipe.markdown import interval_text, number
from cvpipe.metrics.intervals import LEVEL, bootstrap, interval, paired_test
from cvpipe.mistakes import load_review, readable
from cvpipe.mistakes.thresholds import validation_thresholds
from cvpipe.pictures.drawing.charts import curves_together
from cvpipe.pictures.drawing.render import to_png, try_to_draw
from cvpipe.tasks import load_task
from cvpipe.training.continuing import flat, is_place
from cvpipe.training.report import evaluate_run
from cvpipe.training.run import Run

JSON, PAGE = "comparison.json", "comparison.html"


def compare(
    runs: Sequence[Run], split: str = "test", overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Evaluate runs on the same split, and compare every run with the first.

    The score of an image, `Verdict.score`, is the share of the answer that is correct. For
    classification it is 1 or 0, so its mean is the accuracy.

    Args:
        runs: the runs to compare.
        split: name of the split.
        overrides: `data.key=value` each, for example the path of the data.

    Returns:
        "split": name of the split.
        "images": number of images that all runs could read and score.
        "score": name of the score that selects the best checkpoint.
        "configs": {key: value in each run} for keys that differ.
        "runs": for each run, its folder ("run"), its "scores" by name, the "mean" score of the
            images and its "interval". All but the first also have the mean "difference" from the
            first run, the "difference_interval", and the "p_value" of the paired test.

    Raises:
        ConfigError: the runs differ in their task or their images.
    """
    _check_comparable(runs, split)
    scores, images = [], []
    for run in runs:
        own, each = _evaluate(run, split, overrides)
        scores.append(own)
        images.append(each)
    common = [
        index for index in images[0] if all(not np.isnan(own.get(index, np.nan)) for own in images)
    ]
    table = np.array([[own[index] for index in common] for own in images])
    if not common:
        raise ConfigError(f"{runs[0].folder}: the {split} split has no image to compare on")
    means = bootstrap(table)
    rows = []
    for n, run in enumerate(runs):
        row: dict[str, Any] = {
            "run": str(run.folder),
            "scores": scores[n],
            "mean": float(table[n].mean()),
            "interval": interval(means[n]),
        }
        if n:
            row["difference"] = float((table[n] - table[0]).mean())
            row["difference_interval"] = interval(means[n] - means[0])
            row["p_value"] = paired_test(table[0], table[n])
        rows.append(row)
    score = load_task(runs[0].config, runs[0].facts).best_by.score
    configs = _differences([run.config.to_json() for run in runs])
    head = {"split": split, "images": len(common), "score": score}
    return {**head, "configs": configs, "runs": rows}


def write_comparison(result: Mapping[str, Any], runs: Sequence[Run], folder: Path) -> Path:
    """Write the result of `compare` as JSON, and as an HTML page with curves. Return the path of
    the page.
    """
    write_json(folder / JSON, dict(result))
    names = [row["run"] for row in result["runs"]]
    blocks: list[Block] = [
        Heading(1, "Runs side by side"),
        Text(
            f"The runs are compared on {counted(result['images'], 'image')} of the"
            f" {result['split']} split. An image's score is the share of its answer that is"
            f" correct. Intervals of the mean score contain {LEVEL:.0%} of bootstrap samples of the"
            " images. Differences are from the first run, on the same images; p is the probability"
            " of a difference of this size or larger if both runs are equally good (paired"
            " permutation test)."
        ),
        Table(*_table(result)),
        Heading(2, "Configurations"),
    ]
    if result["configs"]:
        rows = [[key, *map(_as_text, own)] for key, own in result["configs"].items()]
        blocks.append(Table(["key", *names], rows))
    else:
        blocks.append(Text("The configurations are the same."))
    rows_by_run = {name: run.metrics() for name, run in zip(names, runs, strict=True)}
    figure = try_to_draw("curves", partial(curves_together, rows_by_run, result["score"]))
    content = figure and try_to_draw("curves", partial(to_png, figure))
    if content:
        blocks += [Heading(2, "Curves"), Picture("Curves", "curves.png", content)]
    blocks += [Heading(2, "All scores"), _all_scores(result, names)]
    with atomic_write(folder / PAGE) as stream:
        stream.write(to_html("Runs side by side", blocks).encode("utf-8", "backslashreplace"))
    return folder / PAGE


def comparison_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """Return the table to print: the head, then a row for each run."""
    head, rows = _table(result)
    return [head, *rows]


def _table(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    score = result["score"]
    head = ["run", score, "mean of images", "interval", "difference", "interval", "p"]
    rows = []
    for row in result["runs"]:
        cells = [row["run"], number(row["scores"][score]), number(row["mean"])]
        cells.append(interval_text(*row["interval"]))
        if "difference" in row:
            cells += [f"{row['difference']:+.4f}", interval_text(*row["difference_interval"])]
            cells.append(f"{row['p_value']:.4f}")
        rows.append([*cells, *[""] * (len(head) - len(cells))])
    return head, rows


def _all_scores(result: Mapping[str, Any], names: Sequence[str]) -> Table:
    each = [row["scores"] for row in result["runs"]]
    rows = [[name, *(number(own.get(name, float("nan"))) for own in each)] for name in each[0]]
    return Table(["score", *names], rows)


def _check_comparable(runs: Sequence[Run], split: str) -> None:
    first = runs[0]
    for run in runs[1:]:
        if run.config.task != first.config.task:
            raise ConfigError(
                f"{run.folder}: its task is {run.config.task}, but the task of {first.folder} is"
                f" {first.config.task}; compare runs of one task"
            )
        if run.known["digests"].get(split) != first.known["digests"].get(split):
            raise ConfigError(
                f"{run.folder}: has other images or labels in the {split} split than"
                f" {first.folder}; train both on the same data with the same data.split_seed"
            )


def _evaluate(
    run: Run, split: str, overrides: Sequence[str]
) -> tuple[dict[str, float], dict[int, float]]:
    """Return a run's scores, and the score of each image by its position in the split."""
    review, index = load_review(run.config, run.facts), list[int]()

    def begin(subject: Subject) -> Watch:
        review.thresholds = validation_thresholds(subject, run.known, split)

        def watch(batch: Mapping[str, Any], predictions: Mapping[str, np.ndarray]) -> None:
            own = readable(batch, predictions)
            if len(own.position):
                review.add(own.predictions, own.targets)
                index.extend(own.position.tolist())

        return watch

    scores = numbers(evaluate_run(run, split, overrides, begin))
    verdicts = review.verdicts()
    return scores, {place: verdict.score for place, verdict in zip(index, verdicts, strict=True)}


def _differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of keys that differ, except the pipeline's name and paths of data."""
    each = [flat(config) for config in configs]
    keys = sorted({key for own in each for key in own})
    return {
        key: [own.get(key) for own in each]
        for key in keys
        if key != "name"
        and not is_place(key)
        and len({json.dumps(own.get(key)) for own in each}) > 1
    }


def _as_text(value: Any) -> str:
    return "–" if value is None else json.dumps(value, ensure_ascii=False)
