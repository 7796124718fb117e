"""`cvpipe explain RUN --measure SPLIT`."""

from __future__ import annotations

import argparse

from cvpipe.commands.command import aligned, check_counts, is_run, print_result
from cvpipe.errors import ConfigError, DataError, unknown_value


def measure_methods(options: argparse.Namespace) -> int:
    """Print the quality of each method's maps."""
    if options.images or options.label is not None:
        raise ConfigError(
            "--measure takes the images and classes of a split; leave IMAGE and --class out"
        )
    check_counts(options, "limit")
    if not is_run(options.source):
        raise ConfigError(f"{options.source}: no run is there; --measure needs a run")

    from cvpipe.runtime import prepare_process
    from cvpipe.training.run import Run

    run = Run(options.source)
    prepare_process(run.config)

    from cvpipe.data.known_splits import open_split
    from cvpipe.data.quarantine import Quarantine
    from cvpipe.data.statistics import evenly_spaced
    from cvpipe.evaluation import batches_of
    from cvpipe.explain.explain import check_single_map, supported_methods
    from cvpipe.explain.measure import CHECKED, SCORES, chance, explained_pairs, measure
    from cvpipe.explain.score import subject_of
    from cvpipe.training.trained import load

    scores = options.score or SCORES
    for name in scores:
        if name not in SCORES:
            raise unknown_value("--score", name, SCORES)
    trained = load(run, overrides=options.overrides)
    subject = subject_of(trained.task, dict(trained.members[0]))
    check_single_map(trained.config)
    source = open_split(trained.config, options.measure, run.known).sample(options.limit)
    quarantine = Quarantine(source, options.measure, trained.config.data.max_bad_share)
    batches = batches_of(source, trained.task, trained.config, quarantine)
    explained = explained_pairs(subject, trained.task, batches)
    if set(scores) == {"randomized"}:
        explained = explained.subset(evenly_spaced(len(explained.classes), CHECKED))
    if not len(explained.classes):
        raise DataError(f"{options.measure}: no image has an object to explain")
    if options.score and "pointing" in scores and explained.boxes is None:
        raise ConfigError(
            f"--score pointing: needs positions of objects, which data of task:"
            f" {trained.config.task} doesn't have; leave it out"
        )
    methods = options.method or supported_methods(subject)
    rows = measure(subject, explained, methods, options.layer, scores)
    result = {
        "run": str(options.source),
        "split": options.measure,
        "maps": len(explained.classes),
        "chance": chance(explained),
        "methods": [row._asdict() for row in rows],
    }
    shown = [name for name in rows[0]._fields[1:] if getattr(rows[0], name) is not None]
    table = [
        ["method", *shown],
        *([row.method, *(f"{getattr(row, name):.3f}" for name in shown)] for row in rows),
    ]
    print_result(options, result, [f"{result['maps']} maps", *aligned(table)])
    return 0
