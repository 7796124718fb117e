"""Make a network of torchvision or timm with random weights; save its weights and its answers.

Runs in a separate process: PyTorch and TensorFlow crash in one process, because their compilers
have symbols of the same names.

    python torch_peer.py LIBRARY NETWORK WEIGHTS.pth|.safetensors ANSWERS.npz HEIGHT WIDTH
    python torch_peer.py torch - FILE.pth ANSWERS.npz old|new
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def ask_peer(library: str, *arguments: object) -> dict[str, np.ndarray]:
    """Run this file for a library; skip the test if the library isn't installed.

    Args:
        arguments: the arguments after LIBRARY.
    """
    needed = {"torch", library, *(("safetensors",) if "safetensors" in str(arguments) else ())}
    for name in sorted(needed):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}")
    words = [sys.executable, __file__, library, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(words, check=True, env=environment)
    with np.load(str(arguments[2])) as answers:
        return dict(answers)


def _scatter(module: Any, torch: Any) -> None:
    """Set normalization layers to random weights and statistics, so that none is the identity."""
    generator = torch.Generator().manual_seed(0)
    for name, each in module.state_dict().items():
        if each.dtype == torch.float32 and each.ndim == 1:
            spread = torch.rand(each.shape, generator=generator)
            positive = name.endswith(("running_var", "weight"))
            each.copy_(0.5 + spread if positive else 0.2 * spread - 0.1)


def _save_network(
    library: str, name: str, file: str, answers: str, height: str, width: str
) -> None:
    import torch

    known = importlib.import_module(library)
    if library == "timm":
        module = known.create_model(name, pretrained=False)
    else:
        module = getattr(known.models, name)(weights=None)
    shape = (2, int(height), int(width), 3)
    pixels = np.random.default_rng(0).normal(size=shape).astype("float32")
    hidden: list[Any] = []
    kinds = (torch.nn.Linear, torch.nn.Conv2d) if name.startswith("squeezenet") else torch.nn.Linear
    *_, last = [each for each in module.modules() if isinstance(each, kinds)]
    last.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0].numpy()))
    with torch.no_grad():
        _scatter(module, torch)
        logits = module.eval()(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())).numpy()
    if file.endswith(".safetensors"):
        importlib.import_module("safetensors.torch").save_file(module.state_dict(), file)
    else:
        torch.save(module.state_dict(), file)
    np.savez(answers, pixels=pixels, logits=logits, hidden=hidden[0])


def _save_tensors(file: str, answers: str, form: str) -> None:
    import torch

    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    state = {**module.state_dict(), "turned": torch.arange(6.0).reshape(2, 3).T}
    torch.save(state, file, _use_new_zipfile_serialization=form == "new")
    np.savez(answers, **{name: tensor.numpy() for name, tensor in state.items()})


if __name__ == "__main__":
    Path(sys.argv[4]).unlink(missing_ok=True)
    if sys.argv[1] == "torch":
        _save_tensors(*sys.argv[3:])
    else:
        _save_network(*sys.argv[1:])
