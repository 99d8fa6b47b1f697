"""All measurements that explain one frame: the attention maps of eq. 1, 3 and 5 as the network
computed them, the receptive field of a pixel, and the frame before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from unsmear.errors import ConfigError
from unsmear.explain.gradients import ReceptiveField, receptive_field
from unsmear.explain.window import FrameWindow
from unsmear.models.attention import pixelwise_weights, spatial_weights, temporal_weights
from unsmear.models.flow import motion_between, shrunken_luma
from unsmear.models.neighbourhood import Neighbourhood
from unsmear.models.network import DeblurNetwork, Descriptors, Encoded, join_frames
from unsmear.restoration.tiles import Tiler, Tiling, prepared

_SMOOTHING = 9  # pixels: find a changed patch rather than one noisy pixel


@dataclass(frozen=True)
class LevelMaps:
    """The attention of one level. (h, w) is the size of the level's features of the padded frame.
    M spatial maps, N temporal maps, T frames in the window. On the CPU, float32.

    Attributes:
        level: of the network; the finest is 0.
        stride: pixels of the frame per element of the maps, in each direction.
        spatial: A_s of eq. 1, (T, M, h, w); every map sums to 1 over h and w.
        temporal: A_t of eq. 3, (N, T); every row sums to 1.
        pixelwise: A_p of eq. 5, (M, N, h, w); every pixel sums to 1 over M and N.
    """

    level: int
    stride: int
    spatial: Tensor
    temporal: Tensor
    pixelwise: Tensor

    @property
    def strongest(self) -> Tensor:
        """The element with the largest weight at each pixel, (h, w) int64: m * N + n."""
        return self.pixelwise.flatten(0, 1).argmax(dim=0)

    @property
    def effective(self) -> Tensor:
        """Effective number of elements that each pixel attends to, (h, w): the exponential of the
        entropy of eq. 5, from 1 (a single element) to M * N (uniform weights).
        """
        return torch.special.entr(self.pixelwise.flatten(0, 1)).sum(dim=0).exp()

    @property
    def frame_shares(self) -> Tensor:
        """Weight of each frame at each pixel, (T, h, w), summing to 1 over T: eq. 5 summed over M,
        times eq. 3.
        """
        return torch.einsum("mnhw,nt->thw", self.pixelwise, self.temporal)


@dataclass(frozen=True)
class FrameMaps:
    """All measurements of one frame.

    Attributes:
        window: the frame and its neighbours.
        levels: the attention of the levels asked for, finest first.
        before: the frame, (3, H, W) float32, 0..1.
        after: restored, same shape.
        field: the receptive field of one pixel of the result.
    """

    window: FrameWindow
    levels: tuple[LevelMaps, ...]
    before: Tensor
    after: Tensor
    field: ReceptiveField


@torch.no_grad()
def explain_frame(
    network: DeblurNetwork,
    window: FrameWindow,
    *,
    level: int | None = None,
    pixel: tuple[int, int] | None = None,
    tiling: Tiling = "auto",
) -> FrameMaps:
    """Restore one frame and keep the attention maps.

    Args:
        network: in evaluation mode, on the device to use.
        window: the frame and its neighbours, at least `network.config.neighbours` on each side if
            the scene has them.
        level: show the attention of this level only.
        pixel: x and y of the pixel whose receptive field is computed; default: where the result
            differs most from the frame (mean over a patch of 9x9).
        tiling: see `unsmear.restoration.tiles.Tiler`.

    Raises:
        ConfigError: the level has no attention, or the pixel is outside the frame.
    """
    levels = _check_level(network, level)
    before = window.pictures[window.current]
    if pixel is not None:
        check_pixel(pixel, *before.shape[-2:])
    tiler = Tiler(network, tiling)
    places = window.neighbours(network.config.neighbours)
    locals_: dict[int, Tensor] = {}
    spatial: dict[int, list[Tensor]] = {number: [] for number in levels}
    descriptors = []
    current: Encoded | None = None
    for index, picture in enumerate(window.pictures):
        if index not in window.attended and index not in places:
            continue
        encoded = tiler.encode(prepared(picture, tiler.engine))
        locals_[index] = encoded.local
        if index in window.attended:
            descriptors.append(network.squeeze(encoded))
            for number, maps in spatial.items():
                features = encoded.features[number].unsqueeze(1)
                maps.append(spatial_weights(network.attention(number).spatial_logits(features)))
        if index == window.current:
            current = encoded
    assert current is not None  # the window is centred on it
    joined = join_frames(descriptors)
    local = tuple(locals_[place] for place in places)
    before_it, after_it = (
        None if one is None else prepared(one, tiler.engine) for one in window.beside
    )
    frames = before_it, current.frame, after_it
    around = Neighbourhood.gathered(network.config, frames, local, _motion(network, *frames))
    restored = tiler.restore(current, network.mix(joined), around)[0]
    restored = restored.float().clamp(0, 1).cpu()
    after = restored[:, : before.shape[-2], : before.shape[-1]]
    measured = [
        _level_maps(network, number, torch.cat(spatial[number], dim=1), joined, current)
        for number in levels
    ]
    chosen = most_changed(before, after) if pixel is None else pixel
    field = receptive_field(tiler, window, current, joined, around, chosen)
    return FrameMaps(window, tuple(measured), before, after, field)


def _level_maps(
    network: DeblurNetwork, level: int, spatial: Tensor, descriptors: Descriptors, current: Encoded
) -> LevelMaps:
    """The attention of one level; `spatial` and `descriptors` of all frames in the window."""
    attention = network.attention(level)
    pooled = descriptors[network.config.attention_levels.index(level)].pooled
    pixelwise = pixelwise_weights(attention.pixelwise_logits(current.features[level]))
    return LevelMaps(
        level,
        network.stride(level),
        spatial[0].float().cpu(),
        temporal_weights(attention.temporal_logits(pooled))[0].float().cpu(),
        pixelwise[0].unflatten(0, (network.config.spatial_maps, -1)).float().cpu(),
    )


def _motion(
    network: DeblurNetwork, before: Tensor | None, current: Tensor, after: Tensor | None
) -> Tensor | None:
    """Motion to the frames before and after; None if the network does not use it."""
    if not network.config.trail_levels:
        return None
    back, forth = (None if one is None else shrunken_luma(one)[0] for one in (before, after))
    return motion_between(back, shrunken_luma(current)[0], forth)[None].to(current.device)


def most_changed(before: Tensor, after: Tensor) -> tuple[int, int]:
    """(x, y) of the centre of the 9x9 patch that changed most, or of the frame if nothing changed.
    Frames (3, H, W), float, 0..1.
    """
    change = (after - before).abs().mean(dim=0)[None, None]
    smooth = functional.avg_pool2d(
        change, _SMOOTHING, stride=1, padding=_SMOOTHING // 2, count_include_pad=False
    )[0, 0]
    height, width = smooth.shape
    if not smooth.any():
        return width // 2, height // 2
    y, x = divmod(int(smooth.argmax()), width)
    return x, y


def half_weight_share(weights: Tensor) -> float:
    """The smallest fraction of a frame that holds half the weight of a spatial map (h, w): from
    near 0 (a spot) to 0.5 (uniform).
    """
    ranked = weights.flatten().sort(descending=True).values.double().cumsum(0)
    return (int((ranked < ranked[-1] / 2).sum()) + 1) / weights.numel()


def check_pixel(pixel: tuple[int, int], height: int, width: int) -> None:
    """Raise ConfigError if a pixel (x, y) is outside a frame."""
    x, y = pixel
    if not (0 <= x < width and 0 <= y < height):
        raise ConfigError(
            f"pixel is {x},{y}: frames are {width}x{height}, so X must be 0 to {width - 1} "
            f"and Y 0 to {height - 1}"
        )


def _check_level(network: DeblurNetwork, level: int | None) -> Sequence[int]:
    levels = network.config.attention_levels
    if level is None:
        return levels
    if level not in levels:
        there = ", ".join(map(str, levels)) or "none"
        raise ConfigError(f"level is {level}: levels with attention in this network: {there}")
    return (level,)
