"""Blind measures of what a camera does to an image. Applied to real video and to synthesised
clips, they show where the training data differ from real data.

The absolute values are biased, but alike on both sides, so differences are meaningful:

- Blur is underestimated beyond 12 pixels. Sharp frames measure 0.6 to 2.7 pixels (see
  `unsmear.restoration.sharpness`).
- Duty inherits the errors of blur. On still images shifted by 8 or 12 pixels per frame it was
  about 1.5 times too high at a duty of one half, and right or slightly too low where blur reached
  11 pixels. Single pieces are off by as much again. Images without blur give 0.1 to 0.3.
- Noise cannot be told from the finest texture. Sharp photographs without noise measure 0.6 to 3.5
  8-bit steps (10th to 90th percentile); in uniform areas noise is underestimated by a tenth.
- Blocking is a ratio. Blur lowers the contrast off the grid, so the same coding gives a higher
  value. Strong blocking also hides blur from its estimate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from unsmear.data.flow import optical_flow
from unsmear.evaluate.origin import Origin
from unsmear.evaluate.report import markdown_table
from unsmear.restoration.sharpness import estimate_blur, luma_of
from unsmear.video.images import integer_from_unit

CROP = 256  # side of a piece, pixels: four blocks of the blur estimate
_AREA = 16  # side of the areas in which noise is measured, pixels
_GRID = 8  # side of the blocks of JPEG, MPEG-4 and H.264's larger transform, pixels
# Range of motion per frame, in pixels, in which duty is measured. Below it, the value that a sharp
# frame measures is too large a part of the blur; above it, blur is underestimated. Pieces must not
# be selected by blur: leaving out sharp ones would bias the duty upwards.
_DUTY_STEPS = (6.0, 16.0)
_WHITE, _BLACK = 253.5 / 255, 2.5 / 255
_TO_BLUE, _TO_RED = 0.564, 0.713  # ITU-R BT.601: factors of B - Y and R - Y for Cb and Cr
# Second differences along both axes, with unit gain for white noise (Immerkaer, CVIU 1996). There
# is no response to edges along an axis and to linear gradients.
_CROSS = torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]) / 6


@dataclass(frozen=True)
class CameraMeasures:
    """Measures of one piece of a frame and its motion to the next frame; None if undefined.

    Attributes:
        blur: length of the blur along its strongest direction, pixels.
        step: median motion to the next frame, pixels; too small in areas without texture.
        duty: blur over step, if the step is 6 to 16 pixels: an estimate of the shutter's duty
            cycle, the share of the frame interval in which it is open.
        noise: noise of luma, in 8-bit steps, see `noise_level`.
        color_noise: noise of the colour differences, likewise; near 0 if chroma was subsampled.
        blocking: see `blocking`; about 1 without blocks.
        white: share of pixels with a clipped channel (254 of 255 or more).
        black: share of pixels whose luma is below 1 % (2 of 255 or less).
        brightness: mean luma, 0..1.
        contrast: standard deviation of luma, 0..1.
    """

    blur: float | None
    step: float
    duty: float | None
    noise: float | None
    color_noise: float | None
    blocking: float | None
    white: float
    black: float
    brightness: float
    contrast: float


MEASURES = tuple(field.name for field in fields(CameraMeasures))


def measure_camera(frame: Tensor, following: Tensor) -> CameraMeasures:
    """Measure a piece of a frame and its motion to the next frame.

    Args:
        frame: (3, H, W), float, 0..1, display-referred; blur needs sides of at least 128 pixels.
            The grid of blocks must start at its upper left corner.
        following: the same piece of the next frame, likewise.

    Raises:
        ValueError: the shapes differ, or a side is below 32 pixels.
    """
    if frame.shape != following.shape:
        raise ValueError(f"frames of {tuple(frame.shape)} and {tuple(following.shape)} must agree")
    if min(frame.shape[-2:]) < 2 * _AREA:
        raise ValueError(f"frame is {tuple(frame.shape)}: sides must be at least {2 * _AREA}")
    luma = luma_of(frame)
    blur, step = estimate_blur(frame).length, _step(frame, following)
    measurable = _DUTY_STEPS[0] <= step <= _DUTY_STEPS[1]
    to_blue = noise_level(_TO_BLUE * (frame[2] - luma), luma)
    to_red = noise_level(_TO_RED * (frame[0] - luma), luma)
    return CameraMeasures(
        blur=blur,
        step=step,
        duty=blur / step if blur is not None and measurable else None,
        noise=noise_level(luma, luma),
        color_noise=None if to_blue is None or to_red is None else (to_blue + to_red) / 2,
        blocking=blocking(luma),
        white=float((frame.amax(dim=0) > _WHITE).float().mean()),
        black=float((luma < _BLACK).float().mean()),
        brightness=float(luma.mean()),
        contrast=float(luma.std()),
    )


def _step(frame: Tensor, following: Tensor) -> float:
    both = [
        integer_from_unit(picture).permute(1, 2, 0).contiguous().numpy()
        for picture in (frame, following)
    ]
    return float(torch.from_numpy(optical_flow(*both)).norm(dim=-1).median())


def noise_level(plane: Tensor, luma: Tensor) -> float | None:
    """Standard deviation of pixelwise noise, in 8-bit steps.

    It is the 10th percentile over areas of 16x16 pixels, since the most uniform areas have the
    least texture. Areas with clipped pixels are left out, because clipping removes noise.

    Args:
        plane: (H, W), float, in units of 0..1: luma or a colour difference.
        luma: (H, W), float, 0..1; decides which areas are clipped.

    Returns:
        None if all areas are clipped.
    """
    response = functional.conv2d(plane[None, None], _CROSS.to(plane)[None, None])[0, 0]
    light = _areas(luma[1:-1, 1:-1])
    lit = (light.amin(dim=1) > _BLACK) & (light.amax(dim=1) < _WHITE)
    if not lit.any():
        return None
    # Root mean square rather than median: quantisation to 8 bits would make the median 0.
    deviations = _areas(response)[lit].square().mean(dim=1).sqrt()
    return 255 * float(deviations.quantile(0.1))


def _areas(plane: Tensor) -> Tensor:
    """(H, W) -> (N, 256): its complete areas of 16x16 pixels."""
    return plane.unfold(0, _AREA, _AREA).unfold(1, _AREA, _AREA).flatten(0, 1).flatten(1)


def blocking(luma: Tensor) -> float | None:
    """Mean absolute difference of adjacent pixels across the edges of an 8x8 grid, divided by that
    of all other adjacent pixels: about 1 without blocks.

    Args:
        luma: (H, W), float, 0..1; the grid starts at its upper left corner.

    Returns:
        Mean of both axes; None if along one of them there is no contrast off the grid.
    """
    ratios = []
    for plane in (luma, luma.T):
        contrast = plane.diff(dim=1).abs().mean(dim=0)  # [7] is that between columns 7 and 8
        contrast = contrast[: len(contrast) // _GRID * _GRID].unflatten(0, (-1, _GRID)).mean(dim=0)
        others = float(contrast[:-1].mean())
        if others <= 0:
            return None
        ratios.append(float(contrast[-1]) / others)
    return sum(ratios) / 2


def pieces_of(
    frame: Tensor, following: Tensor, count: int, random: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Random pieces of CROP x CROP pixels of two consecutive frames, aligned to the codec's grid of
    blocks. Where a side of the frame is shorter, pieces take all of it.

    Args:
        frame: (3, H, W).
        following: the next frame, likewise.
        count: number of pieces; they may overlap.
        random: generator for their positions.
    """
    for _ in range(count):
        top, left = (
            _GRID * int(torch.randint(max(size - CROP, 0) // _GRID + 1, (), generator=random))
            for size in frame.shape[-2:]
        )
        rows, columns = slice(top, top + CROP), slice(left, left + CROP)
        yield frame[:, rows, columns], following[:, rows, columns]


@dataclass(frozen=True)
class Spread:
    """Percentiles of one measure.

    Attributes:
        low, middle, high: the 10th, 50th and 90th percentile.
        known: share of the pieces for which the measure is defined.
    """

    low: float
    middle: float
    high: float
    known: float


def spreads(found: Iterable[CameraMeasures]) -> dict[str, Spread | None]:
    """Percentiles of each measure; None if it is defined for no piece."""
    pieces = list(found)
    out: dict[str, Spread | None] = {}
    for name in MEASURES:
        values = [value for piece in pieces if (value := getattr(piece, name)) is not None]
        if not values:
            out[name] = None
            continue
        points = torch.tensor(values, dtype=torch.float64).quantile(
            torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
        )
        low, middle, high = points.tolist()
        out[name] = Spread(low, middle, high, len(values) / len(pieces))
    return out


@dataclass(frozen=True)
class CameraRecord:
    """One run of `benchmarks/synthesis.py`.

    Attributes:
        title: what is compared.
        pieces: number of measured pieces of each side, by name.
        sides: percentiles, by name of the side and measure.
        origin: machine, versions, command and date.
    """

    title: str
    pieces: dict[str, int]
    sides: dict[str, dict[str, Spread | None]]
    origin: Origin


_SHARES = ("white", "black")
_WORDS = {
    "blur": "blur, px",
    "step": "step to the next frame, px",
    "duty": "duty: blur over step",
    "noise": "noise of luma, code values",
    "color_noise": "noise of colour, code values",
    "blocking": "contrast on the 8x8 grid, relative to off the grid",
    "white": "clipped to white, %",
    "black": "black, %",
    "brightness": "mean luma",
    "contrast": "standard deviation of luma",
}


def camera_lines(record: CameraRecord) -> list[str]:
    """The record as a Markdown table: one row per measure, one column per side."""
    names = list(record.sides)
    counts = ", ".join(f"{name}: {record.pieces[name]}" for name in names)
    rows = [
        [_WORDS[measure], *(_cell(record.sides[name][measure], measure) for name in names)]
        for measure in MEASURES
    ]
    return [
        f"Crops of {CROP}x{CROP} pixels, all measured in the same way ({counts}). Median, in "
        "brackets the 10th to 90th percentile. `of N %`: the share of crops that can be measured, "
        "if not all.",
        "",
        *markdown_table(["measure", *names], rows),
    ]


def _cell(spread: Spread | None, measure: str) -> str:
    if spread is None:
        return "-"
    scale = 100 if measure in _SHARES else 1
    low, middle, high = (scale * value for value in (spread.low, spread.middle, spread.high))
    digits = 1 if high >= 10 else 2
    text = f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
    return text if spread.known > 0.99 else f"{text}, of {100 * spread.known:.0f} %"
