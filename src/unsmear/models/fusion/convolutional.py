"""Fusion by convolutions, without alignment: none, concatenation, 3-D, recurrence."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from unsmear.models.fusion.base import Fusion, check_length
from unsmear.models.layers import conv3x3, start_near_zero


class NoFusion(Fusion):
    """The current frame alone: what a single-image network achieves with the same budget."""

    def fuse(self, features: Tensor, current: int) -> Tensor:
        """Window (B, T, C, H, W) -> its current frame (B, C, H, W), unchanged."""
        return features[:, current]


class ConcatFusion(Fusion):
    """Frames concatenated along the channels, then a convolution.

    Source: DBN (Su et al. 2017, "Deep Video Deblurring for Hand-held Cameras"), its variant
    without alignment. Reproduces: concatenation of a fixed window in temporal order. Simplifies:
    DBN concatenates images at its input; here features are concatenated.

    Args:
        channels: C.
        frames: T of every window.
    """

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.mix = start_near_zero(conv3x3(frames * channels, channels))

    def fuse(self, features: Tensor, current: int) -> Tensor:
        """Window (B, T, C, H, W) -> (B, C, H, W).

        Raises:
            ValueError: T is not `frames`.
        """
        check_length(features, self.frames)
        return features[:, current] + self.mix(features.flatten(1, 2))


class Conv3dFusion(Fusion):
    """3x3x3 convolutions over time, rows and columns until one frame is left.

    Source: DBLRNet (Zhang et al. 2018, "Adversarial Spatio-Temporal Learning for Video
    Deblurring"). Reproduces: 3-D kernels without temporal padding, so each layer removes two
    frames. Simplifies: features rather than images, no adversarial loss.

    Args:
        channels: C.
        frames: T of every window, odd.
        hidden: channels between the layers.
    """

    def __init__(self, channels: int, frames: int, hidden: int) -> None:
        super().__init__()
        self.frames = frames
        widths = [channels, *[hidden] * ((frames - 1) // 2 - 1), channels]
        self.layers = nn.ModuleList(
            nn.Conv3d(inputs, outputs, kernel_size=3, padding=(0, 1, 1))
            for inputs, outputs in pairwise(widths)
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Conv3d)
        start_near_zero(last)

    def fuse(self, features: Tensor, current: int) -> Tensor:
        """Window (B, T, C, H, W) -> (B, C, H, W).

        Raises:
            ValueError: T is not `frames`.
        """
        check_length(features, self.frames)
        x = features.transpose(1, 2)  # (B, C, T, H, W)
        for index, layer in enumerate(self.layers):
            x = layer(x if index == 0 else torch.relu(x))
        return features[:, current] + x.squeeze(2)


class RecurrentFusion(Fusion):
    """A hidden state that is updated from the first frame of the window to the current one.

    Source: IFI-RNN (Nah et al. 2019, "Recurrent Neural Networks with Intra-Frame Iterations for
    Video Deblurring"). Reproduces: causal recurrence, and the same cell applied several times
    per frame. Simplifies: a cell of two convolutions with a tanh rather than residual blocks, no
    stochastic choice of paths; the state is zero at the start of the window, so that all
    techniques get the same frames. Frames after the current one are not used.

    Args:
        channels: C.
        hidden: S, channels of the state.
        iterations: updates of the state per frame.
    """

    def __init__(self, channels: int, hidden: int, iterations: int = 2) -> None:
        super().__init__()
        self.hidden, self.iterations = hidden, iterations
        self.read = conv3x3(channels + hidden, hidden)
        self.update = conv3x3(hidden, hidden)
        self.out = start_near_zero(conv3x3(hidden, channels))

    def start(self, frame: Tensor) -> Tensor:
        """The state before the first frame: zeros, (B, S, H, W)."""
        return frame.new_zeros(frame.shape[0], self.hidden, *frame.shape[-2:])

    def step(self, frame: Tensor, state: Tensor) -> Tensor:
        """A frame (B, C, H, W) and the state before it -> the state after it, (B, S, H, W), which
        always stays within -1..1.
        """
        for _ in range(self.iterations):
            seen = torch.relu(self.read(torch.cat((frame, state), dim=1)))
            state = torch.tanh(self.update(seen))
        return state

    def give(self, frame: Tensor, state: Tensor) -> Tensor:
        """A frame (B, C, H, W) and the state after it -> its fused features (B, C, H, W)."""
        return frame + self.out(state)

    def fuse(self, features: Tensor, current: int) -> Tensor:
        """Window (B, T, C, H, W) -> (B, C, H, W)."""
        state = self.start(features[:, 0])
        for index in range(current + 1):
            state = self.step(features[:, index], state)
        return self.give(features[:, current], state)
