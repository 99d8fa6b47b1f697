"""Published numbers come from different protocols: the same frames, counted differently. Each
has a name here, and every number is printed with its protocol and its count of frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from unsmear.data.light import round_to_8_bit
from unsmear.errors import ConfigError, InputError
from unsmear.evaluate.metrics import WINDOW, psnr, ssim, volume_ssim


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How frames are compared. RGB always; averages over all frames of all sequences, beside which
    reports have the mean of the sequences' own.

    Attributes:
        name: as users type it.
        summary: who uses it, in one line.
        eight_bit: how restored frames become 8-bit numbers: `round` or `floor`.
        skip: frames at each end of a sequence that do not count.
        crop: pixels at each border that do not count.
        size: width and height that frames are shrunk to before anything else; each pixel becomes
            the mean of the area that it covers.
        ssim: `plane` (2-D, each channel on its own) or `volume` (3-D, colour as depth).
    """

    name: str
    summary: str
    eight_bit: Literal["round", "floor"] = "round"
    skip: int = 0
    crop: int = 0
    size: tuple[int, int] | None = None
    ssim: Literal["plane", "volume"] = "plane"

    def quantize(self, frame: Tensor) -> Tensor:
        """Restored frame, any shape, 0..1 -> the same in 8-bit steps."""
        if self.eight_bit == "round":
            return round_to_8_bit(frame)
        # A number that was 8-bit already must not fall a step by a rounding error.
        return (frame.float().clamp(0, 1) * 255 + 1e-3).floor().clamp_max(255) / 255

    def resize(self, frame: Tensor) -> Tensor:
        """Frame (3, H, W), float32 on the CPU, at the protocol's size.

        Raises:
            InputError: it is smaller.
        """
        width, height = self.resized(frame.shape[-1], frame.shape[-2])
        if tuple(frame.shape[-2:]) == (height, width):
            return frame
        # torch's "area" takes whole pixels: of 4 to 3 it would blur every third one.
        pixels = np.ascontiguousarray(frame.permute(1, 2, 0).numpy())
        small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        return torch.from_numpy(np.ascontiguousarray(small.transpose(2, 0, 1)))

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height at which frames of a size are compared.

        Raises:
            InputError: they are too small for the protocol's size.
        """
        if self.size is None:
            return width, height
        if width < self.size[0] or height < self.size[1]:
            raise InputError(
                f"protocol '{self.name}' measures at {self.size[0]}x{self.size[1]}: frames of "
                f"{width}x{height} are too small"
            )
        return self.size

    def check_size(self, width: int, height: int) -> None:
        """Raise InputError where frames, once of the protocol's size, are too small for SSIM."""
        width, height = (max(side - 2 * self.crop, 0) for side in (width, height))
        if min(width, height) < WINDOW:
            raise InputError(
                f"protocol '{self.name}' leaves {width}x{height} pixels, but SSIM "
                f"needs at least {WINDOW}x{WINDOW}"
            )

    def scores(self, restored: Tensor, sharp: Tensor) -> tuple[float, float]:
        """PSNR in dB and SSIM of quantised frames (3, H, W) of the protocol's size."""
        self.check_size(sharp.shape[-1], sharp.shape[-2])
        if self.crop:
            inner = slice(self.crop, -self.crop)
            restored, sharp = restored[..., inner, inner], sharp[..., inner, inner]
        similarity: Callable[[Tensor, Tensor], float]
        similarity = volume_ssim if self.ssim == "volume" else ssim
        return psnr(restored, sharp), similarity(restored, sharp)

    def counted(self, frames: int) -> range:
        """Which frames of a sequence count.

        Raises:
            InputError: none do.
        """
        span = range(self.skip, frames - self.skip)
        if not span:
            raise InputError(
                f"protocol '{self.name}' skips {self.skip} frames at each end: a sequence of "
                f"{frames} frames has none left"
            )
        return span


PROTOCOLS = (
    Protocol(
        name="basicsr2d",
        summary="all frames, rounded, no crop, SSIM per channel: most tables; BasicSR's video "
        "models and VRT by the mean of sequences",
    ),
    Protocol(
        name="matlab3d",
        summary="the same with SSIM over the colour volume: NAFNet, DSTNet, Shift-Net",
        ssim="volume",
    ),
    Protocol(
        name="cdvd",
        summary="without two frames at each end and four pixels at each border: CDVD-TSP",
        skip=2,
        crop=4,
    ),
    Protocol(
        name="estrnn",
        summary="truncated to 8 bits, without two frames at each end: ESTRNN on BSD and REDS",
        eight_bit="floor",
        skip=2,
    ),
    Protocol(
        name="estrnn-gopro-ds",
        summary="the same on frames downscaled to 960x540 by area averaging: ESTRNN on GOPRO-DS",
        eight_bit="floor",
        skip=2,
        size=(960, 540),
    ),
)


def find_protocol(name: str) -> Protocol:
    """A protocol by name.

    Raises:
        ConfigError: there is none of that name.
    """
    for protocol in PROTOCOLS:
        if protocol.name == name:
            return protocol
    known = ", ".join(protocol.name for protocol in PROTOCOLS)
    raise ConfigError(f"unknown protocol '{name}': must be one of {known}")
