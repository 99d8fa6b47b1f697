"""Building blocks: convolutions only, so that every output pixel has a finite, known receptive
field. No normalisation over a frame and no global pooling: only the attention may be global.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Module)
Conv = TypeVar("Conv", nn.Conv2d, nn.Conv3d)


def conv3x3(inputs: int, outputs: int, *, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution that keeps the size (stride 1), or halves an even size (stride 2)."""
    return nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1)


def start_at_zero(layer: Layer) -> Layer:
    """Set all parameters of a layer to zero, in place: where its output is added, the sum starts as
    the identity.
    """
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def start_near_zero(conv: Conv) -> Conv:
    """Scale the initial weights to a tenth, in place: small initial residuals keep deep stacks
    stable without normalisation.
    """
    with torch.no_grad():
        conv.weight.mul_(0.1)
    return conv


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))): (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv3x3(channels, channels)
        self.second = start_near_zero(conv3x3(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        # In place: on a CPU these layers are as much memory-bound as compute-bound.
        out: Tensor = self.second(torch.relu_(self.first(x))).add_(x)
        return out


class DenseBlock(nn.Module):
    """Densely connected module: each convolution takes the input and the outputs of all previous
    ones; a 1x1 convolution fuses them; the input is added.

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
        self.fusion = start_near_zero(
            nn.Conv2d(channels + layers * growth, channels, kernel_size=1)
        )

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
    """Radius in pixels of the receptive field of a module of convolutions with stride 1.

    Assumes that all convolutions of the module follow each other, as in all blocks of this file.
    """
    return sum(
        conv.kernel_size[0] // 2 * conv.dilation[0]
        for conv in module.modules()
        if isinstance(conv, nn.Conv2d)
    )
