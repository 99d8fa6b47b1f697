"""How networks of any kind are measured when they are compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from unsmear.data.pairs import PairedSequence
from unsmear.errors import ConfigError
from unsmear.evaluate.comparison import Score
from unsmear.evaluate.metrics import psnr, ssim
from unsmear.evaluate.programs import at_least
from unsmear.evaluate.validation import restored_triples
from unsmear.models.network import DeblurNetwork
from unsmear.restoration.stream import restore_stream

BLURRED = 30.0  # dB; fresh frames above it are nearly sharp and would dominate the mean


class FrameByFrame(Protocol):
    """Interface of networks other than `DeblurNetwork`: `FusionNetwork`, `RecurrentNetwork`."""

    def encode(self, clip: Tensor) -> Any:
        """Features of a clip (1, L, 3, H, W), for `restore`."""

    def restore(self, clip: Tensor, features: Any, frame: int) -> Tensor:
        """Restore one frame of the clip, (1, 3, H, W)."""


@dataclass(frozen=True)
class Scorer:
    """Measures networks on the same data.

    Attributes:
        sequences: paired, measured in full.
        fresh: synthetic clips, blurry and sharp, on the device.
        ssim_every: SSIM is computed for every n-th frame of the sequences.
        device: of the networks.

    Raises:
        ConfigError: `ssim_every` is below 1, or there are no frames to measure on.
    """

    sequences: Sequence[PairedSequence]
    fresh: Sequence[tuple[Tensor, Tensor]]
    ssim_every: int
    device: torch.device

    def __post_init__(self) -> None:
        at_least(1, ssim_every=self.ssim_every)
        if not self.sequences:
            raise ConfigError("there are no paired sequences to measure on: give some")
        if not any(gains(blurry, blurry, sharp) for blurry, sharp in self.fresh):
            raise ConfigError(
                f"none of {len(self.fresh)} fresh batches has a frame below {BLURRED:.0f} dB: draw "
                "more of them, or larger crops"
            )

    @torch.no_grad()
    def score(self, network: nn.Module | None, window: int | None = None) -> Score:
        """Score of a network; None: of the blurry frames.

        Args:
            network: on the device.
            window: number of frames, odd, that a `DeblurNetwork` sees of the sequences; other
                networks have their own. Of the synthetic clips each sees what it sees in training.

        Raises:
            ConfigError: a `DeblurNetwork` is given without a window.
            InputError: a frame cannot be read, or sizes differ.
        """
        means, all_psnr, all_ssim = {}, [], []
        restore = partial(restored_frames, network, window=window, device=self.device)
        for sequence in self.sequences:
            values = []
            for index, (frame, _, sharp) in enumerate(restored_triples(sequence, restore)):
                values.append(psnr(frame, sharp))
                if index % self.ssim_every == 0:
                    all_ssim.append(ssim(frame, sharp))
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


def restored_frames(
    network: nn.Module | None,
    frames: Iterable[Tensor],
    window: int | None,
    device: torch.device,
) -> Iterator[Tensor]:
    """Restore the frames of a clip, each (3, H, W).

    Args:
        network: a `DeblurNetwork` processes the frames as a stream; a `FrameByFrame` holds them and
            their features in memory; None: frames are returned unchanged.
        frames: on any device.
        window: of a `DeblurNetwork`.
        device: of the network.

    Raises:
        ConfigError: a `DeblurNetwork` is given without a window.
    """
    if network is None:
        yield from frames
    elif isinstance(network, DeblurNetwork):
        if window is None:
            raise ConfigError("window is None: a DeblurNetwork needs one, such as its row's")
        yield from restore_stream(network, frames, window)
    else:
        frame_by_frame = cast(FrameByFrame, network)
        clip = torch.stack([*frames])[None].to(device)
        features = frame_by_frame.encode(clip)
        for index in range(clip.shape[1]):
            yield frame_by_frame.restore(clip, features, index)[0]


def restored_alone(network: nn.Module, clips: Tensor) -> Tensor:
    """Restore each frame of (B, L, 3, H, W) without its neighbours."""
    restored: Tensor = network(clips.flatten(0, 1).unsqueeze(1)).view_as(clips)
    return restored


def gains(restored: Tensor, blurry: Tensor, sharp: Tensor) -> list[float]:
    """Gain in dB of each frame of (B, L, 3, H, W) whose blurry version is below `BLURRED`."""
    before, after = (
        -10 * torch.log10((clip.clamp(0, 1) - sharp).square().flatten(2).mean(dim=-1))
        for clip in (blurry, restored)
    )
    chosen = before < BLURRED
    found: list[float] = (after - before)[chosen].tolist()
    return found
