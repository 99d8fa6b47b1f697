"""The backbone and the table of all fusion techniques, and their compute budgets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unsmear.errors import ConfigError
from unsmear.models.config import NetworkConfig, not_whole
from unsmear.models.count import macs_of
from unsmear.models.fusion.aligned import DeformableFusion, FilterAdaptiveFusion, FlowFusion
from unsmear.models.fusion.attentive import FactorizedFusion, GatedFusion, NonLocalFusion
from unsmear.models.fusion.base import Fusion
from unsmear.models.fusion.chosen import ChosenFusion
from unsmear.models.fusion.convolutional import (
    ConcatFusion,
    Conv3dFusion,
    NoFusion,
    RecurrentFusion,
)
from unsmear.models.fusion.shifted import ShiftFusion
from unsmear.models.layers import ResidualBlock
from unsmear.models.network import DeblurNetwork, pad_to_multiple

# `plain` with half of its channels; frames meet only in the fusion.
HALF_PLAIN = NetworkConfig(
    widths=(12, 24, 48),
    encoder_blocks=(1, 1, 3),
    decoder_blocks=(1, 1, 3),
    attention_levels=(),
)
_NUMBERS = ("window", "level", "hidden", "spatial_maps", "temporal_maps", "extra_blocks")


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """Shape of a `FusionNetwork`.

    Attributes:
        fusion: row of `FUSIONS`.
        backbone: encoder and decoder, without attention and local path.
        window: T, frames that are fused, odd, at least 3.
        current: index of the frame that is restored; default: the middle one.
        level: level of the backbone at which frames are fused; 0 is the finest.
        hidden: hidden channels of the fusion, if it has any.
        spatial_maps: M of `factorised`, `gated` and `chosen`.
        temporal_maps: N, likewise.
        keep: for `chosen`: frames that are fused, the current one included; all if it is `window`
            or more. Default: the current frame and half of the others.
        focus: for `factorised`, `gated` and `chosen`: factor on the initial weights of f_s and
            f_p. With 1 the maps start nearly flat, see `benchmarks/attention_use.py`.
        extra_blocks: residual blocks after the fusion, to equalise the budget, see `balanced`.

    Raises:
        ConfigError: values are invalid or contradict each other; the message lists the problems.
    """

    fusion: str
    backbone: NetworkConfig = HALF_PLAIN
    window: int = 5
    current: int | None = None
    level: int = 2
    hidden: int = 24
    spatial_maps: int = 8
    temporal_maps: int = 4
    keep: int | None = None
    focus: float = 1.0
    extra_blocks: int = 0

    def __post_init__(self) -> None:
        given = [name for name in ("current", "keep") if getattr(self, name) is not None]
        problems = not_whole(self, (*_NUMBERS, *given))
        if isinstance(self.focus, bool) or not isinstance(self.focus, int | float):
            problems.append(f"focus is {self.focus!r}: must be a number")
        backbone: object = self.backbone
        if not isinstance(backbone, NetworkConfig):
            problems.append(f"backbone is {backbone!r}: must be a NetworkConfig")
        if problems:
            raise ConfigError("FusionConfig: " + "; ".join(problems))
        levels = len(self.backbone.widths)
        if self.fusion not in tuple(FUSIONS):  # a tuple, since the value may be unhashable
            problems.append(f"fusion is {self.fusion!r}: there are {', '.join(FUSIONS)}")
        if self.backbone.attention_levels or self.backbone.neighbours:
            problems.append("the backbone must have no attention_levels and no neighbours")
        if self.window < 3 or self.window % 2 == 0:
            problems.append(f"window is {self.window}: odd, at least 3")
        if not 0 <= self.place < self.window:
            problems.append(f"current is {self.current}: from 0 to {self.window - 1}")
        if self.kept < 1:
            problems.append(f"keep is {self.keep}: at least 1")
        if not 0 < self.focus < math.inf:
            problems.append(f"focus is {self.focus}: above 0")
        if not 0 <= self.level < levels:
            problems.append(f"level is {self.level}: from 0 to {levels - 1}")
        if min(self.hidden, self.spatial_maps, self.temporal_maps) < 1 or self.extra_blocks < 0:
            problems.append(
                "hidden, spatial_maps and temporal_maps must be at least 1, extra_blocks 0 or more"
            )
        if problems:
            raise ConfigError("FusionConfig: " + "; ".join(problems))

    @property
    def place(self) -> int:
        """Index of the current frame in its window."""
        return self.window // 2 if self.current is None else self.current

    @property
    def kept(self) -> int:
        """Frames that `chosen` fuses, the current one included."""
        return (self.window + 1) // 2 if self.keep is None else self.keep

    @property
    def channels(self) -> int:
        """C of the features that are fused."""
        return self.backbone.widths[self.level]


FUSIONS: dict[str, Callable[[FusionConfig], Fusion]] = {
    "none": lambda _: NoFusion(),
    "concat": lambda c: ConcatFusion(c.channels, c.window),
    "conv3d": lambda c: Conv3dFusion(c.channels, c.window, c.hidden),
    "recurrent": lambda c: RecurrentFusion(c.channels, c.hidden),
    "flow": lambda c: FlowFusion(c.channels, c.window, c.hidden),
    "deformable": lambda c: DeformableFusion(c.channels, c.window, c.hidden),
    "adaptive": lambda c: FilterAdaptiveFusion(c.channels, c.window, c.hidden),
    "nonlocal": lambda c: NonLocalFusion(c.channels, c.hidden),
    "factorised": lambda c: FactorizedFusion(c.channels, c.spatial_maps, c.temporal_maps, c.focus),
    "gated": lambda c: GatedFusion(c.channels, c.hidden, c.spatial_maps, c.temporal_maps, c.focus),
    "chosen": lambda c: ChosenFusion(
        c.channels, c.hidden, c.spatial_maps, c.temporal_maps, c.kept, c.focus
    ),
    "shifts": lambda c: ShiftFusion(c.channels, c.window),
}
"""All fusion techniques. A new one is one class and one row."""


class FusionNetwork(nn.Module):
    """`DeblurNetwork` as encoder and decoder, with one fusion between them.

    Frames are RGB, float, 0..1. An untrained network returns its input.
    """

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = DeblurNetwork(config.backbone)
        self.fusion = FUSIONS[config.fusion](config)
        self.extra = nn.Sequential(
            *(ResidualBlock(config.channels) for _ in range(config.extra_blocks))
        )

    def fuse(self, windows: Tensor) -> Tensor:
        """Features of windows (B, T, C, H, W) -> fused features of their current frames
        (B, C, H, W).
        """
        fused: Tensor = self.extra(self.fusion.fuse(windows, self.config.place))
        return fused

    def encode(self, clip: Tensor) -> tuple[Tensor, ...]:
        """Clip (B, L, 3, H, W), H and W multiples of the backbone's `size_multiple` -> features of
        each level, (B, L, C, h, w), finest first.
        """
        encoded = self.backbone.encode(clip.flatten(0, 1))
        return tuple(features.unflatten(0, clip.shape[:2]) for features in encoded.features)

    def restore(self, clip: Tensor, features: tuple[Tensor, ...], frame: int) -> Tensor:
        """Restore one frame of the clip (B, L, 3, H, W) from its features by `encode` -> (B, 3,
        H, W).
        """
        window = self.window(features, frame)
        return self._decode(clip[:, frame], [f[:, frame] for f in features], self.fuse(window))

    def window(self, features: Sequence[Tensor], frame: int) -> Tensor:
        """Features (B, L, C, h, w) of every level -> the window of one frame at the level of the
        fusion, (B, T, C, h, w). Beyond the ends of the clip, its first and last frames are
        repeated.
        """
        here = features[self.config.level]
        around = torch.arange(self.config.window, device=here.device) + frame - self.config.place
        return here[:, around.clamp(0, here.shape[1] - 1)]

    def forward(self, clip: Tensor) -> Tensor:
        """Restore every frame of a clip.

        Args:
            clip: (B, L, 3, H, W), any H and W.

        Returns:
            (B, L, 3, H, W), not clamped.
        """
        batch, frames, _, height, width = clip.shape
        padded = pad_to_multiple(clip, self.config.backbone.size_multiple)
        features = self.encode(padded)
        windows = torch.stack(
            [self.window(features, frame) for frame in range(frames)], dim=1
        )  # (B, L, T, C, h, w)
        restored = self._decode(
            padded.flatten(0, 1),
            [f.flatten(0, 1) for f in features],
            self.fuse(windows.flatten(0, 1)),
        )
        return restored.unflatten(0, (batch, frames))[..., :height, :width]

    def _decode(self, frame: Tensor, features: Sequence[Tensor], fused: Tensor) -> Tensor:
        below: tuple[Tensor, ...] = ()
        for level in reversed(range(len(features))):
            here = fused if level == self.config.level else features[level]
            below = (self.backbone.decode_level(level, here, below, None),)
        return frame + self.backbone.predict(below[0])


def count_fusion_macs(config: FusionConfig, height: int = 256, width: int = 256) -> tuple[int, int]:
    """Multiply-accumulates per frame: of the whole network, and of its fusion (with the extra
    blocks).

    A frame is encoded once. The fusion counts in full for each frame, since nothing is reused from
    window to window. Convolutions and matrix products are counted; sampling, warping and per-pixel
    filters are not, so compare times too.
    """
    with torch.device("meta"):
        network = FusionNetwork(config)
        # A clip of one frame: it is encoded once, and its window is that frame repeated.
        clip = torch.empty(1, 1, 3, height, width)
        window = _empty_window(config, height, width)
    return macs_of(lambda: network(clip)), macs_of(lambda: network.fuse(window))


def _empty_window(config: FusionConfig, height: int, width: int) -> Tensor:
    """Features of a window without values, (1, T, C, h, w)."""
    stride = config.backbone.stem * 2**config.level
    return torch.empty(1, config.window, config.channels, height // stride, width // stride)


def balanced(config: FusionConfig, budget: int) -> FusionConfig:
    """The config with the number of extra blocks that brings its fusion closest to a budget in
    MACs for a 256x256 frame. A fusion that exceeds the budget without them gets none.
    """
    with torch.device("meta"):
        fusion, block = FUSIONS[config.fusion](config), ResidualBlock(config.channels)
        window = _empty_window(config, 256, 256)
    without = macs_of(lambda: fusion.fuse(window, config.place))
    blocks = round((budget - without) / macs_of(lambda: block(window[:, 0])))
    return dataclasses.replace(config, extra_blocks=max(blocks, 0))
