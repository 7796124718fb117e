"""Hyperparameter sweeps: random search from coarse to fine, evolution, a controller that learns by
REINFORCE, and cross-validation.

Runs are compared by their validation scores. The test split is not used.

A sweep's folder contains the runs trial-000, trial-001 … (with folds: trial-000/fold-0 …) and:

    sweep.json       the search space, the scores of all runs, and the trials, best first
    pipeline.yaml    the pipeline, with its overrides and its base
    best.yaml        the pipeline of the best trial
    hparams/         events for TensorBoard's HParams dashboard

The pipeline's seed and the scores of earlier trials determine the trials. A sweep that is continued
draws the same trials again, and trains only those without a score.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cvpipe.console import print_message
from cvpipe.data.known_splits import describe_splits
from cvpipe.data.sources import open_splits
from cvpipe.errors import ConfigError, UserError
from cvpipe.search.book import Book
from cvpipe.search.draw import Sampler, Study, narrowed
from cvpipe.search.evolution import Evolution
from cvpipe.search.plan import Plan
from cvpipe.search.space import Dimension, Value
from cvpipe.search.trial import Train, train_in_a_process
from cvpipe.tasks import load_task
from cvpipe.training.run import Run


def sweep(plan: Plan, folder: Path, train: Train = train_in_a_process) -> dict[str, Any]:
    """Run or continue the trials of a plan in `folder`.

    Returns:
        "metric": name of the score, such as "validation accuracy".
        "best": number of the best trial.
        "trials": best first, failed trials last. Each has "trial" (its number), "round", "values"
            by key, "score" (with folds, the mean), "deviation" (with folds, the sample standard
            deviation), "scores" by fold, "seconds", "error", and "runs" (folders). The score and
            deviation of a failed trial are None.
        "notes": sentences.
        "pipeline": file of the best trial's pipeline.

    Raises:
        ConfigError: the plan is invalid, or the folder contains another sweep.
        DataError: the data can't be opened.
        Interrupted: stopped by a signal; the same plan continues the sweep.
        UserError: no trial succeeded, or Optuna isn't installed.
    """
    space, config = plan.check(), plan.load()
    sampler, splits = _sampler(plan, config.seed), open_splits(config.data)
    if "validation" not in splits:
        raise ConfigError(
            "trials are compared on a validation split; raise data.validation, or cross-validate"
            " with --folds 5"
        )
    head = {
        "pipeline": config.to_json(),
        "search": list(plan.search),
        "folds": plan.folds,
        "sampler": plan.sampler,
        "data": describe_splits(splits)["digests"],
    }
    with Run(folder).locked():
        best_by = load_task(config, splits["train"].facts).best_by
        book = Book(folder, config, head, space, best_by)
        # Read the copy of the pipeline in the folder, because users may edit their file meanwhile.
        copied = dataclasses.replace(plan, pipeline=book.pipeline, overrides=())
        if not space:
            copied = dataclasses.replace(copied, trials=1, rounds=1)
        _run_trials(copied, space, sampler, book, train)
        result = book.result()
        if result["best"] is None:
            error = book.trials[0]["error"]
            raise UserError(f"no trial succeeded; the error of the first trial: {error}")
        whole = dataclasses.replace(copied, folds=None)
        best = whole.load(_overrides(result["trials"][0]["values"]))
        return {**result, "pipeline": str(book.write_best(best))}


def _sampler(plan: Plan, seed: int) -> Sampler:
    match plan.sampler:
        case "random":
            return Study(seed)
        case "evolution":
            return Evolution(seed)
        case "controller":
            # Import it only here: the module imports TensorFlow.
            from cvpipe.search.controller import Controller

            return Controller(seed)


def _run_trials(
    plan: Plan, space: tuple[Dimension, ...], sampler: Sampler, book: Book, train: Train
) -> None:
    for number in range(1, plan.rounds + 1):
        finer = narrowed(space, book.ranked(), plan.trials)
        for _ in range(plan.trials):
            drawn = sampler.ask(finer)
            if drawn is None:
                print_message("no untried combination was found, so this round ends")
                break
            asked, values = drawn
            trial = _run_trial(plan, number, values, book, train)
            book.add(trial)
            sampler.tell(asked, book.merit(trial))


def _run_trial(
    plan: Plan, number: int, values: Mapping[str, Value], book: Book, train: Train
) -> dict[str, Any]:
    trial = {
        "trial": len(book.trials),
        "round": number,
        "values": dict(values),
        "score": None,
        "deviation": None,
    }
    name = f"trial-{trial['trial']:03}"
    overrides = _overrides(values)
    print_message("  ".join([name, f"round {number}/{plan.rounds}", *overrides]))
    runs: dict[str, dict[str, Any]] = {}
    error = None
    try:
        configs = [plan.load(overrides, fold) for fold in range(plan.folds or 1)]
    except ConfigError as refused:
        # Values that are valid separately may be invalid in combination.
        configs, error = [], str(refused)
    for fold, config in enumerate(configs):
        folder = name if plan.folds is None else f"{name}/fold-{fold}"
        runs[folder] = book.score(config, folder, number, train)
        error = runs[folder]["error"]
        if error:
            break
    scores = [run["score"] for run in runs.values() if not run["error"]]
    if not error:
        trial |= {
            "score": statistics.fmean(scores),
            "deviation": None if plan.folds is None else statistics.stdev(scores),
        }
    print_message(
        f"{name}  " + (f"failed: {error}" if error else f"{book.metric} {trial['score']:.4f}")
    )
    seconds = round(sum(run["seconds"] for run in runs.values()), 1)
    return {**trial, "scores": scores, "seconds": seconds, "error": error, "runs": list(runs)}


def _overrides(values: Mapping[str, Value]) -> list[str]:
    return [f"{key}={value}" for key, value in values.items()]
