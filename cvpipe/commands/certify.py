"""`cvpipe certify`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cvpipe.commands.attack import numbers
from cvpipe.commands.command import (
    add_command,
    add_data_overrides,
    add_examples,
    add_output_folder,
    aligned,
    check_counts,
    check_output_folder,
    make_output_folder,
    print_result,
)
from cvpipe.errors import ConfigError, DataError
from cvpipe.markdown import interval_text

if TYPE_CHECKING:
    import numpy as np

MARK = "certified.png"


def add(commands: Any) -> None:
    """Declare the command."""
    text = (
        "measure a classifier's certified accuracy: the share of images whose class no change up"
        " to a given size can alter"
    )
    parser = add_command(commands, "certify", certify, text)
    add_examples(parser, "cvpipe certify runs/digits --noise 0.25 --limit 100")
    parser.add_argument("run", metavar="RUN", type=Path, help="such as runs/digits")
    parser.add_argument(
        "--noise",
        type=float,
        default=0.25,
        metavar="STD",
        help=(
            "standard deviation of the noise, as a share of the range of pixel values; train the"
            " network with the same noise (default: %(default)s)"
        ),
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=1000,
        metavar="N",
        help="noisy copies of an image, a multiple of 100 (default: %(default)s)",
    )
    parser.add_argument(
        "--radius",
        type=numbers,
        default=(0.0, 0.25, 0.5, 0.75),
        metavar="R,R",
        help=(
            "L2 norms of changes, as shares of the range of pixel values (default: 0,0.25,0.5,0.75)"
        ),
    )
    parser.add_argument("--split", default="test", help="train, validation or test (default: test)")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="certify at most N images, evenly spaced"
    )
    add_output_folder(parser, "certified", "folder of the picture")
    add_data_overrides(parser)


def certify(options: argparse.Namespace) -> int:
    """Certify the images of a split, and print the certified accuracy at each radius."""
    check_counts(options, "limit")
    if options.samples < 100 or options.samples % 100:
        raise ConfigError("--samples: must be a multiple of 100")
    if not 0 < options.noise < float("inf"):
        raise ConfigError("--noise: must be above 0")
    found = _measure(options)
    rows = [_row(found, radius) for radius in options.radius]
    make_output_folder(options.to, MARK, "--to")
    (options.to / MARK).write_bytes(_draw(options.noise, rows))
    images, abstained = len(found.radii), found.abstained
    result = {
        "run": str(options.run),
        "noise": options.noise,
        "samples": options.samples,
        "images": images,
        "abstained": abstained,
        "points": rows,
        "picture": str(options.to / MARK),
    }
    summary = f"abstained on {abstained:,} of {images:,} images"
    print_result(options, result, [*_table(rows), summary, f"picture  {options.to / MARK}"])
    return 0


class _Found(NamedTuple):
    """The certified answers to the N images of a split."""

    is_right: np.ndarray
    """bool [N]: True if the certified class is the image's class."""
    radii: np.ndarray
    """float64 [N]."""
    abstained: int
    """Number of images without a certified class."""


def _measure(options: argparse.Namespace) -> _Found:
    from cvpipe.runtime import prepare_process
    from cvpipe.training.run import Run

    run = Run(options.run)
    prepare_process(run.config)

    import numpy as np
    import tensorflow as tf

    from cvpipe.data.known_splits import open_split
    from cvpipe.data.quarantine import Quarantine
    from cvpipe.evaluation import batches_of
    from cvpipe.explain.attack import make_ball
    from cvpipe.explain.explain import check_single_map
    from cvpipe.explain.robustness import have_class
    from cvpipe.explain.score import subject_of
    from cvpipe.explain.smoothing import ABSTAIN, certify, class_counts
    from cvpipe.training.trained import load

    trained = load(run, overrides=options.overrides)
    labels_of = trained.task.class_labels
    if labels_of is None:
        raise ConfigError(
            f"task: {trained.config.task}: can't be certified; only tasks with one class per image"
            " can"
        )
    check_single_map(trained.config)
    subject = subject_of(trained.task, dict(trained.members[0]))
    source = open_split(trained.config, options.split, run.known).sample(options.limit)
    check_output_folder(options.to, MARK, "--to")
    scale = make_ball(options.noise, "l2", trained.config.prepare).scale
    count = class_counts(subject, options.noise, scale, trained.config.seed)
    quarantine = Quarantine(source, options.split, trained.config.data.max_bad_share)
    right, radii, abstained = [], [], 0
    for batch in batches_of(source, trained.task, trained.config, quarantine):
        labels = np.asarray(labels_of(batch["targets"]))
        # Images without a class, such as those without an object, don't count.
        real = np.flatnonzero(have_class(batch, labels))
        found = certify(
            count, tf.gather(batch["image"], real), options.noise, samples=options.samples
        )
        right.append(found.classes == labels[real])
        radii.append(found.radii)
        abstained += int((found.classes == ABSTAIN).sum())
    quarantine.check()
    if not sum(map(len, radii)):
        raise DataError(f"no image of split {options.split} has a class; give another --split")
    return _Found(np.concatenate(right), np.concatenate(radii), abstained)


def _row(found: _Found, radius: float) -> dict[str, float]:
    """Return the share of images that are certified within a radius, with its interval."""
    from cvpipe.explain.robustness import wilson

    certified, images = int((found.is_right & (found.radii >= radius)).sum()), len(found.radii)
    low, high = wilson(certified, images)
    return {"radius": radius, "accuracy": certified / images, "low": low, "high": high}


def _draw(noise: float, rows: Sequence[Mapping[str, float]]) -> bytes:
    """Draw the certified accuracy over the radius, as a PNG file."""
    from cvpipe.pictures.drawing.render import to_png
    from cvpipe.pictures.heat import robustness_curves

    points = [(row["radius"], row["accuracy"], (row["low"], row["high"])) for row in rows]
    strength = "radius (L2, share of a pixel's range)"
    figure = robustness_curves({f"noise {noise:g}": points}, strength, "certified accuracy")
    return to_png(figure)


def _table(rows: Sequence[Mapping[str, float]]) -> list[str]:
    table = [["radius", "certified accuracy", "95 % interval"]]
    for row in rows:
        bounds = interval_text(row["low"], row["high"])
        table.append([f"{row['radius']:g}", f"{row['accuracy']:.4f}", bounds])
    return aligned(table)
