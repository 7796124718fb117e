"""`cvpipe sweep`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvpipe.commands.command import add_command, add_examples, add_pipeline, aligned, print_result
from cvpipe.search import SAMPLERS


def add(commands: Any) -> None:
    """Declare the command."""
    text = "search hyperparameters or cells, cross-validate, or both; resume an interrupted sweep"
    parser = add_command(commands, "sweep", sweep, text)
    add_examples(
        parser,
        "cvpipe sweep photos.yaml --search optimizer.learning_rate=1e-3:1:log --trials 8",
        "cvpipe sweep cells.yaml --search model.cells --sampler evolution --trials 40",
    )
    add_pipeline(parser)
    parser.add_argument(
        "--search",
        action="append",
        default=[],
        metavar="KEY=VALUES",
        help=(
            "search a key: LOW:HIGH is uniform, LOW:HIGH:log log-uniform, A,B,C are choices;"
            " model.cells without values: all inputs and operations of the pipeline's cells; can be"
            " repeated"
        ),
    )
    parser.add_argument(
        "--sampler",
        choices=SAMPLERS,
        default="random",
        help=(
            "way of drawing trials; evolution and controller learn from earlier trials and need"
            " choices (default: %(default)s)"
        ),
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=10,
        metavar="N",
        help="trials per round (default: %(default)s)",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=1,
        metavar="R",
        help=(
            "rounds; from the second on, ranges are narrowed around the best trials (default:"
            " %(default)s)"
        ),
    )
    parser.add_argument(
        "--folds",
        type=int,
        metavar="K",
        help="cross-validation: train each trial K times, each with another fold for validation",
    )
    parser.add_argument(
        "--run",
        metavar="DIR",
        type=Path,
        help="the sweep's folder, with a run for each trial (default: runs/NAME-sweep)",
    )


def sweep(options: argparse.Namespace) -> int:
    """Run the trials, and print them, best first."""
    from cvpipe.runtime import quiet_tensorflow
    from cvpipe.search.plan import Plan

    plan = Plan(
        Path(options.pipeline),
        tuple(options.overrides),
        tuple(options.search),
        options.trials,
        options.rounds,
        options.folds,
        options.sampler,
    )
    plan.check()
    quiet_tensorflow()
    import tensorflow as tf

    # Trials are separate processes, and this one must not occupy the GPU memory that they need.
    tf.config.set_visible_devices([], "GPU")
    from cvpipe.search.sweep import sweep as run_sweep

    folder = options.run or Path("runs") / f"{plan.load().name}-sweep"
    result = run_sweep(plan, folder)
    best = next(trial for trial in result["trials"] if trial["trial"] == result["best"])
    lines = [
        *_table(result, [text.partition("=")[0] for text in plan.search if "=" in text]),
        *(f"note: {note}" for note in result["notes"]),
        f"best     {', '.join(best['runs'])}",
        f"again    cvpipe train {shlex.quote(result['pipeline'])}",
        f"look at  tensorboard --logdir {shlex.quote(str(folder))}",
    ]
    print_result(options, {**result, "run": str(folder)}, lines)
    return 0


def _table(result: dict[str, Any], keys: Sequence[str]) -> list[str]:
    """Return a line for each trial, with the values of `keys`; cells have too many keys to show."""
    rows = [["trial", "round", *keys, result["metric"], "seconds"]]
    for trial in result["trials"]:
        score = "failed" if trial["score"] is None else f"{trial['score']:.4f}"
        deviation = "" if trial["deviation"] is None else f" ± {trial['deviation']:.4f}"
        values = [str(trial["values"][key]) for key in keys]
        rows.append(
            [
                f"{trial['trial']:03}",
                str(trial["round"]),
                *values,
                score + deviation,
                f"{trial['seconds']:.0f}",
            ]
        )
    return aligned(rows)
