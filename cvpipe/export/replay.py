"""Run an artifact on recorded requests through both of TensorFlow's loaders, without cvpipe.

Run as a script by the gate: `python replay.py ARTIFACT REQUESTS.npz ANSWERS.npz`. It imports only
TensorFlow and NumPy, which shows that the artifact needs no code of cvpipe. The v1 loader fails in
the same cases as TensorFlow Serving.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2


def replay(artifact: str, requests: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the answers of both loaders, named `loader/call:signature/answer`."""
    both = {"v2": replay_v2(artifact, requests), "v1": replay_v1(artifact, requests)}
    return {
        f"{loader}/{name}": value
        for loader, answers in both.items()
        for name, value in answers.items()
    }


def replay_v2(artifact: str, requests: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the answers through `tf.saved_model.load`."""
    loaded, defaults = tf.saved_model.load(artifact), default_inputs(artifact)
    answers = {}
    for name, (signature, inputs) in calls(requests).items():
        arguments = {
            **defaults[signature],
            **{key: tf.constant(value) for key, value in inputs.items()},
        }
        outputs = loaded.signatures[signature](**arguments)
        answers.update({f"{name}/{key}": value.numpy() for key, value in outputs.items()})
    return answers


def default_inputs(artifact: str) -> dict[str, dict[str, tf.Tensor]]:
    """Return the default values of optional inputs by signature.

    The v1 loader, and TensorFlow Serving for gRPC, fill them in; `tf.saved_model.load` does not.
    """
    meta = saved_model_pb2.SavedModel.FromString(
        (Path(artifact) / "saved_model.pb").read_bytes()
    ).meta_graphs[0]
    return {
        name: {
            key: tf.constant(tf.make_ndarray(proto)) for key, proto in signature.defaults.items()
        }
        for name, signature in meta.signature_def.items()
    }


def replay_v1(artifact: str, requests: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the answers through a v1 Session, as TensorFlow Serving computes them."""
    answers = {}
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], artifact)
        for name, (signature, inputs) in calls(requests).items():
            definition = meta.signature_def[signature]
            fetches = {key: info.name for key, info in definition.outputs.items()}
            outputs = session.run(
                fetches, {definition.inputs[key].name: value for key, value in inputs.items()}
            )
            answers.update({f"{name}/{key}": value for key, value in outputs.items()})
    return answers


def calls(requests: dict[str, np.ndarray]) -> dict[str, tuple[str, dict[str, np.ndarray]]]:
    """Group requests by call. Names of requests are `call:signature/input`."""
    grouped: dict[str, tuple[str, dict[str, np.ndarray]]] = {}
    for name, value in requests.items():
        call, _, key = name.partition("/")
        grouped.setdefault(call, (call.partition(":")[2], {}))[1][key] = value
    return grouped


def _load(file: str) -> dict[str, np.ndarray]:
    # Image bytes are stored as object arrays, because NumPy's byte strings lose trailing zeros.
    with np.load(file, allow_pickle=True) as arrays:
        return dict(arrays)


if __name__ == "__main__":
    _, artifact, requests_file, answers_file = sys.argv
    requests = _load(requests_file)
    np.savez(answers_file, **replay(artifact, requests))  # type: ignore[arg-type]
