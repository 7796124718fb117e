"""`cvpipe style`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cvpipe.commands.command import add_command, add_examples, print_result
from cvpipe.errors import ConfigError


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands, "style", style, "render a photo, or make a texture, in the style of a picture"
    )
    add_examples(
        parser,
        "cvpipe style photo.jpg --like painting.jpg",
        "cvpipe style --like painting.jpg --to texture.png",
    )
    parser.add_argument(
        "photo", metavar="PHOTO", nargs="?", type=Path, help="leave out to make a texture"
    )
    parser.add_argument(
        "--like",
        action="append",
        required=True,
        metavar="PICTURE",
        type=Path,
        help="a picture with the style; several styles are blended",
    )
    parser.add_argument(
        "--style-weight",
        type=float,
        default=10.0,
        metavar="W",
        help="weight of the style relative to the content (default: %(default)g)",
    )
    parser.add_argument(
        "--keep-color", action="store_true", help="keep the photo's colors, change only brightness"
    )
    parser.add_argument(
        "--longest",
        type=int,
        default=384,
        metavar="N",
        help="largest length of the result's longer side, in pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--stroke",
        type=int,
        default=256,
        metavar="N",
        help="shorter side of the style picture in pixels; larger values give larger strokes"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=300,
        metavar="N",
        help="optimization steps (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of a texture's initial noise (default: 0)",
    )
    parser.add_argument(
        "--to",
        metavar="FILE",
        type=Path,
        default=Path("styled.png"),
        help="PNG or JPEG file of the result (default: %(default)s)",
    )


def style(options: argparse.Namespace) -> int:
    """Write the picture, and print its losses."""
    if min(options.steps, options.longest, options.stroke) < 1 or options.style_weight < 0:
        raise ConfigError(
            "--steps, --longest, --stroke: must be at least 1, and --style-weight at least 0"
        )
    if options.to.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"--to {options.to}: give a name that ends in .png or .jpg")
    if options.keep_color and options.photo is None:
        raise ConfigError("--keep-color: a texture has no photo; leave --keep-color out")

    from cvpipe.runtime import choose_kernels

    choose_kernels(True, True)

    import numpy as np
    import tensorflow as tf
    from PIL import Image

    from cvpipe.atomic_write import atomic_write
    from cvpipe.losses.perceptual import trained_features
    from cvpipe.synthesis.transfer import Transfer, paint
    from cvpipe.tasks.style import with_colors_of

    features = trained_features("average")
    style_pictures = [_read(file, options.stroke, min) for file in options.like]
    if options.photo is None:
        seed = tf.constant([options.seed, 0], tf.int64)
        start = tf.random.stateless_uniform([1, options.longest, options.longest, 3], seed)
    else:
        start = _read(options.photo, options.longest, max)
    settings = Transfer(steps=options.steps, style=options.style_weight)
    made, losses = paint(features, style_pictures, start, settings, texture=options.photo is None)
    picture = made[0]
    if options.keep_color:
        picture = with_colors_of(start[0], picture, tf.constant(1.0))
    pixels = np.round(255 * picture.numpy()).astype(np.uint8)
    options.to.parent.mkdir(parents=True, exist_ok=True)
    kind = "PNG" if options.to.suffix.lower() == ".png" else "JPEG"
    with atomic_write(options.to) as stream:
        Image.fromarray(pixels).save(stream, kind)
    before, after = float(losses[0, 0]), float(losses[-1, 0])
    result = {
        "photo": options.photo and str(options.photo),
        "like": [str(file) for file in options.like],
        "loss": [before, after],
        "picture": str(options.to),
    }
    print_result(
        options, result, [f"loss     {before:.3f} to {after:.3f}", f"picture  {options.to}"]
    )
    return 0


def _read(file: Path, side: int, choose_side: Any) -> Any:
    """Return an image, float32 [1, H, W, 3] in 0…1, whose longer (max) or shorter (min) side is at
    most `side`.
    """
    import tensorflow as tf

    from cvpipe.data.decode import decode_file

    image = decode_file(file, 3)
    scale = min(1.0, side / choose_side(image.shape[:2]))
    size = [max(round(n * scale), 1) for n in image.shape[:2]]
    return tf.image.resize(image, size, antialias=True)[tf.newaxis] / 255
