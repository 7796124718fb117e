"""The model card of an artifact: signatures, scores, data and configuration."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cvpipe.data.facts import Facts
from cvpipe.errors import counted
from cvpipe.markdown import number, table

CARD = Path("assets.extra") / "model_card.md"
USAGE = """\
```python
import tensorflow as tf

model = tf.saved_model.load("{model}/VERSION")    # the folder that holds assets.extra
image = tf.io.read_file("photo.jpg")
answers = model.signatures["serving_default"]({arguments})
```
"""


def write_card(
    folder: Path, model: str, about: Mapping[str, Any], pictures: Sequence[Path] = ()
) -> None:
    """Write the model card and copies of its pictures into an artifact.

    Args:
        folder: the artifact.
        model: its name.
        about: the content of its `cvpipe.json`.
        pictures: PNG files.
    """
    card = folder / CARD
    shown = []
    for picture in pictures:
        copy = card.parent / "pictures" / picture.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, copy)
        shown.append(f"![{picture.stem.replace('_', ' ')}](pictures/{picture.name})")
    lines = [
        *_head(model, about),
        *_scores(about),
        *_formats(about),
        *_data(about),
        *shown,
        "",
        *_making(about),
    ]
    card.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _head(model: str, about: Mapping[str, Any]) -> list[str]:
    config, classes = about["config"], Facts.from_json(about["trained_on"]["facts"]).class_names
    lines = [f"# {config['name']}", "", f"Task: {config['task']}."]
    if classes:
        # A class name may contain line breaks or HTML.
        names = [html.escape(" ".join(name.split()), quote=False) for name in classes]
        lines += ["", f"{counted(len(classes), 'class', 'classes')}: {', '.join(names)}."]
    if signature := about["signatures"].get("serving_default"):
        usage = USAGE.format(model=model, arguments=_arguments(signature["inputs"]))
        lines += ["", "## Use", "", usage.rstrip()]
    for name, signature in about["signatures"].items():
        rows = [
            [f"`{tensor}`", kind.removesuffix("s"), _meaning(described)]
            for kind in ("inputs", "outputs")
            for tensor, described in signature[kind].items()
        ]
        lines += ["", f"### Signature `{name}`", "", *table(["tensor", "kind", "meaning"], rows)]
    return [*lines, ""]


def _arguments(inputs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the arguments of a call with one image. TensorFlow's loader requires all inputs, even
    those with defaults.
    """
    return ", ".join(
        f"{name}=tf.constant({described['default']})"
        if "default" in described
        else f"{name}=image[tf.newaxis]"
        for name, described in inputs.items()
    )


def _meaning(described: Mapping[str, Any]) -> str:
    default = f" (default: {described['default']})" if "default" in described else ""
    return f"{described['meaning']}{default}"


def _scores(about: Mapping[str, Any]) -> list[str]:
    gate, measured = about["gate"], about["measured"]
    lines = ["## Scores", ""]
    if not measured:
        lines += [
            "No report of this checkpoint exists; run `cvpipe evaluate` to measure its scores.",
            "",
        ]
    for split, values in measured.items():
        rows = [[name, number(value)] for name, value in values.items()]
        lines += [f"On the {split} split:", "", *table(["score", "value"], rows), ""]
    if cost := about["precision"]:
        config = about["config"]
        lines += [
            f"The network computes in {config['export']['precision']}:"
            f" {cost['score']} on the test split is {number(cost['exported'])}, and"
            f" {number(cost['trained'])} in the precision of training.",
            "",
        ]
    if about["thresholds"]:
        lines += [
            "Each class has the score threshold with the best F1 on the validation split. Answers"
            " below the threshold are left out, also in these scores.",
            "",
        ]
    if gate.get("folded"):
        lines += [
            "Batch normalizations are folded into the convolutions before them, which makes"
            " predictions faster.",
            "",
        ]
    return [
        *lines,
        f"At export, {gate['images']} inputs were run in a fresh process and compared with"
        f" evaluation. The largest difference is {gate['max_difference']:.1e}.",
        "",
    ]


def _formats(about: Mapping[str, Any]) -> list[str]:
    if not about["formats"]:
        return []
    rows = [
        [
            written["runtime"],
            f"`{written['file']}`",
            str(written["batch"] or "any number"),
            f"{written['max_difference']:.1e}",
        ]
        for written in about["formats"].values()
    ]
    head = ["runtime", "file", "images in a request", "largest difference"]
    return [
        "## Other runtimes",
        "",
        "These files map prepared images to the numeric outputs of the signature `tensor`, with"
        " default options. `cvpipe.json` contains the class names.",
        "",
        *table(head, rows),
        "",
    ]


def _data(about: Mapping[str, Any]) -> list[str]:
    known = about["trained_on"]
    rows = [
        [split, str(examples), f"`{known['digests'].get(split, '')}`"]
        for split, examples in known["examples"].items()
    ]
    source = json.dumps(about["config"]["data"]["source"])
    head = ["split", "examples", "fingerprint"]
    return ["## Data", "", f"Source: `{source}`", "", *table(head, rows), ""]


def _making(about: Mapping[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    config = json.dumps(about["config"], indent=2)
    return [
        "## Training",
        "",
        *_initial_weights(about),
        f"Made with {versions}.",
        "",
        "```json",
        config,
        "```",
    ]


def _initial_weights(about: Mapping[str, Any]) -> list[str]:
    """List the origin of the members' initial weights, without repetitions."""
    found = [member["weights"] for member in about["members"] if member.get("weights")]
    rows = [
        [
            weights["source"],
            weights["license"] or "not stated",
            f"`{weights['sha256'] or 'not known'}`",
        ]
        for number, weights in enumerate(found)
        if weights not in found[:number]
    ]
    if not rows:
        return []
    head = ["source", "license", "SHA-256"]
    return ["Training started from these weights:", "", *table(head, rows), ""]
