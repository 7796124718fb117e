"""`cvpipe inspect`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from cvpipe.commands.command import (
    add_command,
    add_data_overrides,
    add_examples,
    check_counts,
    check_output_folder,
    make_output_folder,
    print_result,
)
from cvpipe.errors import ConfigError


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "inspect",
        inspect,
        "show filters, activations, patches and neighbors of a run's network",
    )
    add_examples(parser, "cvpipe inspect runs/digits --projection tsne")
    parser.add_argument("run", metavar="RUN", type=Path, help="such as runs/digits")
    parser.add_argument("--split", default="test", help="train, validation or test (default: test)")
    parser.add_argument(
        "--limit",
        type=int,
        default=500,
        metavar="N",
        help="use at most N images, evenly spaced (default: %(default)s)",
    )
    parser.add_argument(
        "--layer",
        dest="layers",
        action="append",
        metavar="NAME",
        help=(
            "a layer with a feature map; can be repeated (default: the last layer of each map size)"
        ),
    )
    parser.add_argument(
        "--projection",
        dest="projections",
        action="append",
        choices=("pca", "tsne", "umap"),
        help=(
            "projection that places images by their features; can be repeated (default: pca, tsne)"
        ),
    )
    parser.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        help="folder of the page, which TensorBoard reads, too (default: RUN/inspection)",
    )
    add_data_overrides(parser)


def inspect(options: argparse.Namespace) -> int:
    """Write the page, and print where it is."""
    from cvpipe.runtime import prepare_process
    from cvpipe.training.run import Run

    check_counts(options, "limit")
    run = Run(options.run)
    prepare_process(run.config)

    from cvpipe.data.known_splits import open_split
    from cvpipe.data.quarantine import Quarantine
    from cvpipe.evaluation import batches_of
    from cvpipe.explain.explain import check_single_map
    from cvpipe.explain.inspection import PAGE, Subject, draw, look, write
    from cvpipe.explain.score import feature_layer, stage_layers
    from cvpipe.training.trained import load

    trained = load(run, overrides=options.overrides)
    config, networks = trained.config, dict(trained.members[0])
    check_single_map(config)
    if len(networks) != 1:
        raise ConfigError(
            f"{options.run}: this run has several networks; give a run with one network"
        )
    [network] = networks.values()
    layers = (
        [feature_layer(network, name) for name in options.layers]
        if options.layers
        else stage_layers(network)
    )
    source = open_split(config, options.split, run.known).sample(options.limit)
    folder = options.to or options.run / "inspection"
    check_output_folder(folder, PAGE, "--to")
    quarantine = Quarantine(source, options.split, config.data.max_bad_share)
    subject = Subject(network, trained.task, config, trained.facts, source)
    seen = look(subject, batches_of(source, trained.task, config, quarantine), layers)
    figures = draw(subject, seen, layers, options.projections or ("pca", "tsne"))
    make_output_folder(folder, PAGE, "--to")
    write(subject, seen, figures, folder)
    result = {
        "run": str(options.run),
        "split": options.split,
        "images": len(seen.positions),
        "layers": [layer.name for layer in layers],
        "page": str(folder / PAGE),
    }
    lines = [f"page  {folder / PAGE}", f"or    tensorboard --logdir {shlex.quote(str(folder))}"]
    print_result(options, result, lines)
    return 0
