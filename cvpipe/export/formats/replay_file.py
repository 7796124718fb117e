"""Run a file of another runtime on prepared images, in a process without cvpipe.

Run as a script by the gate: `python replay_file.py FORMAT FILE IMAGES.npz ANSWERS.npz`. It imports
only NumPy and the runtime, which shows that the file needs no TensorFlow.
"""

import sys

import numpy as np


def replay_litert(file: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """Run LiteRT, one image at a time."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=file).get_signature_runner()
    each = [runner(image=images[n : n + 1]) for n in range(len(images))]
    return {name: np.concatenate([answers[name] for answers in each]) for name in each[0]}


def replay_onnx(file: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """Run ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    [image] = session.get_inputs()
    return dict(zip(names, session.run(names, {image.name: images}), strict=True))


def replay_openvino(file: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """Run OpenVINO on the CPU, in float32 even if its default is a lower precision."""
    # Block OpenVINO's telemetry package, so that it doesn't report its use to Intel.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    precision = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(file, "CPU", precision)
    answers = model([images])
    return {name: answers[output] for output in model.outputs for name in output.get_names()}


RUNTIMES = {"litert": replay_litert, "onnx": replay_onnx, "openvino": replay_openvino}

if __name__ == "__main__":
    _, name, file, images_file, answers_file = sys.argv
    with np.load(images_file) as arrays:
        images = arrays["images"]
    np.savez(answers_file, **RUNTIMES[name](file, images))  # type: ignore[arg-type]
