"""`cvpipe visualize`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvpipe.commands.command import (
    add_command,
    add_examples,
    add_output_folder,
    check_output_folder,
    make_output_folder,
    print_result,
)
from cvpipe.errors import ConfigError, suggest
from cvpipe.user_paths import UNFIT

if TYPE_CHECKING:
    from cvpipe.synthesis.pictures import Picture, Visualized

MARK = "visualizations.png"


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands, "visualize", visualize, "generate images that activate a network's units"
    )
    add_examples(
        parser,
        "cvpipe visualize runs/digits --class 3 --class 8",
        "cvpipe visualize efficientnet_lite0 --unit stage5_block2_project_norm:7",
        "cvpipe visualize efficientnet_lite0 --dream photo.jpg --layer stage4_block2_add",
        "cvpipe visualize efficientnet_lite0 --invert photo.jpg --layer stage2_block2_add",
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        help="such as runs/digits, or a classifier of cvpipe[pretrained], such as"
        " efficientnet_lite0",
    )
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument(
        "--class",
        dest="labels",
        action="append",
        metavar="NAME",
        help="generate an image with a high score of this class; can be repeated",
    )
    wanted.add_argument(
        "--unit",
        dest="units",
        action="append",
        metavar="LAYER[:CHANNEL[:Y,X]]",
        help="generate an image that activates a layer, channel or neuron; can be repeated",
    )
    wanted.add_argument(
        "--dream", metavar="IMAGE", type=Path, help="amplify in this image what --layer detects"
    )
    wanted.add_argument(
        "--invert",
        metavar="IMAGE",
        type=Path,
        help="generate images with the same features in --layer as this image",
    )
    parser.add_argument(
        "--layer",
        dest="layers",
        action="append",
        metavar="NAME",
        help="a layer for --dream or --invert; can be repeated",
    )
    parser.add_argument(
        "--by",
        choices=("spectrum", "pixels"),
        default="spectrum",
        help="for --class and --unit: optimize the image's spectrum, under random transformations,"
        " or its pixels, with blur and clipping (default: %(default)s)",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="steps of the ascent")
    parser.add_argument(
        "--longest",
        type=int,
        default=512,
        metavar="N",
        help=(
            "for --dream: largest length of the picture's longer side, in pixels"
            " (default: %(default)s)"
        ),
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (default: 0)")
    add_output_folder(parser, "visualizations", "folder of the pictures")


def visualize(options: argparse.Namespace) -> int:
    """Write pictures, and print their units and scores."""
    _check(options)
    check_output_folder(options.to, MARK, "--to")
    pictures = _pictures(options)

    import numpy as np
    from PIL import Image

    from cvpipe.pictures.drawing.grids import image_grid
    from cvpipe.pictures.drawing.render import to_png

    make_output_folder(options.to, MARK, "--to")
    rows = []
    for picture, name in zip(pictures, file_names([each.name for each in pictures]), strict=True):
        file = options.to / f"{name}.png"
        Image.fromarray(np.squeeze(picture.pixels)).save(file)
        rows.append({**picture.about, "picture": str(file)})
    shown = np.stack([picture.pixels for picture in pictures])
    shown = np.broadcast_to(shown, (*shown.shape[:3], 3))
    overview = image_grid(shown, [picture.name for picture in pictures])
    (options.to / MARK).write_bytes(to_png(overview))
    result = {"run": options.run, "picture": str(options.to / MARK), "images": rows}
    print_result(options, result, [*(_line(row) for row in rows), f"picture  {result['picture']}"])
    return 0


def file_names(names: Sequence[str]) -> list[str]:
    """Return a different file name, without extension, for each picture. Names of classes and
    layers may have characters such as / that file names can't have.
    """
    found: list[str] = []
    for name in names:
        plain = spelled = UNFIT.sub("-", name)
        number = 1
        while spelled.casefold() in (other.casefold() for other in found):
            number += 1
            spelled = f"{plain}-{number}"
        found.append(spelled)
    return found


def _check(options: argparse.Namespace) -> None:
    if (options.dream or options.invert) and not options.layers:
        raise ConfigError("--layer: name the layer whose features are used")
    if options.layers and not (options.dream or options.invert):
        raise ConfigError("--layer goes with --dream or --invert; name a layer's units by --unit")
    if options.longest < 1 or (options.steps is not None and options.steps < 1):
        raise ConfigError("--steps, --longest: must be at least 1")


def _pictures(options: argparse.Namespace) -> list[Picture]:
    seen = _load(options.run)

    from cvpipe.synthesis.pictures import (
        Ascent,
        class_pictures,
        dream_pictures,
        inversion_pictures,
        unit_pictures,
    )
    from cvpipe.synthesis.units import parse_unit

    ascent = Ascent(options.by, options.steps, options.seed)
    if options.labels:
        if seen.subject is None:
            raise ConfigError("--class: this task has no classes; give --unit")
        labels = [_label(name, seen.class_names) for name in options.labels]
        return class_pictures(seen, seen.subject, labels, ascent)
    if options.units:
        return unit_pictures(seen, [parse_unit(text) for text in options.units], ascent)
    if options.dream:
        return dream_pictures(seen, options.dream, options.layers, options.longest, ascent)
    return inversion_pictures(seen, options.invert, options.layers, ascent)


def _label(name: str, known: Sequence[str]) -> int:
    if name not in known:
        raise ConfigError(f"--class {name}: no such class; {suggest(name, known)}")
    return known.index(name)


def _load(name: str) -> Visualized:
    """Return the network of a run or of a package."""
    from cvpipe.training.run import Run

    if not Path(name).exists() and "/" not in name:
        from cvpipe.runtime import choose_kernels

        choose_kernels(True, True)

        from cvpipe.explain.score import Subject
        from cvpipe.models.packaged import packaged_classifier
        from cvpipe.synthesis.pictures import Visualized

        network, prepare = packaged_classifier(name)
        classes = tuple(str(n) for n in range(network.output["logits"].shape[-1]))
        return Visualized(
            network, Subject(network, lambda outputs: outputs["logits"]), classes, prepare
        )
    run = Run(name)
    from cvpipe.runtime import prepare_process

    prepare_process(run.config)

    from cvpipe.explain.explain import check_single_map
    from cvpipe.explain.score import Subject
    from cvpipe.synthesis.pictures import Visualized
    from cvpipe.training.trained import load

    trained = load(run)
    check_single_map(trained.config)
    networks = dict(trained.members[0])
    if len(networks) != 1:
        raise ConfigError(f"{name}: this run has several networks; give a run with one network")
    [network] = networks.values()
    scores = trained.task.class_scores
    subject = None if scores is None else Subject(network, scores)
    return Visualized(network, subject, trained.facts.class_names, trained.config.prepare)


def _line(row: dict[str, Any]) -> str:
    what = row.get("class_name") or row.get("unit") or row.get("layer")
    probability = f"  {row['probability']:.4f}" if "probability" in row else ""
    return f"{what}{probability}  {row['picture']}"
