"""What networks of any kind are measured on when they are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from unsmear.data.light import round_to_8_bit
from unsmear.data.pairs import PairedSequence
from unsmear.errors import ConfigError
from unsmear.evaluate.comparison import Score
from unsmear.evaluate.metrics import psnr, ssim
from unsmear.models.network import DeblurNetwork
from unsmear.restoration.stream import restore_stream
from unsmear.video.images import unit_from_integer

BLURRED = 30.0  # dB; fresh frames above it are nearly sharp, and would drown all others
_WINDOW = 5  # of a `DeblurNetwork` on whole clips; others have their own


class Judge(Protocol):
    """What measures networks: `Measures`, or a stand-in."""

    def score(self, network: nn.Module | None) -> Score:
        """Of a network; of the blurry frames where there is none."""


class FrameByFrame(Protocol):
    """What networks offer that are no `DeblurNetwork`: `FusionNetwork`, `RecurrentNetwork`."""

    def encode(self, clip: Tensor) -> Any:
        """Features of a clip (1, L, 3, H, W), for `restore`."""

    def restore(self, clip: Tensor, features: Any, frame: int) -> Tensor:
        """One frame of the clip, (1, 3, H, W)."""


@dataclass(frozen=True)
class Measures:
    """What networks are measured on.

    Attributes:
        sequences: paired, measured in full.
        fresh: synthetic clips, blurry and sharp, on the device.
        ssim_every: frames of the sequences that SSIM is taken of.
        device: where networks lie.

    Raises:
        ConfigError: there would be nothing to take a mean of.
    """

    sequences: Sequence[PairedSequence]
    fresh: Sequence[tuple[Tensor, Tensor]]
    ssim_every: int
    device: torch.device

    def __post_init__(self) -> None:
        if self.ssim_every < 1:
            raise ConfigError(f"ssim_every is {self.ssim_every}: at least 1")
        if not self.sequences:
            raise ConfigError("there are no paired sequences to measure on: give some")
        if not any(gains(blurry, blurry, sharp) for blurry, sharp in self.fresh):
            raise ConfigError(
                f"none of {len(self.fresh)} fresh batches has a frame below {BLURRED:.0f} dB: draw "
                "more of them, or larger crops"
            )

    @torch.no_grad()
    def score(self, network: nn.Module | None) -> Score:
        """Of a network; of the blurry frames where there is none."""
        means, all_psnr, all_ssim = {}, [], []
        for sequence in self.sequences:
            blurry, sharp = (unit_from_integer(side)[None] for side in sequence.read())
            values = []
            for index, restored in enumerate(restored_frames(network, blurry.to(self.device))):
                frame = round_to_8_bit(restored.cpu())
                values.append(psnr(frame, sharp[0, index]))
                if index % self.ssim_every == 0:
                    all_ssim.append(ssim(frame, sharp[0, index]))
            means[sequence.name] = fmean(values)
            all_psnr += values
        gain = alone = 0.0
        if network:
            gain = fmean(value for pair in self.fresh for value in gains(network(pair[0]), *pair))
            alone = fmean(
                value
                for pair in self.fresh
                for value in gains(restored_alone(network, pair[0]), *pair)
            )
        return Score(
            psnr=fmean(all_psnr),
            ssim=fmean(all_ssim),
            fresh=gain,
            neighbours=gain - alone,
            sequences=means,
        )


def restored_frames(network: nn.Module | None, clip: Tensor) -> Iterator[Tensor]:
    """Frames (3, H, W) of a clip (1, L, 3, H, W), restored one by one so that large ones fit; as
    they are where there is no network.
    """
    if network is None:
        yield from clip[0]
    elif isinstance(network, DeblurNetwork):
        yield from restore_stream(network, clip[0], _WINDOW)
    else:
        frame_by_frame = cast(FrameByFrame, network)
        features = frame_by_frame.encode(clip)
        for index in range(clip.shape[1]):
            yield frame_by_frame.restore(clip, features, index)[0]


def restored_alone(network: nn.Module, clips: Tensor) -> Tensor:
    """Restore each frame of (B, L, 3, H, W) as if there were no other than it."""
    restored: Tensor = network(clips.flatten(0, 1).unsqueeze(1)).view_as(clips)
    return restored


def gains(restored: Tensor, blurry: Tensor, sharp: Tensor) -> list[float]:
    """Gain in dB of those frames of (B, L, 3, H, W) that are really blurred."""
    before, after = (
        -10 * torch.log10((clip.clamp(0, 1) - sharp).square().flatten(2).mean(dim=-1))
        for clip in (blurry, restored)
    )
    chosen = before < BLURRED
    found: list[float] = (after - before)[chosen].tolist()
    return found
