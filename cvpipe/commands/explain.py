"""`cvpipe explain`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cvpipe.commands.command import (
    add_command,
    add_data_overrides,
    add_examples,
    add_output_folder,
    artifact_folder,
    check_output_folder,
    is_run,
    make_output_folder,
    print_result,
)
from cvpipe.commands.explain_measure import measure_methods
from cvpipe.errors import ConfigError, DataError, suggest

if TYPE_CHECKING:
    import numpy as np

MARK = "explanations.png"


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands, "explain", explain, "show which pixels a run's predictions depend on"
    )
    add_examples(
        parser,
        "cvpipe explain runs/digits photo.png",
        "cvpipe explain runs/digits photo.png --method occlusion --class 3 --to explained",
        "cvpipe explain runs/digits --measure test --limit 50",
        "cvpipe explain runs/digit_scenes_ssd --measure test --score pointing",
    )
    parser.add_argument(
        "source",
        metavar="RUN|ARTIFACT",
        type=Path,
        help="such as runs/digits; an artifact needs export.explain",
    )
    parser.add_argument("images", metavar="IMAGE", nargs="*", type=Path, help="image files")
    parser.add_argument(
        "--method",
        action="append",
        metavar="NAME",
        help=(
            "saliency, gradient_input, smooth_grad, integrated_gradients, guided_backprop,"
            " deconvnet, grad_cam, grad_cam_pp, score_cam, occlusion, superpixels or rise; can be"
            " repeated"
            " (default: saliency, grad_cam, occlusion; with --measure: all)"
        ),
    )
    parser.add_argument(
        "--class",
        dest="label",
        metavar="NAME",
        help="the class to explain (default: the class with the highest score in each image)",
    )
    parser.add_argument(
        "--layer",
        metavar="NAME",
        help="the layer of the class activation maps (default: the last feature map)",
    )
    parser.add_argument(
        "--cut",
        action="store_true",
        help="also cut out the object that each map points at, by GrabCut",
    )
    parser.add_argument(
        "--measure",
        metavar="SPLIT",
        help="compare methods by the quality of their maps on a split of the run, such as test",
    )
    parser.add_argument(
        "--score",
        action="append",
        metavar="NAME",
        help=(
            "with --measure: a score to compute: deletion, insertion, mu_fidelity, pointing or"
            " randomized; can be repeated (default: all)"
        ),
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=100,
        metavar="N",
        help="with --measure: use at most N images, evenly spaced (default: %(default)s)",
    )
    add_output_folder(parser, "explanations", "folder of the pictures")
    add_data_overrides(parser)


class Explained(NamedTuple):
    """Maps of several images, and the classes that they explain."""

    pixels: np.ndarray
    """uint8 [B, H, W, C]: the prepared images as pixels."""
    classes: list[str]
    """The explained class of each image."""
    maps: dict[str, np.ndarray]
    """float32 [B, H, W] by method."""
    scores: np.ndarray | None = None
    """Score of each explained class; None if the scores aren't known."""


def explain(options: argparse.Namespace) -> int:
    """Write pictures of maps, and print the explained classes; with --measure, the quality of
    methods.
    """
    if options.measure is not None:
        return measure_methods(options)
    if not options.images:
        raise ConfigError("give image files to explain, or --measure SPLIT to compare methods")
    if options.overrides:
        raise ConfigError("--set goes with --measure, which reads the run's data")
    if options.score:
        raise ConfigError("--score goes with --measure, which computes scores of maps")
    contents = [_read(image) for image in options.images]
    check_output_folder(options.to, MARK, "--to")
    explain_images = _explain_run if is_run(options.source) else _explain_artifact
    explained = explain_images(options, contents)

    from cvpipe.pictures.drawing.render import to_png
    from cvpipe.pictures.heat import draw_maps

    make_output_folder(options.to, MARK, "--to")
    picture = draw_maps(explained.pixels, explained.maps, explained.classes)
    (options.to / MARK).write_bytes(to_png(picture))
    rows = []
    for n, image in enumerate(options.images):
        row: dict[str, Any] = {"image": str(image), "class_name": explained.classes[n]}
        row |= _write_maps(options, explained, n)
        if explained.scores is not None:
            row["score"] = float(explained.scores[n])
        rows.append(row)
    result = {"source": str(options.source), "picture": str(options.to / MARK), "images": rows}
    lines = [f"{row['image']}  {row['class_name']}" for row in rows]
    print_result(options, result, [*lines, f"picture  {options.to / MARK}"])
    return 0


def _write_maps(options: argparse.Namespace, explained: Explained, number: int) -> dict[str, Any]:
    """Write the maps of an image; return the files by method, as "maps" and "cuts"."""
    import numpy as np
    from PIL import Image

    from cvpipe.explain.segment import cut_out
    from cvpipe.pictures.heat import overlay

    pixels, maps, cuts = explained.pixels[number], {}, {}
    for method, heat in explained.maps.items():
        file = options.to / f"{number:03}-{options.images[number].stem}.{method}.png"
        Image.fromarray(overlay(pixels, heat[number])).save(file)
        maps[method] = str(file)
        if options.cut:
            cut = Image.fromarray(np.squeeze(pixels)).convert("RGBA")
            cut.putalpha(Image.fromarray(np.uint8(255 * cut_out(pixels, heat[number]))))
            cuts[method] = str(file.with_suffix(".cut.png"))
            cut.save(cuts[method])
    return {"maps": maps, "cuts": cuts} if options.cut else {"maps": maps}


def _explain_run(options: argparse.Namespace, contents: list[bytes]) -> Explained:
    from cvpipe.runtime import prepare_process
    from cvpipe.training.run import Run

    run = Run(options.source)
    prepare_process(run.config)
    names = run.facts.class_names
    if options.label is not None and options.label not in names:
        raise ConfigError(
            f"--class {options.label}: no such class; {suggest(options.label, names)}"
        )

    import numpy as np
    import tensorflow as tf

    from cvpipe.explain.explain import answered, pixels_of, read_images
    from cvpipe.explain.explain import explain as make_maps
    from cvpipe.explain.score import subject_of
    from cvpipe.training.trained import load

    trained = load(run)
    subject = subject_of(trained.task, dict(trained.members[0]))
    images = read_images(contents, [*map(str, options.images)], trained.config)
    classes, scores = answered(subject, images)
    if options.label is not None:
        classes = np.full_like(classes, names.index(options.label))
        scores = subject.score(images, tf.constant(classes)).numpy()
    methods = options.method or ["saliency", "grad_cam", "occlusion"]
    maps = make_maps(subject, images, tf.constant(classes), methods, options.layer)
    pixels = pixels_of(images, trained.config)
    return Explained(pixels, [names[label] for label in classes], maps, scores)


def _explain_artifact(options: argparse.Namespace, contents: list[bytes]) -> Explained:
    from cvpipe.export.about import artifact_config
    from cvpipe.runtime import prepare_process

    folder = artifact_folder(options.source)
    config = artifact_config(folder)
    for name, given in (("--class", options.label), ("--layer", options.layer)):
        if given is not None:
            raise ConfigError(
                f"{name} {given}: an artifact explains the class with the highest score, by its"
                " last feature map; give the run instead"
            )
    methods = list(config.export.explain)
    if not methods:
        raise ConfigError(
            f"{folder}: has no signature `explain`; export the run again with --set"
            " 'export.explain=[grad_cam]', or give the run instead"
        )
    for method in options.method or ():
        if method not in methods:
            raise ConfigError(
                f"--method {method}: not in this artifact; {suggest(method, methods)}"
            )
    prepare_process(config)

    import tensorflow as tf

    from cvpipe.explain.explain import pixels_of, read_images
    from cvpipe.export.artifact import open_artifact
    from cvpipe.export.explained import EXPLAIN, EXPLAINED_CLASS

    images = read_images(contents, [*map(str, options.images)], config)
    pixels = pixels_of(images, config)
    artifact = open_artifact(folder)
    answers = artifact.loaded.signatures[EXPLAIN](
        image_bytes=tf.constant(contents), **artifact.defaults
    )
    names = artifact.facts.class_names
    classes = [names[label] for label in answers[EXPLAINED_CLASS].numpy()]
    maps = {name: answers[name].numpy() for name in options.method or methods}
    return Explained(pixels, classes, maps)


def _read(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise DataError(f"{image}: the image can't be read ({error.strerror})") from None
