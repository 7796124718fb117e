"""The meaning of the inputs and outputs of an artifact's signatures, as plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2

from cvpipe.config import Config
from cvpipe.data.prepare import input_spec
from cvpipe.export.about import VALID
from cvpipe.tasks.task import Task

ENCODED = "[B]: the bytes of image files (JPEG, PNG, BMP or WebP) of any size"
RESIZED = {
    "stretch": "resized to this size",
    "crop": "cropped to the largest centered part of this aspect ratio, then resized",
    "letterbox": "resized to fit and centered; the bars around have the value {fill:g}",
    "short_side": "resized to a short side of {sides} pixels, then cropped to this size",
    "keep": "of any size",
    "tile": "of any size",
}
VIEWS = {
    "one": "",
    "mirrored": "; each with its mirror image",
    "center": "; the center crop",
    "ten": "; the center and four corner crops, then their mirror images",
}
DECODED = "[B]: false if the image could not be decoded; its other answers are meaningless"


def describe_signatures(folder: Path, task: Task, config: Config) -> dict[str, Any]:
    """Describe every signature of a task's SavedModel.

    Returns:
        {signature: {"inputs": {name: {"meaning": text}}, "outputs": {name: {"meaning": text}}}}. An
        optional input also has its "default", and limits of its values, "least" and "most", if it
        has any. Prepared images have "prepare", the result of `describe_preparation`. In the texts,
        B is the number of images.
    """
    content = (folder / "saved_model.pb").read_bytes()
    signatures = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].signature_def
    rule = describe_preparation(config)
    inputs: dict[str, Any] = {
        "image_bytes": {"meaning": ENCODED},
        "image": {"meaning": _in_words(rule), "prepare": rule},
    }
    inputs |= {
        name: {key: value for key, value in option._asdict().items() if value is not None}
        for name, option in task.options.items()
    }
    outputs: dict[str, Any] = {
        name: {"meaning": field.meaning} for name, field in task.answers.items()
    }
    outputs[VALID] = {"meaning": DECODED}
    unknown = {"meaning": ""}
    return {
        name: {
            "inputs": {key: inputs.get(key, unknown) for key in sorted(signature.inputs)},
            "outputs": {key: outputs.get(key, unknown) for key in sorted(signature.outputs)},
        }
        for name, signature in signatures.items()
        # Keras adds a signature that initializes variables.
        if not name.startswith("__")
    }


def describe_preparation(config: Config) -> dict[str, Any]:
    """Describe the preparation of images for `tensor`, as `prepare_views` does it.

    Returns:
        "dtype"; "shape" of a batch, with None for any length; "colors", "RGB" or "gray"; "range",
        the least and greatest value; "mean" and "std", one value a channel, for (pixels / 255 −
        mean) / std, or None for the pixels themselves; "resize", a key of `RESIZED`; "method" of
        resizing, or None; "fill", the value of the bars of a letterbox, or None; "views", a key of
        `VIEWS`; "sides", the lengths for "short_side", or None.
    """
    prepare, viewing, spec = config.prepare, config.viewing, input_spec(config)
    mean, std = (list(values) * (prepare.channels // len(values)) for values in prepare.scaling)
    keeps, cuts = prepare.keeps_size, viewing.views in ("center", "ten")
    ends = [(end - m) / s for m, s in zip(mean, std, strict=True) for end in (0, 1)]
    resize = "short_side" if cuts and not keeps else prepare.resize
    # All channels of the bars have the same value.
    bars = (prepare.bars[0] - mean[0]) / std[0]
    return {
        "dtype": spec.dtype.name,
        "shape": spec.shape.as_list(),
        "colors": "RGB" if prepare.channels == 3 else "gray",
        "range": [0, 255] if keeps else [min(ends), max(ends)],
        "mean": None if keeps else mean,
        "std": None if keeps else std,
        "resize": resize,
        "method": None if keeps else "bilinear, antialiased",
        "fill": bars if resize == "letterbox" else None,
        "views": "one" if keeps else viewing.views,
        "sides": list(viewing.sides) if resize == "short_side" else None,
    }


def _in_words(rule: Mapping[str, Any]) -> str:
    lengths = ", ".join("any" if length is None else str(length) for length in rule["shape"][1:])
    sides = " and ".join(map(str, rule["sides"] or ()))
    scaled = (
        "pixels in 0 to 255"
        if rule["mean"] is None
        else f"(pixels / 255 - {_values(rule['mean'])}) / {_values(rule['std'])}"
    )
    resized = RESIZED[rule["resize"]].format(fill=rule["fill"] or 0, sides=sides)
    return (
        f"{rule['dtype']} [B, {lengths}]: prepared images, {rule['colors']}, {scaled}; {resized}"
        f"{VIEWS[rule['views']]}; coordinates in the answers are in pixels of these images"
    )


def _values(each: Sequence[float]) -> str:
    """Return the values of channels, or the only value, if all are equal."""
    distinct = each[:1] if len(set(each)) == 1 else each
    shown = ", ".join(f"{value:g}" for value in distinct)
    return shown if len(distinct) == 1 and distinct[0] >= 0 else f"[{shown}]"
