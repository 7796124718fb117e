"""`cvpipe models`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvpipe.commands.command import add_command, add_examples, aligned, print_result
from cvpipe.errors import ConfigError

COMPARE = "compare"


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(commands, "models", models, "list the networks with their sizes")
    add_examples(
        parser,
        "cvpipe models",
        "cvpipe models resnet18 --draw resnet18.png",
        "cvpipe models compare resnet18 mobilenet_v2",
    )
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help=(
            "list the layers of this network; with 'compare' before several names, compare the"
            " networks and measure their latency"
        ),
    )
    parser.add_argument(
        "--pipeline",
        metavar="PIPELINE.yaml",
        help="list the layers of a pipeline's networks, including heads",
    )
    parser.add_argument(
        "--draw",
        "--picture",
        metavar="FILE.png",
        type=Path,
        help=(
            "also draw the networks, a box for each stage, into a PNG, SVG or PDF file; with"
            " compare: plot latency over multiply-adds, where areas show parameters"
        ),
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override a key of the pipeline, such as --set model.width=0.5; can be repeated",
    )


def models(options: argparse.Namespace) -> int:
    """Print the sizes of all networks, or the layers of one."""
    names = options.names
    if options.pipeline is not None:
        if names:
            raise ConfigError(f"models: give --pipeline or {names[0]}, not both")
        return _pipeline(options)
    if options.overrides:
        raise ConfigError("models: --set overrides keys of a pipeline; add --pipeline")
    from cvpipe.models.catalog import NETWORKS
    from cvpipe.runtime import quiet_tensorflow

    if options.draw is not None and not names:
        raise ConfigError("models: --draw draws the networks that are named; name one")
    quiet_tensorflow()
    if names[:1] == [COMPARE]:
        return _compare(options, names[1:])
    from cvpipe.models.describe import describe, published_model
    from cvpipe.models.layer_table import as_json, layer_table

    if not names:
        rows = [describe(name) for name in NETWORKS]
        print_result(options, rows, _overview(rows))
        return 0
    results, lines = [], []
    for name in names:
        described, layers = describe(name), layer_table(published_model(name))
        results.append({**described, "layers": [as_json(row) for row in layers]})
        lines += [f"{name}: {described['paper']}", "", *_table(results[-1]), ""]
    _draw_networks(results, options.draw)
    print_result(options, results, lines[:-1])
    return 0


def _pipeline(options: argparse.Namespace) -> int:
    from cvpipe import config_file
    from cvpipe.runtime import prepare_process

    config = config_file.load(options.pipeline, options.overrides)
    prepare_process(config)
    from cvpipe.data.sources import open_splits
    from cvpipe.models.abstract import without_weights
    from cvpipe.models.describe import describe_model
    from cvpipe.models.layer_table import as_json, layer_table
    from cvpipe.tasks import load_task

    facts = open_splits(config.data)["train"].facts
    with without_weights():
        networks = load_task(config, facts).build(False)
    results, lines = [], []
    for name, network in networks.items():
        layers = layer_table(network)
        described = {"name": name, "task": config.task, **describe_model(network, layers)}
        results.append({**described, "layers": [as_json(row) for row in layers]})
        lines += [f"{options.pipeline}: {name}", "", *_table(results[-1]), ""]
    _draw_networks(results, options.draw)
    print_result(options, results, lines[:-1])
    return 0


def _compare(options: argparse.Namespace, names: Sequence[str]) -> int:
    if len(names) < 2:
        raise ConfigError("models compare: give two or more names that `cvpipe models` lists")
    from cvpipe.models.describe import describe
    from cvpipe.models.latency import latency

    described = [describe(name) for name in names]
    rows = [{**row, "latency_ms": latency(row["name"])} for row in described]
    table = [["name", "parameters", "M mult-adds", "activations MB", "ms per image"]]
    table += [
        [
            row["name"],
            f"{row['trainable_parameters']:,}",
            f"{row['macs'] / 1e6:,.1f}",
            f"{row['activation_bytes'] / 1e6:,.1f}",
            f"{row['latency_ms']:.1f}",
        ]
        for row in rows
    ]
    if options.draw is not None:
        _draw_comparison(rows, options.draw)
    print_result(options, rows, aligned(table))
    return 0


def _draw_networks(described: Sequence[dict[str, Any]], file: Path | None) -> None:
    """Draw the described networks and their layers; do nothing if `file` is None."""
    if file is None:
        return
    from cvpipe.pictures.network import draw_networks

    figure = draw_networks({row["name"]: row["layers"] for row in described})
    _save(figure, file)


def _draw_comparison(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Draw compared networks like figure 2 of Canziani et al. 2016, without accuracy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    macs, times = ([row[key] for row in rows] for key in ("macs", "latency_ms"))
    # A square inch for 100 million parameters.
    areas = [72**2 * row["trainable_parameters"] / 1e8 for row in rows]
    axes.scatter([value / 1e6 for value in macs], times, s=areas, alpha=0.5)
    for row in rows:
        axes.annotate(row["name"], (row["macs"] / 1e6, row["latency_ms"]), fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="million multiply-adds", ylabel="ms per image")
    _save(figure, file)


def _save(figure: Any, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        figure.savefig(file)
    except ValueError as error:
        raise ConfigError(f"models: --draw {file}: {error}; end its name with .png") from None


def _overview(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line for each network."""
    table = [
        [
            "name",
            "parameters",
            "trainable",
            "M mult-adds",
            "activations MB",
            "input",
            "sees",
            "paper",
        ]
    ]
    for row in rows:
        field = row["receptive_field"]
        table.append(
            [
                row["name"],
                f"{row['parameters']:,}",
                f"{row['trainable_parameters']:,}",
                f"{row['macs'] / 1e6:,.1f}",
                f"{row['activation_bytes'] / 1e6:,.1f}",
                _shape(row["input_shape"]),
                _shape(field) if field else "all",
                row["paper"],
            ]
        )
    return aligned(table)


def _table(row: dict[str, Any]) -> list[str]:
    """Return the table of a network's layers and their sums."""
    table = [["layer", "kind", "output", "parameters", "mult-adds", "activations", "sees"]]
    for layer in row["layers"]:
        field = layer["receptive_field"]
        table.append(
            [
                layer["name"],
                layer["kind"],
                _shape(layer["shape"]),
                f"{layer['parameters']:,}",
                f"{layer['macs']:,}",
                f"{layer['activations']:,}",
                _shape(field) if field else "all",
            ]
        )
    total = f"{row['parameters']:,}", f"{row['macs']:,}", f"{row['activations']:,}"
    table.append(["total", "", "", *total, ""])
    return [
        *aligned(table),
        f"{row['trainable_parameters']:,} parameters are trained. Activations of an image take"
        f" {row['activation_bytes'] / 1e6:.1f} MB in float32.",
    ]


def _shape(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))
