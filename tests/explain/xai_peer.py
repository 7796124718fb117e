"""Explain and attack images by Xplique or ART, for comparison with cvpipe.

The libraries run in another process, because their dependencies conflict with cvpipe's. The
environment variable XAI_PYTHON is the path of a Python with TensorFlow and these libraries.

    XAI_PYTHON xai_peer.py xplique|art MODEL.keras INPUTS.npz ANSWERS.npz
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def ask_xai_peer(library: str, network: Any, folder: Path, inputs: Mapping[str, Any]) -> Arrays:
    """Run this file for a library; skip the test if the library isn't installed.

    Args:
        library: module of the library.
        network: a Keras model from images to scores, of plain layers.
        folder: folder for the files.
        inputs: arrays by name.
    """
    import pytest

    python = os.environ.get("XAI_PYTHON", sys.executable)
    finds = f"import importlib.util as u, sys; sys.exit(u.find_spec('{library}') is None)"
    if subprocess.run([python, "-c", finds], check=False).returncode:
        pytest.skip(f"needs {library}; XAI_PYTHON names a Python that has it")
    files = [folder / name for name in ("network.keras", "inputs.npz", "answers.npz")]
    network.save(files[0])
    np.savez(files[1], **{name: np.asarray(value) for name, value in inputs.items()})
    subprocess.run([python, __file__, library, *map(str, files)], check=True)
    with np.load(files[2]) as answers:
        return dict(answers)


def _xplique(network: Any, inputs: Arrays) -> Arrays:
    import tensorflow as tf
    from xplique import attributions
    from xplique.attributions.gradient_statistics.gradient_statistic import GradientStatistic

    images, targets = inputs["images"], inputs["targets"]
    layer, patch, steps = str(inputs["layer"]), int(inputs["patch"]), int(inputs["steps"])

    # Replace Xplique's random noise by the given noisy images.
    GradientStatistic._perturb_samples = staticmethod(
        lambda *_: tf.reshape(inputs["noisy"], [-1, *images.shape[1:]])
    )

    class Sums(attributions.GradCAMPP):
        """Grad-CAM++ with sums over places, as in the paper."""

        @staticmethod
        def _compute_weights(gradients: Any, features: Any) -> Any:
            total = tf.reduce_sum(features, [1, 2], keepdims=True)
            below = 2 * gradients**2 + gradients**3 * total
            alpha = tf.math.divide_no_nan(gradients**2, below)
            return tf.reduce_sum(alpha * tf.nn.relu(gradients), [1, 2], keepdims=True)

    samples = inputs["noisy"].shape[1]
    explainers = {
        "saliency": attributions.Saliency(network),
        "gradient_input": attributions.GradientInput(network, reducer=None),
        "integrated_gradients": attributions.IntegratedGradients(
            network, steps=steps, reducer=None
        ),
        "smooth_grad": attributions.SmoothGrad(
            network, batch_size=samples * len(images), nb_samples=samples, reducer=None
        ),
        "grad_cam": attributions.GradCAM(network, conv_layer=layer),
        "grad_cam_pp": attributions.GradCAMPP(network, conv_layer=layer),
        "grad_cam_pp_of_sums": Sums(network, conv_layer=layer),
        "occlusion": attributions.Occlusion(
            network, patch_size=patch, patch_stride=patch, occlusion_value=0.0
        ),
        "occlusion_overlapping": attributions.Occlusion(
            network, patch_size=patch, patch_stride=int(inputs["stride"]), occlusion_value=0.0
        ),
    }
    return {name: np.asarray(explain(images, targets)) for name, explain in explainers.items()}


def _art(network: Any, inputs: Arrays) -> Arrays:
    import tensorflow as tf
    from art.attacks.evasion import DeepFool, FastGradientMethod, ProjectedGradientDescent
    from art.estimators.classification import TensorFlowV2Classifier

    pixels, labels = inputs["pixels"], inputs["targets"]
    classifier, unprepared = (
        TensorFlowV2Classifier(
            network,
            nb_classes=labels.shape[1],
            input_shape=pixels.shape[1:],
            loss_object=tf.keras.losses.CategoricalCrossentropy(from_logits=True),
            clip_values=(0.0, 1.0),
            preprocessing=preprocessing,
        )
        for preprocessing in ((inputs["mean"], inputs["std"]), None)
    )
    epsilon, steps = float(inputs["epsilon"]), int(inputs["steps"])
    overshoot = float(inputs["overshoot"])
    size = 2.5 * epsilon / steps
    found = {}
    for name, norm in (("linf", np.inf), ("l2", 2)):
        fgsm = FastGradientMethod(classifier, norm=norm, eps=epsilon)
        pgd = ProjectedGradientDescent(
            classifier, norm=norm, eps=epsilon, eps_step=size, max_iter=steps, verbose=False
        )
        found[f"fgsm_{name}"] = fgsm.generate(pixels, labels)
        found[f"pgd_{name}"] = pgd.generate(pixels, labels)
    for name, most in (("deep_fool_step", 1), ("deep_fool", 50)):
        # ART's class gradients ignore the preprocessing, so DeepFool gets a classifier without it.
        attack = DeepFool(unprepared, max_iter=most, epsilon=overshoot, verbose=False)
        found[name] = attack.generate(pixels)
    return found


def _main(library: str, network: str, inputs: str, answers: str) -> None:
    import keras

    with np.load(inputs) as file:
        arrays = dict(file)
    explain = {"xplique": _xplique, "art": _art}[library]
    np.savez(answers, **explain(keras.models.load_model(network), arrays))


if __name__ == "__main__":
    _main(*sys.argv[1:])
