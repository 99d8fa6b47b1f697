"""Evaluation protocols, by name: published figures follow different ones. Every result is reported
with its protocol and number of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from unsmear.data.light import round_to_8_bit
from unsmear.errors import ConfigError, InputError
from unsmear.evaluate.metrics import WINDOW, mirrored_ssim, psnr, ssim, volume_ssim

_SIMILARITIES: dict[str, Callable[[Tensor, Tensor], float]] = {
    "plane": ssim,
    "volume": volume_ssim,
    "mirrored": mirrored_ssim,
}

DEFAULT_PROTOCOL = "basicsr2d"
ALL_PROTOCOLS = "all"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How frames are measured: always RGB, averaged over all frames of all sequences. Reports also
    have the mean over sequences.

    Attributes:
        name: as users type it.
        summary: its rules and who uses it, in one line.
        eight_bit: quantisation of restored frames to 8 bits: `round`, `floor` or `none`.
        skip: number of frames at each end of a sequence that are left out.
        block: frames count in blocks of this many, from the first that is not skipped; an
            incomplete block at the end of a sequence is left out.
        crop: pixels at each border that are left out.
        size: width and height to which frames are downscaled first, by area averaging; None: not.
        ssim: `plane` (2-D, each channel separately), `volume` (3-D, colour as depth) or `mirrored`
            (the same with a wider window and mirrored borders).
    """

    name: str
    summary: str
    eight_bit: Literal["round", "floor", "none"] = "round"
    skip: int = 0
    block: int = 1
    crop: int = 0
    size: tuple[int, int] | None = None
    ssim: Literal["plane", "volume", "mirrored"] = "plane"

    def quantize(self, frame: Tensor) -> Tensor:
        """Quantise a restored frame (any shape, 0..1) to 8 bits; with `none` only clip it."""
        if self.eight_bit == "none":
            return frame.float().clamp(0, 1)
        if self.eight_bit == "round":
            return round_to_8_bit(frame)
        # A value that is 8-bit already must not drop by a step due to rounding errors.
        return (frame.float().clamp(0, 1) * 255 + 1e-3).floor().clamp_max(255) / 255

    def resize(self, frame: Tensor) -> Tensor:
        """Downscale a frame (3, H, W), float32 on the CPU, to the protocol's size, if it has one.

        Raises:
            InputError: the frame is smaller.
        """
        width, height = self.resized(frame.shape[-1], frame.shape[-2])
        if tuple(frame.shape[-2:]) == (height, width):
            return frame
        # torch's "area" mode averages whole pixels only: from 4 to 3 it would weight them unevenly.
        pixels = np.ascontiguousarray(frame.permute(1, 2, 0).numpy())
        small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        return torch.from_numpy(np.ascontiguousarray(small.transpose(2, 0, 1)))

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height at which frames of the given size are measured.

        Raises:
            InputError: they are smaller than the protocol's size.
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
        """Check that frames of the protocol's size, once cropped, are large enough for SSIM.

        Raises:
            InputError: they are not.
        """
        width, height = (max(side - 2 * self.crop, 0) for side in (width, height))
        if min(width, height) < WINDOW:
            raise InputError(
                f"protocol '{self.name}' leaves {width}x{height} pixels, but SSIM "
                f"needs at least {WINDOW}x{WINDOW}"
            )

    def scores(self, restored: Tensor, sharp: Tensor) -> tuple[float, float]:
        """PSNR in dB and SSIM of quantised frames (3, H, W) of the protocol's size.

        Raises:
            InputError: they are too small for SSIM.
        """
        self.check_size(sharp.shape[-1], sharp.shape[-2])
        if self.crop:
            inner = slice(self.crop, -self.crop)
            restored, sharp = restored[..., inner, inner], sharp[..., inner, inner]
        return psnr(restored, sharp), _SIMILARITIES[self.ssim](restored, sharp)

    def counted(self, frames: int) -> range:
        """Indices of the frames that count, in a sequence of `frames` frames.

        Raises:
            InputError: none do.
        """
        whole = (frames - 2 * self.skip) // self.block * self.block
        if whole <= 0:
            blocks = f" and counts in blocks of {self.block}" if self.block > 1 else ""
            raise InputError(
                f"protocol '{self.name}' skips {self.skip} frames at each end{blocks}: a sequence "
                f"of {frames} frames has none left: choose another protocol"
            )
        return range(self.skip, self.skip + whole)


PROTOCOLS = (
    Protocol(
        name="basicsr2d",
        summary="all frames, rounded, no crop, SSIM per channel: BasicSR's video models, "
        "BasicVSR++, VRT and RVRT, all by the mean of sequences",
    ),
    Protocol(
        name="matlab3d",
        summary="all frames, rounded, no crop, SSIM over the colour volume: NAFNet, DSTNet, MPRNet",
        ssim="volume",
    ),
    Protocol(
        name="cdvd",
        summary="rounded, without two frames at each end and four pixels at each border, SSIM per "
        "channel: CDVD-TSP",
        skip=2,
        crop=4,
    ),
    Protocol(
        name="estrnn",
        summary="truncated to 8 bits, without two frames at each end, SSIM per channel: ESTRNN on "
        "BSD and REDS, MMP-RNN",
        eight_bit="floor",
        skip=2,
    ),
    Protocol(
        name="estrnn-gopro-ds",
        summary="frames downscaled to 960x540 by area averaging, truncated to 8 bits, without two "
        "at each end, SSIM per channel: ESTRNN on GOPRO-DS (layout gopro-gamma)",
        eight_bit="floor",
        skip=2,
        size=(960, 540),
    ),
    Protocol(
        name="shiftnet",
        summary="not rounded, in blocks of 48 frames without two at each end, SSIM over the colour "
        "volume with mirrored borders: Shift-Net+",
        eight_bit="none",
        skip=2,
        block=48,
        ssim="mirrored",
    ),
)
"""All protocols. The public code that each follows, as read in stored copies on 2026-11-29:

- `basicsr2d`: XPixelGroup/BasicSR, basicsr/metrics/psnr_ssim.py, basicsr/utils/img_util.py
  (`tensor2img` rounds) and basicsr/models/video_base_model.py (mean of sequences); the same in
  JingyunLiang/VRT, main_test_vrt.py, and cszn/KAIR, main_test_rvrt.py.
- `matlab3d`: megvii-research/NAFNet, basicsr/metrics/psnr_ssim.py, after MATLAB's `ssim`, which
  swz30/MPRNet calls in Deblurring/evaluate_GOPRO_HIDE.m; xuboming8/DSTNet,
  results/calculate_psnr.py. All report the mean of frames, as do those below.
- `cdvd`: csbhr/CDVD-TSP, code/inference.py, without its option `--border`.
- `estrnn`: zzh-tech/ESTRNN, train/test.py and train/metrics.py; sollynoay/MMP-RNN, which also
  measures GOPRO (`blur_gamma`, 1280x720), by the same file.
- `estrnn-gopro-ds`: the same. GOPRO-DS is `blur_gamma` (data/how_to_make_dataset_file.ipynb) and is
  distributed downscaled. No code that we found tells the filter: area averaging is our choice.
- `shiftnet`: dasongli1/Shift-Net, inference/test_deblur.py with the `--one_len 48` of its README,
  which leaves 1,008 of GOPRO's 1,111 frames. Shift-Net-s is measured in blocks of 96, so that
  one sequence of GOPRO is left out.
"""


def find_protocol(name: str) -> Protocol:
    """Return the protocol with the given name.

    Raises:
        ConfigError: there is none.
    """
    for protocol in PROTOCOLS:
        if protocol.name == name:
            return protocol
    known = ", ".join(protocol.name for protocol in PROTOCOLS)
    raise ConfigError(f"unknown protocol '{name}': must be one of {known}")


def find_protocols(names: Sequence[str]) -> tuple[Protocol, ...]:
    """Return the protocols with the given names, in this order; for `all` alone, all that measure
    frames at their own size.

    Raises:
        ConfigError: there is none of a name, `all` is not alone, or see `check_together`.
    """
    if ALL_PROTOCOLS not in names:
        found = tuple(find_protocol(name) for name in names)
        check_together(found)
        return found
    if len(names) > 1:
        raise ConfigError(f"protocol '{ALL_PROTOCOLS}' includes the others: give it alone")
    return tuple(protocol for protocol in PROTOCOLS if protocol.size is None)


def check_together(protocols: Sequence[Protocol]) -> None:
    """Check that the same restored frames can be measured by all of these protocols.

    Raises:
        ConfigError: one is given twice, or they measure frames of different sizes.
    """
    for one, other in combinations(protocols, 2):
        if one == other:
            raise ConfigError(f"protocol '{one.name}' is given twice: give each once")
        if one.size != other.size:
            sized = one if other.size is None else other
            raise ConfigError(
                f"protocol '{sized.name}' restores and measures frames of another size than "
                f"'{(other if sized is one else one).name}': measure by it in a run of its own"
            )
