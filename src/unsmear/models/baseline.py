"""A recurrent network of the ESTRNN kind, for comparison: small, and causal except for its fusion.

Source: Zhong et al. 2020, "Efficient Spatio-Temporal Recurrent Neural Network for Video
Deblurring" (ECCV), written from the paper.

Reproduces: a cell of residual dense blocks that takes a frame and a hidden state; fusion of a
frame's features with those of past and future frames, each weighted by global average pooling of
the pair; reconstruction by transposed convolutions.

Changes: the network predicts a residual that starts at zero, as all networks here do, so that short
runs can be compared. The first and the last frame are repeated beyond the ends of the clip, so
every frame is restored. Compared with the authors' code (zzh-tech/ESTRNN), the hidden layers of the
fusion are half as wide, its two 1x1 convolutions have a ReLU between them, and the input of the
cell's blocks is added to their output. Sizes are close to the published ones, 2.2 M parameters and
10.5 GMAC at 256x256: 2.13 M and 11.0.

It has none of the four exact properties of `DeblurNetwork`: through the hidden state a frame
depends on all previous ones, and the pooling is not a sum that tiles can share.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unsmear.errors import ConfigError
from unsmear.models.count import macs_of
from unsmear.models.fusion.base import pair_with_current
from unsmear.models.layers import DenseBlock, conv3x3, start_at_zero
from unsmear.models.network import pad_to_multiple

_STRIDE = 4  # pixels of the frame for one pixel of the cell's features


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """Shape of a `RecurrentNetwork`.

    Attributes:
        width: channels at full resolution, even; 2 and 4 times as many at 1/2 and 1/4, where the
            hidden state of `width` channels is concatenated.
        blocks: residual dense blocks of the cell, at 1/4.
        past: previous frames whose features are fused with those of the current one.
        future: following frames, likewise.

    Raises:
        ConfigError: values are invalid; the message lists all problems.
    """

    width: int = 16
    blocks: int = 13
    past: int = 2
    future: int = 2

    def __post_init__(self) -> None:
        problems = []
        if self.width < 2 or self.width % 2:
            problems.append(f"width is {self.width}: even, at least 2")
        if self.blocks < 1:
            problems.append(f"blocks is {self.blocks}: at least 1")
        if min(self.past, self.future) < 0 or self.past + self.future == 0:
            problems.append(f"past is {self.past}, future {self.future}: 0 or more, not both 0")
        if problems:
            raise ConfigError("RecurrentConfig: " + "; ".join(problems))

    @property
    def channels(self) -> int:
        """C of the features of the cell."""
        return 5 * self.width


class RecurrentCell(nn.Module):
    """Takes a frame and the state, returns the frame's features and the next state."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        width, channels = config.width, config.channels
        self.stem = _conv5x5(3, width)
        self.encoder = nn.Sequential(
            DenseBlock(width, growth=width, layers=3),
            _conv5x5(width, 2 * width, stride=2),
            DenseBlock(2 * width, growth=3 * width // 2, layers=3),
            _conv5x5(2 * width, 4 * width, stride=2),
        )
        self.blocks = nn.ModuleList(
            DenseBlock(channels, growth=2 * width, layers=3) for _ in range(config.blocks)
        )
        # Fuses the outputs of all blocks (hierarchical features).
        self.gather = nn.Conv2d(config.blocks * channels, channels, kernel_size=1)
        self.smooth = conv3x3(channels, channels)
        self.remember = nn.Sequential(
            conv3x3(channels, width),
            DenseBlock(width, growth=width, layers=3),
            conv3x3(width, width),
        )

    def forward(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Frame (B, 3, H, W) and state (B, width, H/4, W/4) -> features (B, 5 * width, H/4, W/4)
        and the next state.
        """
        start = torch.cat((self.encoder(self.stem(frame)), state), dim=1)
        x, seen = start, []
        for block in self.blocks:
            x = block(x)
            seen.append(x)
        features = start + self.smooth(self.gather(torch.cat(seen, dim=1)))
        return features, self.remember(features)


class WeighedFusion(nn.Module):
    """Fuses a frame's features with its neighbours'. Each pair gets channel weights from its global
    average pooling.

    Args:
        channels: C.
        frames: T, frames of the window, the current one included.
    """

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        pair = 2 * channels
        self.weigh = nn.Sequential(
            nn.Linear(pair, pair), nn.ReLU(), nn.Linear(pair, pair), nn.Sigmoid()
        )
        self.relate = nn.Sequential(
            nn.Conv2d(pair, pair, kernel_size=1), nn.ReLU(), nn.Conv2d(pair, pair, kernel_size=1)
        )
        self.condense = nn.Conv2d(pair, channels, kernel_size=1)
        self.join = nn.Conv2d(frames * channels, frames * channels, kernel_size=1)

    def forward(self, window: Tensor, current: int) -> Tensor:
        """Window (B, T, C, H, W) -> (B, T * C, H, W)."""
        _, pairs = pair_with_current(window, current, itself=False)  # (B * (T - 1), 2C, H, W)
        weights = self.weigh(pairs.mean(dim=(-2, -1)))  # (B * (T - 1), 2C)
        taken = self.condense(self.relate(pairs) * weights[..., None, None])
        taken = taken.unflatten(0, (len(window), -1)).flatten(1, 2)  # (B, (T - 1) * C, H, W)
        joined: Tensor = self.join(torch.cat((taken, window[:, current]), dim=1))
        return joined


class RecurrentNetwork(nn.Module):
    """The cell over all frames in turn, fusion of each frame's neighbourhood, reconstruction.

    Frames are RGB, float, 0..1. An untrained network returns its input.
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        width, frames = config.width, config.past + 1 + config.future
        self.cell = RecurrentCell(config)
        self.fusion = WeighedFusion(config.channels, frames)
        self.up = nn.Sequential(
            _transposed(frames * config.channels, 2 * width), _transposed(2 * width, width)
        )
        self.head = start_at_zero(_conv5x5(width, 3))

    def encode(self, clip: Tensor) -> Tensor:
        """Clip (B, L, 3, H, W), any size -> features (B, L, C, h, w), which depend on the frame
        and on all previous ones.
        """
        padded = pad_to_multiple(clip, _STRIDE)
        batch, frames, _, height, width = padded.shape
        state = clip.new_zeros(batch, self.config.width, height // _STRIDE, width // _STRIDE)
        features = []
        for frame in range(frames):
            found, state = self.cell(padded[:, frame], state)
            features.append(found)
        return torch.stack(features, dim=1)

    def restore(self, clip: Tensor, features: Tensor, frame: int) -> Tensor:
        """Restore one frame of the clip (B, L, 3, H, W) from its features by `encode` -> (B, 3,
        H, W). Beyond the ends of the clip, its first and last frames are repeated.
        """
        around = torch.arange(-self.config.past, self.config.future + 1, device=clip.device)
        places = (frame + around).clamp(0, clip.shape[1] - 1)
        fused = self.fusion(features[:, places], self.config.past)
        height, width = clip.shape[-2:]
        return clip[:, frame] + self.head(self.up(fused))[..., :height, :width]

    def forward(self, clip: Tensor) -> Tensor:
        """Restore every frame of a clip.

        Args:
            clip: (B, L, 3, H, W), any H and W.

        Returns:
            (B, L, 3, H, W), not clamped.
        """
        features = self.encode(clip)
        return torch.stack([self.restore(clip, features, t) for t in range(clip.shape[1])], dim=1)


def count_recurrent_macs(config: RecurrentConfig, height: int = 256, width: int = 256) -> int:
    """Multiply-accumulates per frame of a stream: the cell once, and the whole fusion, since
    nothing of it is reused from window to window.
    """
    return macs_of(lambda: RecurrentNetwork(config)(torch.empty(1, 1, 3, height, width)))


def _conv5x5(inputs: int, outputs: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=5, stride=stride, padding=2)


def _transposed(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """Transposed convolution that doubles height and width."""
    return nn.ConvTranspose2d(inputs, outputs, kernel_size=3, stride=2, padding=1, output_padding=1)
