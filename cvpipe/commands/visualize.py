"""`cvpipe visualize`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cvpipe.commands.command import add_command, add_examples, own_folder, print_result
from cvpipe.errors import ConfigError, suggest

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from cvpipe.config.prepare import Prepare
    from cvpipe.explain.score import Subject

MARK = "visualizations.png"


class _Visualized(NamedTuple):
    """A network whose units are visualized."""

    network: keras.Model
    subject: Subject | None
    """None if the task has no classes."""
    names: tuple[str, ...]
    prepare: Prepare


class _Picture(NamedTuple):
    name: str
    """Name of the file, without extension."""
    pixels: np.ndarray
    """uint8 [H, W, C]."""
    about: dict[str, Any]


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
        help="generate images with the same features in --layer as this one",
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
        help="for --dream: pixels of the picture's longer side, at most (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the image (default: 0)"
    )
    parser.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        default=Path("visualizations"),
        help="folder of the pictures (default: %(default)s)",
    )


def visualize(options: argparse.Namespace) -> int:
    """Write pictures, and print their units and scores."""
    _check(options)
    seen = _load(options.run)

    from cvpipe.pictures.drawing import image_grid, to_png

    if options.labels:
        pictures = _classes(options, seen)
    elif options.units:
        pictures = _units(options, seen)
    elif options.dream:
        pictures = _dreams(options, seen)
    else:
        pictures = _inversions(options, seen)

    import numpy as np
    from PIL import Image

    own_folder(options.to, MARK, "--to")
    rows = []
    for picture in pictures:
        file = options.to / f"{picture.name}.png"
        Image.fromarray(np.squeeze(picture.pixels)).save(file)
        rows.append({**picture.about, "picture": str(file)})
    shown = np.stack([picture.pixels for picture in pictures])
    shown = np.broadcast_to(shown, (*shown.shape[:3], 3))
    overview = image_grid(shown, [picture.name for picture in pictures])
    (options.to / MARK).write_bytes(to_png(overview))
    result = {"run": options.run, "picture": str(options.to / MARK), "images": rows}
    print_result(options, result, [*(_line(row) for row in rows), f"picture  {result['picture']}"])
    return 0


def _check(options: argparse.Namespace) -> None:
    if (options.dream or options.invert) and not options.layers:
        raise ConfigError("--layer: name the layer whose features are used")
    if options.layers and not (options.dream or options.invert):
        raise ConfigError("--layer goes with --dream or --invert; name a layer's units by --unit")
    if options.longest < 1 or (options.steps is not None and options.steps < 1):
        raise ConfigError("--steps, --longest: must be at least 1")


def _load(name: str) -> _Visualized:
    """Return the network of a run or of a package."""
    from cvpipe.training.run import Run

    if not Path(name).exists() and "/" not in name:
        from cvpipe.runtime import choose_kernels

        choose_kernels(True, True)

        from cvpipe.explain.score import Subject
        from cvpipe.models.packaged import packaged_classifier

        network, prepare = packaged_classifier(name)
        classes = tuple(str(n) for n in range(network.output["logits"].shape[-1]))
        return _Visualized(network, Subject(network, lambda own: own["logits"]), classes, prepare)
    run = Run(name)
    from cvpipe.runtime import prepare_process

    prepare_process(run.config)

    from cvpipe.explain.explain import check_single_map
    from cvpipe.explain.score import Subject
    from cvpipe.training.trained import load

    trained = load(run)
    check_single_map(trained.config)
    networks = dict(trained.members[0])
    if len(networks) != 1:
        raise ConfigError(f"{name}: this run has several networks; give a run with one network")
    [network] = networks.values()
    scores = trained.task.class_scores
    subject = None if scores is None else Subject(network, scores)
    return _Visualized(network, subject, trained.facts.class_names, trained.config.prepare)


def _classes(options: argparse.Namespace, seen: _Visualized) -> list[_Picture]:
    import tensorflow as tf

    subject = seen.subject
    if subject is None:
        raise ConfigError("--class: this task has no classes; give --unit")
    for label in options.labels:
        if label not in seen.names:
            raise ConfigError(f"--class {label}: no such class; {suggest(label, seen.names)}")
    labels = tf.constant([seen.names.index(label) for label in options.labels])
    pixels = _ascended(
        options, seen, lambda images: subject.score(images, labels), len(options.labels)
    )

    from cvpipe.data.prepare import normalize_colors

    # Score the rounded pixels, which are those of the file.
    scores = subject.all_scores(
        normalize_colors(tf.constant(pixels / 255.0, tf.float32), seen.prepare)
    )
    probabilities = tf.nn.softmax(scores).numpy()
    return [
        _Picture(
            f"class-{label}",
            pixels[n],
            {
                "class_name": label,
                "score": float(scores[n, labels[n]]),
                "probability": float(probabilities[n, labels[n]]),
                "answer": seen.names[int(probabilities[n].argmax())],
            },
        )
        for n, label in enumerate(options.labels)
    ]


def _units(options: argparse.Namespace, seen: _Visualized) -> list[_Picture]:
    from cvpipe.data.prepare import normalize_colors
    from cvpipe.synthesis.units import activation_of, find_units, parse_unit

    units = [parse_unit(text) for text in options.units]
    for unit in units:
        find_units(seen.network, [unit])
    pictures = []
    # The units of one layer form one batch. Layers are in the order in which they are first named.
    for layer in dict.fromkeys(unit.layer for unit in units):
        own = [unit for unit in units if unit.layer == layer]
        activation = activation_of(seen.network, own)
        pixels = _ascended(options, seen, activation, len(own))
        reached = activation(normalize_colors(pixels.astype("float32") / 255, seen.prepare)).numpy()
        for n, unit in enumerate(own):
            about = {"unit": str(unit), "activation": float(reached[n])}
            pictures.append(_Picture(str(unit).replace(":", "-"), pixels[n], about))
    return pictures


def _ascended(
    options: argparse.Namespace, seen: _Visualized, activation: Any, count: int
) -> np.ndarray:
    """Return the images that maximize an activation, uint8 [B, H, W, C]."""
    import tensorflow as tf

    from cvpipe.synthesis.unit_images import Pixelwise, Spectral, pixel_images, spectral_images

    seeds = tf.constant([[options.seed, n] for n in range(count)], tf.int64)
    if options.by == "spectrum":
        spectral = Spectral(steps=options.steps or Spectral().steps)
        made = _in_graph(
            lambda own: spectral_images(activation, own, seen.prepare, spectral), seeds
        )
    else:
        pixelwise = Pixelwise(steps=options.steps or Pixelwise().steps)
        made = _in_graph(lambda own: pixel_images(activation, own, seen.prepare, pixelwise), seeds)
    return _to_bytes(made[0])


def _dreams(options: argparse.Namespace, seen: _Visualized) -> list[_Picture]:
    import tensorflow as tf

    from cvpipe.synthesis.dream import Dream, dream, octave_sizes
    from cvpipe.synthesis.units import at_size, find_layer

    layers = [find_layer(seen.network, name) for name in options.layers]
    image = _read(options.dream, seen.prepare.channels, options.longest)
    settings = Dream(steps=options.steps or Dream().steps)
    sizes = octave_sizes(tuple(image.shape[1:3]), settings)
    pictures = []
    for layer in layers:
        features = [at_size(seen.network, layer, size) for size in sizes]
        dreamt, scores = _in_graph(
            lambda own, features=features: dream(
                features, image, sizes, seen.prepare, own, settings
            ),
            tf.constant([options.seed, 0], tf.int64),
        )
        about = {
            "image": str(options.dream),
            "layer": layer.name,
            "activation": [float(scores[0, 0]), float(scores[-1, 0])],
        }
        name = f"dream-{options.dream.stem}-{layer.name}"
        pictures.append(_Picture(name, _to_bytes(dreamt)[0], about))
    return pictures


def _inversions(options: argparse.Namespace, seen: _Visualized) -> list[_Picture]:
    import keras
    import tensorflow as tf

    from cvpipe.data.prepare import prepare, restore_pixels
    from cvpipe.synthesis.invert import Inversion, invert
    from cvpipe.synthesis.units import find_layer

    layers = [find_layer(seen.network, name) for name in options.layers]
    whole = 255 * _read(options.invert, seen.prepare.channels)[0]
    image = tf.cast(restore_pixels(prepare(whole, seen.prepare), seen.prepare), tf.float32) / 255
    settings = Inversion(steps=options.steps or Inversion().steps)
    pictures = []
    for layer in layers:
        model = keras.Model(seen.network.inputs, layer.output)
        made, losses = _in_graph(
            lambda own, model=model: invert(
                lambda images: tf.cast(model(images, training=False), tf.float32),
                image[tf.newaxis],
                seen.prepare,
                own,
                settings,
            ),
            tf.constant([[options.seed, 0]], tf.int64),
        )
        about = {
            "image": str(options.invert),
            "layer": layer.name,
            "loss": [float(losses[0, 0]), float(losses[-1, 0])],
        }
        name = f"inversion-{options.invert.stem}-{layer.name}"
        pictures.append(_Picture(name, _to_bytes(made)[0], about))
    return pictures


def _in_graph(make: Any, seeds: tf.Tensor) -> Any:
    import tensorflow as tf

    return tf.function(make, autograph=False)(seeds)


def _read(file: Path, channels: int, longest: int | None = None) -> tf.Tensor:
    """Return an image, float32 [1, H, W, C] in 0…1."""
    import tensorflow as tf

    from cvpipe.data.decode import decode_file

    image = decode_file(file, channels)
    size: Sequence[int] = image.shape[:2]
    scale = 1.0 if longest is None else min(1.0, longest / max(size))
    resized = tf.image.resize(image, [round(n * scale) for n in size], antialias=True)
    return resized[tf.newaxis] / 255


def _to_bytes(images: tf.Tensor) -> np.ndarray:
    import numpy as np

    return np.round(255 * np.clip(images.numpy(), 0, 1)).astype(np.uint8)


def _line(row: dict[str, Any]) -> str:
    what = row.get("class_name") or row.get("unit") or row.get("layer")
    probability = f"  {row['probability']:.4f}" if "probability" in row else ""
    return f"{what}{probability}  {row['picture']}"
