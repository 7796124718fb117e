"""Explain and attack images by Xplique or ART, for comparison with cvpipe.

This runs in another process, since their dependencies conflict with cvpipe's: the environment
variable XAI_PYTHON names a Python with TensorFlow and these libraries.

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
        library: its module.
        network: a Keras model from images to scores, of plain layers.
        folder: for the files.
        inputs: arrays by name.
    """
    import pytest

    python = os.environ.get("XAI_PYTHON", sys.executable)
    finds = f"import importlib.util as u, sys; sys.exit(u.find_spec('{library}') is None)"
    if subprocess.run([python, "-c", finds], check=False).returncode:
        pytest.skip(f"needs {library}; XAI_PYTHON names a Python that has it")
    files = [folder / name for name in ("network.keras", "inputs.npz", "answers.npz")]
    network.save(files[0])
    np.savez(files[1], **{name: np.asarray(own) for name, own in inputs.items()})
    subprocess.run([python, __file__, library, *map(str, files)], check=True)
    with np.load(files[2]) as answers:
        return dict(answers)


def _xplique(network: Any, given: Arrays) -> Arrays:
    import tensorflow as tf
    from xplique import attributions as own
    from xplique.attributions.gradient_statistics.gradient_statistic import GradientStatistic

    images, targets = given["images"], given["targets"]
    layer, patch, steps = str(given["layer"]), int(given["patch"]), int(given["steps"])

    # Use the given noisy images in place of Xplique's own.
    GradientStatistic._perturb_samples = staticmethod(
        lambda *_: tf.reshape(given["noisy"], [-1, *images.shape[1:]])
    )

    class Sums(own.GradCAMPP):
        """Grad-CAM++ with sums over places, as in the paper."""

        @staticmethod
        def _compute_weights(gradients: Any, features: Any) -> Any:
            total = tf.reduce_sum(features, [1, 2], keepdims=True)
            below = 2 * gradients**2 + gradients**3 * total
            alpha = tf.math.divide_no_nan(gradients**2, below)
            return tf.reduce_sum(alpha * tf.nn.relu(gradients), [1, 2], keepdims=True)

    samples = given["noisy"].shape[1]
    explainers = {
        "saliency": own.Saliency(network),
        "gradient_input": own.GradientInput(network, reducer=None),
        "integrated_gradients": own.IntegratedGradients(network, steps=steps, reducer=None),
        "smooth_grad": own.SmoothGrad(
            network, batch_size=samples * len(images), nb_samples=samples, reducer=None
        ),
        "grad_cam": own.GradCAM(network, conv_layer=layer),
        "grad_cam_pp": own.GradCAMPP(network, conv_layer=layer),
        "grad_cam_pp_of_sums": Sums(network, conv_layer=layer),
        "occlusion": own.Occlusion(
            network, patch_size=patch, patch_stride=patch, occlusion_value=0.0
        ),
        "occlusion_overlapping": own.Occlusion(
            network, patch_size=patch, patch_stride=int(given["stride"]), occlusion_value=0.0
        ),
    }
    return {name: np.asarray(one(images, targets)) for name, one in explainers.items()}


def _art(network: Any, given: Arrays) -> Arrays:
    import tensorflow as tf
    from art.attacks.evasion import DeepFool, FastGradientMethod, ProjectedGradientDescent
    from art.estimators.classification import TensorFlowV2Classifier

    pixels, labels = given["pixels"], given["targets"]
    classifier, unprepared = (
        TensorFlowV2Classifier(
            network,
            nb_classes=labels.shape[1],
            input_shape=pixels.shape[1:],
            loss_object=tf.keras.losses.CategoricalCrossentropy(from_logits=True),
            clip_values=(0.0, 1.0),
            preprocessing=preprocessing,
        )
        for preprocessing in ((given["mean"], given["std"]), None)
    )
    epsilon, steps = float(given["epsilon"]), int(given["steps"])
    overshoot = float(given["overshoot"])
    size = 2.5 * epsilon / steps
    found = {}
    for name, norm in (("linf", np.inf), ("l2", 2)):
        one = FastGradientMethod(classifier, norm=norm, eps=epsilon)
        several = ProjectedGradientDescent(
            classifier, norm=norm, eps=epsilon, eps_step=size, max_iter=steps, verbose=False
        )
        found[f"fgsm_{name}"] = one.generate(pixels, labels)
        found[f"pgd_{name}"] = several.generate(pixels, labels)
    for name, most in (("deep_fool_step", 1), ("deep_fool", 50)):
        # DeepFool's gradients of classes would leave out the preprocessing.
        attack = DeepFool(unprepared, max_iter=most, epsilon=overshoot, verbose=False)
        found[name] = attack.generate(pixels)
    return found


def _main(library: str, network: str, inputs: str, answers: str) -> None:
    import keras

    with np.load(inputs) as given:
        arrays = dict(given)
    explain = {"xplique": _xplique, "art": _art}[library]
    np.savez(answers, **explain(keras.models.load_model(network), arrays))


if __name__ == "__main__":
    _main(*sys.argv[1:])
