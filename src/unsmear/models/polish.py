"""The polishing network: corrects a frame that the burst step fused (`restoration/burst.py`).

The burst step follows a rule: whichever frame has more of a frequency, counts. This network has
learned where that is wrong, and what else the restored neighbours hold. It adds two things to the
fused frame: luma filtered from the frames that went into it, by kernels that it predicts for each
place, and the output of its last convolution. One set of weights serves every network of the zoo.

Beside `--reblur`, another set of weights is told what reblurring finds
(`unsmear.restoration.reblur.evidence`), and has learned how far to trust that. A network may be
applied in several passes: the later ones see what the frame still lacks when it is blurred again.

Source: kernels as in Mildenhall et al. 2018, "Burst Denoising with Kernel Prediction Networks". New
here: they correct a fused frame, weigh differences to it, and are predicted at a quarter of the
size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from unsmear.errors import ConfigError
from unsmear.models.flow import luma_of
from unsmear.models.layers import ResidualBlock, conv3x3, start_at_zero

NEIGHBOURS = 4
"""Aligned neighbours that the network looks at: the nearest before and after, then the next."""
CHANNELS = 3 * 3 + NEIGHBOURS
"""Channels of `stack_fusion`, without what reblurring finds."""
EVIDENCE = 3
"""Channels of what reblurring finds."""
STRIDE = 4
"""Height and width must be multiples of this: kernels are predicted for squares of this side."""
MOST_PASSES = 4
"""Of a network over one frame; each takes as long as the first."""

_CONTRAST = 4  # differences are small beside the frame
_ROWS = 32  # of squares filtered at a time, so that a CPU finds them in its cache


@dataclass(frozen=True, kw_only=True)
class PolishConfig:
    """Shape of a polishing network.

    Attributes:
        width: channels at half of the size; twice as many at a quarter.
        blocks: residual blocks at half of the size.
        deep_blocks: residual blocks at a quarter.
        kernel: side of the predicted kernels in pixels, odd.
        told: whether it is told what reblurring finds.
        passes: how often it corrects a frame, from the second time on its own result.

    Raises:
        ConfigError: a number is below 1, the kernel even, or there are too many passes.
    """

    width: int = 32
    blocks: int = 4
    deep_blocks: int = 2
    kernel: int = 5
    told: bool = False
    passes: int = 1

    def __post_init__(self) -> None:
        numbers = (self.width, self.blocks, self.deep_blocks, self.kernel)
        if min(numbers) < 1 or self.kernel % 2 == 0:
            raise ConfigError(f"{self}: numbers must be at least 1, and the kernel odd")
        if self.passes not in range(1, MOST_PASSES + 1):
            raise ConfigError(f"passes is {self.passes!r}: must be from 1 to {MOST_PASSES}")

    def can_grow_from(self, trained: PolishConfig) -> bool:
        """Whether more blocks, being told and the number of passes are all that may tell it from
        `trained`, see `unsmear.models.growth.grow_polish_from`.
        """
        alike = (self.width, self.kernel) == (trained.width, trained.kernel)
        more = self.blocks >= trained.blocks and self.deep_blocks >= trained.deep_blocks
        return alike and more and self.told >= trained.told

    @property
    def channels(self) -> int:
        """Of what the network takes, see `stack_fusion`."""
        return CHANNELS + EVIDENCE * self.told

    @property
    def lumas(self) -> int:
        """How many planes are filtered: luma of the fused frame, the restored one and the
        neighbours, then both changes that reblurring proposes.
        """
        return 2 + NEIGHBOURS + (EVIDENCE - 1) * self.told

    @property
    def reach(self) -> int:
        """How many pixels around its own a pixel of the result depends on, rounded up to `STRIDE`;
        to a square of this side the position of a pixel matters, so tiles must start at multiples.
        """
        halves = 2 + 2 * self.blocks  # convolutions at half of the size: each sees one more
        quarters = 2 * self.deep_blocks + 1  # the last for kernels between squares
        pixels = max(2 * halves, 2 * (halves - 1) + 4 * quarters + self.kernel // 2)
        return -(-pixels // STRIDE) * STRIDE


class PolishNetwork(nn.Module):
    """See the module. Untrained, it returns the fused frame."""

    def __init__(self, config: PolishConfig = PolishConfig()) -> None:
        super().__init__()
        self.config = config
        width, deep = config.width, 2 * config.width
        self.stem = conv3x3(4 * config.channels, width)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(config.blocks)))
        self.head = start_at_zero(conv3x3(width, 4 * 3))
        self.down = nn.Conv2d(width, deep, kernel_size=2, stride=2)
        self.deep = nn.Sequential(*(ResidualBlock(deep) for _ in range(config.deep_blocks)))
        weights = config.lumas * config.kernel**2
        self.kernel_head = start_at_zero(nn.Conv2d(deep, weights, kernel_size=1))

    def forward(self, fusion: Tensor) -> Tensor:
        """Polish fused frames.

        Args:
            fusion: see `stack_fusion`, (..., 13, H, W), or 16 channels if the network is told what
                reblurring finds; H and W multiples of 4.

        Returns:
            (..., 3, H, W), not clamped.
        """
        if fusion.dim() > 4:
            made: Tensor = self(fusion.flatten(0, -4))
            return made.unflatten(0, fusion.shape[:-3])
        frames, evidence = fusion.tensor_split((CHANNELS,), dim=1)
        fused, blurry, restored, neighbours = frames.split((3, 3, 3, NEIGHBOURS), dim=1)
        luma = luma_of(fused)
        lent = neighbours - luma
        differences = (blurry - fused, restored - fused, lent, evidence)
        seen = (fused - 0.5, *(_CONTRAST * x for x in differences))
        x = self.blocks(self.stem(_halved(torch.cat(seen, dim=1))))
        added: Tensor = functional.pixel_shuffle(self.head(x), 2)
        kernels = self.kernel_head(self.deep(torch.relu(self.down(x))))
        lumas = torch.cat((luma, luma_of(restored) - luma, lent, evidence[:, 1:]), dim=1)
        return fused + added + self._filtered(lumas, kernels)

    def _filtered(self, lumas: Tensor, kernels: Tensor) -> Tensor:
        """Sum of all lumas, filtered. Of the first, the fused frame's, differences to the pixel in
        the middle are: an even area stays even, whatever the kernels.

        Args:
            lumas: (B, L, H, W).
            kernels: (B, L * K * K, H / 4, W / 4); between the squares they are interpolated.

        Returns:
            (B, 1, H, W).
        """
        side, count = self.config.kernel, kernels.shape[2]
        padded = functional.pad(lumas, (side // 2,) * 4, mode="replicate")
        # Planes of a tensor whose channels lie last are slow to interpolate.
        places = functional.pad(kernels, (0, 0, 1, 1), mode="replicate").contiguous()
        places = places.unflatten(1, (self.config.lumas, side**2))
        strips = []
        for top in range(0, count, _ROWS):
            rows = min(_ROWS, count - top)
            seen = padded[..., STRIDE * top : STRIDE * (top + rows) + side - 1, :]
            strips.append(_filtered_strip(seen, places[..., top : top + rows + 2, :], side))
        middle = places[:, :1, :, 1:-1].sum(dim=2)
        middle = functional.interpolate(
            middle, scale_factor=STRIDE, mode="bilinear", align_corners=False
        )
        return torch.cat(strips, dim=2) - lumas[:, :1] * middle


def _filtered_strip(padded: Tensor, places: Tensor, side: int) -> Tensor:
    """Sum of all lumas, filtered, in some rows of squares.

    Args:
        padded: (B, L, 4 * rows + K - 1, W + K - 1).
        places: kernels, (B, L, K * K, rows + 2, W / 4): with the rows of squares before and after.
        side: K.

    Returns:
        (B, 1, 4 * rows, W).
    """
    height, width = (size - side + 1 for size in padded.shape[-2:])
    squares, half = (height // STRIDE, STRIDE), STRIDE // 2
    # Each pixel has kernels of two rows: its own, and the one that is next nearest.
    near = padded.new_zeros(*padded.shape[:2], *squares, width)
    far = torch.zeros_like(near)
    # A kernel's places one after the other: all at once they would take K * K times the memory.
    for place, weights in enumerate(places.unbind(2)):
        top, left = divmod(place, side)
        seen = padded[..., top : top + height, left : left + width].unflatten(2, squares)
        wide = functional.interpolate(
            weights.flatten(0, 1), scale_factor=STRIDE, mode="linear", align_corners=False
        )
        wide = wide.unflatten(0, weights.shape[:2]).unsqueeze(3)  # (B, L, rows + 2, 1, W)
        near.addcmul_(wide[:, :, 1:-1], seen)
        far[..., :half, :].addcmul_(wide[:, :, :-2], seen[..., :half, :])
        far[..., half:, :].addcmul_(wide[:, :, 2:], seen[..., half:, :])
    distance = ((torch.arange(STRIDE, device=near.device) + 0.5) / STRIDE - 0.5).abs()
    return near.lerp(far, distance[:, None]).sum(dim=1, keepdim=True).flatten(2, 3)


def _halved(x: Tensor) -> Tensor:
    """`pixel_unshuffle` by 2, with channels last in memory: so a CPU convolves fastest."""
    return functional.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)


def stack_fusion(
    fused: Tensor,
    blurry: Tensor,
    restored: Tensor,
    neighbours: Sequence[Tensor],
    evidence: Tensor | None = None,
) -> Tensor:
    """What the burst step fused and made, as the network takes it.

    Args:
        fused: result of the burst step, (B, 3, H, W), 0..1, as all of them.
        blurry: the frame as it came, likewise.
        restored: the restored frame before the burst step, likewise.
        neighbours: luma of up to four aligned neighbours, (B, 1, H, W) each, in the order before,
            after, second before, second after.
        evidence: what reblurring finds, (B, 3, H, W), -1..1; None: the network is not told.

    Returns:
        (B, 13, H, W), or 16 channels with the evidence. The restored frame stands in for neighbours
        that are missing at the end.
    """
    missing = [luma_of(restored)] * (NEIGHBOURS - len(neighbours))
    told = [] if evidence is None else [evidence]
    return torch.cat((fused, blurry, restored, *neighbours, *missing, *told), dim=1)
