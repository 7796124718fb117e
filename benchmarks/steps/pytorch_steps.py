"""Measure training steps in PyTorch: pytorch_steps.py NETWORK SIZE CLASSES BATCH STEPS PRECISION
contiguous|channels_last|compiled.

`compiled` is channels_last with torch.compile.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from torch import nn

from turns import answer, timed


def conv_norm(channels_in: int, channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution without bias, and BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
    )


class Residual(nn.Module):
    """Computes relu(shortcut(x) + branch(x))."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module):
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, C, H, W] to [B, C', H', W']."""
        return torch.relu(self.shortcut(x) + self.branch(x))


class PadShortcut(nn.Module):
    """Takes every stride-th pixel, and adds zeros for missing channels (He et al. 2015, option
    A).
    """

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, C, H, W] to [B, channels, H / stride, W / stride]."""
        return nn.functional.pad(
            x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.channels - x.shape[1])
        )


def resnet20(classes: int) -> nn.Sequential:
    """Build ResNet-20 (He et al. 2015, section 4.2)."""
    layers: list[nn.Module] = [conv_norm(3, 16, 3), nn.ReLU()]
    channels = 16
    for index, width in enumerate([16] * 3 + [32] * 3 + [64] * 3):
        stride = 2 if index in (3, 6) else 1
        branch = nn.Sequential(
            conv_norm(channels, width, 3, stride), nn.ReLU(), conv_norm(width, width, 3)
        )
        layers.append(
            Residual(branch, nn.Identity() if width == channels else PadShortcut(width, stride))
        )
        channels = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
    )


def resnet50(classes: int) -> nn.Sequential:
    """Build ResNet-50 (He et al. 2015, table 1) with the stride in the 3×3 convolution."""
    layers: list[nn.Module] = [conv_norm(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, (blocks, width) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)]):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            branch = nn.Sequential(
                conv_norm(channels, width, 1),
                nn.ReLU(),
                conv_norm(width, width, 3, stride),
                nn.ReLU(),
                conv_norm(width, 4 * width, 1),
            )
            shortcut = conv_norm(channels, 4 * width, 1, stride) if not block else nn.Identity()
            layers.append(Residual(branch, shortcut))
            channels = 4 * width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
    )


def main(
    network: str, size: int, classes: int, batch_size: int, steps: int, precision: str, layout: str
) -> None:
    """Make `steps` steps of SGD with momentum."""
    model = {"resnet20": resnet20, "resnet50": resnet50}[network](classes)
    images, labels = torch.randn(batch_size, 3, size, size), torch.randint(classes, (batch_size,))
    if layout != "contiguous":
        model, images = (
            model.to(memory_format=torch.channels_last),
            images.to(memory_format=torch.channels_last),
        )
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
    forward = torch.compile(model) if layout == "compiled" else model

    def work() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "mixed_bfloat16"):
                loss = nn.functional.cross_entropy(forward(images), labels)
            loss.backward()
            optimizer.step()

    answer(timed(work))


if __name__ == "__main__":
    side, labels, batch, count = map(int, sys.argv[2:6])
    main(sys.argv[1], side, labels, batch, count, *sys.argv[6:])
