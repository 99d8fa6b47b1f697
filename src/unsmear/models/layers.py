"""Plain building blocks: convolutions only, so that every output pixel has a finite and
computable receptive field. No normalisation over a frame, no global pooling: the attention
is the one place where distant pixels or other frames may enter.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv3x3(inputs: int, outputs: int, *, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution that keeps (stride 1) or halves (stride 2) an even size."""
    return nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1)


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))): (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv3x3(channels, channels)
        self.second = conv3x3(channels, channels)
        # A quiet branch at the start keeps deep stacks without normalisation stable.
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        # In place: on a CPU these layers wait for memory as much as for arithmetic.
        out: Tensor = self.second(torch.relu_(self.first(x))).add_(x)
        return out


class DenseBlock(nn.Module):
    """Densely connected module: each convolution sees all before it, then a 1x1 fusion.

    Args:
        channels: C of input and output, (B, C, H, W) -> (B, C, H, W).
        growth: channels that each inner convolution adds.
        layers: number of inner convolutions.
    """

    def __init__(self, channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            conv3x3(channels + index * growth, growth) for index in range(layers)
        )
        self.fusion = nn.Conv2d(channels + layers * growth, channels, kernel_size=1)
        with torch.no_grad():
            self.fusion.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for layer in self.layers:
            seen = torch.cat((seen, torch.relu_(layer(seen))), dim=1)
        out: Tensor = self.fusion(seen).add_(x)
        return out


class Upsample(nn.Module):
    """1x1 convolution and pixel shuffle: (B, inputs, H, W) -> (B, outputs, 2H, 2W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(inputs, outputs * 4, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(self.project(x), 2)


def receptive_radius(module: nn.Module) -> int:
    """How many pixels beyond its own an output of convolutions of stride 1 looks, each way.

    Counts every convolution of the module as if one followed the other, which holds for all
    blocks of this file.
    """
    return sum(
        conv.kernel_size[0] // 2 * conv.dilation[0]
        for conv in module.modules()
        if isinstance(conv, nn.Conv2d)
    )
