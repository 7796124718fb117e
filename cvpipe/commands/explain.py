"""`cvpipe explain`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cvpipe.commands.command import add_command, own_folder, print_result
from cvpipe.errors import ConfigError, DataError, suggest

MARK = "explanations.png"


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands, "explain", explain, "show which pixels a run's predictions depend on"
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="such as runs/digits")
    parser.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="image files")
    parser.add_argument(
        "--method",
        action="append",
        metavar="NAME",
        help=(
            "saliency, gradient_input, smooth_grad, integrated_gradients, guided_backprop,"
            " deconvnet, grad_cam, grad_cam_pp, score_cam, occlusion or rise; can be repeated"
            " (default: saliency, grad_cam, occlusion)"
        ),
    )
    parser.add_argument(
        "--class",
        dest="label",
        metavar="NAME",
        help="the class to explain (default: the one with the highest score in each image)",
    )
    parser.add_argument(
        "--layer",
        metavar="NAME",
        help="the layer of the class activation maps (default: the last feature map)",
    )
    parser.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        default=Path("explanations"),
        help="folder of the pictures (default: %(default)s)",
    )


def explain(options: argparse.Namespace) -> int:
    """Write pictures of maps, and print the explained classes."""
    from cvpipe.runtime import prepare_process
    from cvpipe.training.run import Run

    run = Run(options.run)
    prepare_process(run.config)
    contents = [_read(image) for image in options.images]
    names = run.facts.class_names
    if options.label is not None and options.label not in names:
        raise ConfigError(
            f"--class {options.label}: no such class; {suggest(options.label, names)}"
        )

    import numpy as np
    import tensorflow as tf
    from PIL import Image

    from cvpipe.explain.explain import answered, pixels_of, read_images
    from cvpipe.explain.explain import explain as make_maps
    from cvpipe.explain.score import subject_of
    from cvpipe.pictures.drawing import to_png
    from cvpipe.pictures.heat import draw_maps, overlay
    from cvpipe.training.trained import load

    trained = load(run)
    subject = subject_of(trained.task, dict(trained.members[0]))
    images = read_images(contents, trained.config)
    classes, scores = answered(subject, images)
    if options.label is not None:
        classes = np.full_like(classes, names.index(options.label))
        scores = subject.score(images, tf.constant(classes)).numpy()
    methods = options.method or ["saliency", "grad_cam", "occlusion"]
    maps = make_maps(subject, images, tf.constant(classes), methods, options.layer)
    pixels = pixels_of(images, trained.config)

    own_folder(options.to, MARK, "--to")
    (options.to / MARK).write_bytes(
        to_png(draw_maps(pixels, maps, [names[label] for label in classes]))
    )
    rows = []
    for n, image in enumerate(options.images):
        files = {}
        for method, own in maps.items():
            file = options.to / f"{n:03}-{image.stem}.{method}.png"
            Image.fromarray(overlay(pixels[n], own[n])).save(file)
            files[method] = str(file)
        rows.append(
            {
                "image": str(image),
                "class_name": names[classes[n]],
                "score": float(scores[n]),
                "maps": files,
            }
        )
    result = {"run": str(options.run), "picture": str(options.to / MARK), "images": rows}
    lines = [f"{row['image']}  {row['class_name']}" for row in rows]
    print_result(options, result, [*lines, f"picture  {options.to / MARK}"])
    return 0


def _read(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise DataError(f"{image}: the image can't be read ({error.strerror})") from None
