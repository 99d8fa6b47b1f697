"""What a camera did to a picture, measured from the picture alone: the same measures on real
video and on synthesised clips tell where training differs from the world.

No measure is the truth, but both sides are measured alike, so a difference between them is one:

- Blur falls short beyond 12 pixels, and sharp frames are taken for 0.6 to 2.7 (see
  `unsmear.restoration.sharpness`).
- Duty takes over what blur gets wrong. Of still pictures shifted by 8 or 12 pixels a frame it came
  out about 1.5 times too high where the shutter was open for half of the time, right or a little
  too low where blur reached 11 pixels; single pieces are off by as much again, and pictures without
  blur come out at 0.1 to 0.3.
- Noise cannot be told from the finest texture: in sharp photographs without any it is taken for 0.6
  to 3.5 steps of 8 bits (10 to 90 %), in evenly lit areas for a tenth less than it is.
- Blocking is a ratio: blur, which leaves less contrast beside the grid, lets the same coding show
  more. Strong blocks also hide blur from its estimate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unsmear.data.flow import optical_flow
from unsmear.evaluate.origin import Origin
from unsmear.evaluate.report import markdown_table
from unsmear.restoration.sharpness import estimate_blur, luma_of

CROP = 256  # pixels: four blocks of the blur estimate
_AREA = 16  # pixels: side of the areas in which noise is measured
_GRID = 8  # pixels: side of the blocks of JPEG, of MPEG-4 and of H.264's larger transform
# Pixels from frame to frame between which blur tells the duty: below, what a sharp frame is taken
# for is too large a part of it, above, the estimate falls short. Blur itself must not choose the
# pieces: leaving out the sharp ones would make the shutter seem open for longer.
_TELLING_STEPS = (6.0, 16.0)
_WHITE, _BLACK = 253.5 / 255, 2.5 / 255
_TO_BLUE, _TO_RED = 0.564, 0.713  # ITU-R BT.601: B - Y and R - Y to colour differences
# Second differences along both axes, of unit gain for white noise (Immerkaer, CVIU 1996): edges
# along an axis and even slopes leave no trace.
_CROSS = torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]) / 6


@dataclass(frozen=True)
class CameraMeasures:
    """Of one piece of a frame and the step to the next one; None where it cannot be told.

    Attributes:
        blur: pixels along the blurriest direction.
        step: pixels that the picture moves on until the next frame, median; too small where there
            is nothing to follow.
        duty: blur over step, where the step is 6 to 16 pixels: about the share of the time between
            two frames in which the shutter is open.
        noise: of luma, see `noise_level`; steps of 8 bits.
        color_noise: of the colour differences, likewise; near 0 where they were coded at half size.
        blocking: see `blocking`; 1 without blocks.
        white: share of pixels of which a colour is at the upper end (254 of 255 and more).
        black: share of pixels whose luma is below 1 % (2 of 255 and less).
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
    """Measure a piece of a frame and the step to the next one.

    Args:
        frame: (3, H, W), float, 0..1, display-referred; sides of at least 128 pixels, or blur
            cannot be told. A grid of blocks starts at its upper left corner.
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
    telling = _TELLING_STEPS[0] <= step <= _TELLING_STEPS[1]
    to_blue = noise_level(_TO_BLUE * (frame[2] - luma), luma)
    to_red = noise_level(_TO_RED * (frame[0] - luma), luma)
    return CameraMeasures(
        blur=blur,
        step=step,
        duty=blur / step if blur is not None and telling else None,
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
        picture.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
        for picture in (frame, following)
    ]
    return float(torch.from_numpy(optical_flow(*both)).norm(dim=-1).median())


def noise_level(plane: Tensor, luma: Tensor) -> float | None:
    """Standard deviation of noise from pixel to pixel, in steps of 8 bits: the tenth percentile
    over areas of 16x16 pixels, as the evenest show the least of the scene. Areas that touch an end
    of the scale do not count, as it cuts noise off; None where all do.

    Args:
        plane: (H, W), float, of the scale of 0..1: luma or a colour difference.
        luma: (H, W), float, 0..1: tells which areas touch an end.
    """
    response = functional.conv2d(plane[None, None], _CROSS.to(plane)[None, None])[0, 0]
    light = _areas(luma[1:-1, 1:-1])
    lit = (light.amin(dim=1) > _BLACK) & (light.amax(dim=1) < _WHITE)
    if not lit.any():
        return None
    # The root mean square and not the median, which steps of 8 bits would round to none.
    deviations = _areas(response)[lit].square().mean(dim=1).sqrt()
    return 255 * float(deviations.quantile(0.1))


def _areas(plane: Tensor) -> Tensor:
    """(H, W) -> (N, 256): the whole areas of 16x16 that it holds."""
    height, width = (size // _AREA * _AREA for size in plane.shape)
    squares = plane[:height, :width].unflatten(0, (-1, _AREA)).unflatten(2, (-1, _AREA))
    return squares.transpose(1, 2).flatten(2).flatten(0, 1)


def blocking(luma: Tensor) -> float | None:
    """Mean contrast of neighbours over the edges of an 8x8 grid, over that of all others: about 1
    without blocks. None where there is no contrast along an axis but on the grid.

    Args:
        luma: (H, W), float, 0..1; the grid starts at its upper left corner.
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
    """Random pieces of CROP x CROP pixels of two consecutive frames, each on the grid of the
    codec's blocks; the whole of them along a side that is shorter.

    Args:
        frame: (3, H, W).
        following: likewise.
        count: of the pieces, which may overlap.
        random: places.
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
        low, middle, high: the 10th, 50th and 90th.
        known: share of the pieces of which it can be told.
    """

    low: float
    middle: float
    high: float
    known: float


def spreads(found: Iterable[CameraMeasures]) -> dict[str, Spread | None]:
    """Percentiles of each measure; None where it could not be told of any."""
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
        pieces: name of a side -> how many were measured.
        sides: name of a side -> measure -> its percentiles.
        origin: machine, versions, command, date.
    """

    title: str
    pieces: dict[str, int]
    sides: dict[str, dict[str, Spread | None]]
    origin: Origin

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> CameraRecord:
        """What `asdict` gave."""
        sides = {
            side: {name: spread and _spread(spread) for name, spread in measures.items()}
            for side, measures in record["sides"].items()
        }
        return cls(record["title"], record["pieces"], sides, Origin(**record["origin"]))


def _spread(values: dict[str, Any]) -> Spread:
    """Of what `finite` made texts of, floats again."""
    return Spread(**{name: float(value) for name, value in values.items()})


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
    """The record as Markdown: a row a measure, a column a side."""
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
