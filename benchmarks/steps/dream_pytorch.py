"""Steps of DeepDream in PyTorch, the same as ours: dream_pytorch.py
contiguous|channels_last|compiled STEPS.
"""

from __future__ import annotations

import math
import sys
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
    """Gaussian blur with repeated edges."""
    reach = max(int(3 * sigma + 0.5), 1)
    kernel = torch.tensor([math.exp(-0.5 * (n / sigma) ** 2) for n in range(-reach, reach + 1)])
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = nn.functional.pad(images, (reach,) * 4, mode="replicate")
    rows = nn.functional.conv2d(padded, kernel.transpose(2, 3), groups=3)
    return nn.functional.conv2d(rows, kernel, groups=3)


def unit(gradient: torch.Tensor) -> torch.Tensor:
    """Scale to a standard deviation of 1."""
    return gradient / gradient.std()


def main(layout: str, steps: int) -> None:
    """Measure steps of one octave."""
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
            seen = forward((torch.roll(watched, (down, right), (2, 3)) - MEAN) / STD)
            (gradient,) = torch.autograd.grad(seen.square().mean(), watched)
            parts = (unit(gradient), unit(blur(gradient, 1.0)), unit(blur(gradient, 2.0)))
            gradient = sum(parts[1:], parts[0])
            image = (image + RATE * gradient / gradient.abs().mean()).clamp(0, 1)

    answer(timed(work))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
