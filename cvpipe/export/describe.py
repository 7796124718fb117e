"""The meaning of the inputs and outputs of an artifact's signatures, as plain JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2

from cvpipe.export.about import VALID
from cvpipe.tasks.task import Task

IMAGES = {
    "image_bytes": "[B]: the bytes of image files (JPEG, PNG, BMP or WebP) of any size",
    "image": "a batch of prepared images; coordinates in the answers are in pixels of these images",
}
DECODED = "[B]: false if the image could not be decoded; its other answers are meaningless"


def describe_signatures(folder: Path, task: Task) -> dict[str, Any]:
    """Describe every signature of a task's SavedModel.

    Returns:
        {signature: {"inputs": {name: {"meaning": text}}, "outputs": {name: {"meaning": text}}}}. An
        optional input also has its "default", and limits of its values, "least" and "most", if it
        has any. In the texts, B is the number of images.
    """
    content = (folder / "saved_model.pb").read_bytes()
    signatures = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].signature_def
    inputs: dict[str, Any] = {name: {"meaning": text} for name, text in IMAGES.items()}
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
