"""Measure DeepDream in PyTorch, with the same steps as dream_steps.py: dream_pytorch_steps.py STEPS
contiguous|channels_last|compiled.

`compiled` is channels_last with torch.compile.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from pytorch_steps import resnet50
from torch import nn

from turns import answer, timed

SIZE, MEAN, STD, RATE, JITTER = 224, 0.5, 0.25, 0.008, 32
# Up to the end of the third stage: convolution, ReLU, pooling and 3 + 4 + 6 blocks.
LAYERS = 3 + 3 + 4 + 6


def blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Apply a Gaussian blur; edges are repeated."""
    reach = max(int(3 * sigma + 0.5), 1)
    kernel = torch.tensor([math.exp(-0.5 * (n / sigma) ** 2) for n in range(-reach, reach + 1)])
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = nn.functional.pad(images, (reach,) * 4, mode="replicate")
    rows = nn.functional.conv2d(padded, kernel.transpose(2, 3), groups=3)
    return nn.functional.conv2d(rows, kernel, groups=3)


def unit(gradient: torch.Tensor) -> torch.Tensor:
    """Scale to a standard deviation of 1."""
    return gradient / gradient.std()


def main(steps: int, layout: str) -> None:
    """Measure the steps of one octave."""
    features = nn.Sequential(*resnet50(1000)[:LAYERS]).eval().requires_grad_(False)
    start = torch.rand(1, 3, SIZE, SIZE)
    if layout != "contiguous":
        features = features.to(memory_format=torch.channels_last)
        start = start.contiguous(memory_format=torch.channels_last)
    forward = torch.compile(features) if layout == "compiled" else features
    generator = torch.Generator().manual_seed(0)

    def work() -> None:
        image = start
        for _ in range(steps):
            down, right = torch.randint(-JITTER, JITTER + 1, (2,), generator=generator).tolist()
            watched = image.detach().requires_grad_(True)
            activations = forward((torch.roll(watched, (down, right), (2, 3)) - MEAN) / STD)
            (gradient,) = torch.autograd.grad(activations.square().mean(), watched)
            gradient = sum(unit(blur(gradient, sigma)) for sigma in (1.0, 2.0)) + unit(gradient)
            image = (image + RATE * gradient / gradient.abs().mean()).clamp(0, 1)

    answer(timed(work, time.process_time))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
