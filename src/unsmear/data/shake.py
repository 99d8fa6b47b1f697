"""Camera motion: smooth random paths, recorded orientation logs, and their homographies.

Time is in frame intervals, distances are in pixels of the rendered frame. A path says where the
camera looks at each moment. A homography maps a pixel of that moment to the pixel of the reference
image that it sees. Points are (x, y), x to the right, y down.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unsmear.errors import InputError, reading

_WAVES = 6  # sine waves of each coordinate of a random path
# A log pauses where it has no sample for so many median intervals, and for so many seconds: samples
# may come in bursts.
_PAUSE_INTERVALS, _PAUSE_SECONDS = 20, 0.5


def exposure_times(frames: int, samples: int, duty: Tensor) -> Tensor:
    """Moments at which the open shutter is sampled.

    Args:
        frames: T.
        samples: S per frame; odd, so that one is at mid-exposure, the moment of the sharp frame.
        duty: fraction of the frame interval for which the shutter is open, (B,), 0..1.

    Returns:
        (B, T, S) in frame intervals, 0 at mid-exposure of the middle of the clip.

    Raises:
        ValueError: samples is even.
    """
    if samples % 2 == 0:
        raise ValueError(f"samples is {samples}: must be odd, to have one at mid-exposure")
    centres = torch.arange(frames, dtype=torch.float32) - (frames - 1) / 2
    return centres[None, :, None] + duty[:, None, None] * shutter_times(samples)


def shutter_times(samples: int) -> Tensor:
    """Midpoints of S equal parts of the exposure -0.5..0.5, (S,). Each stands for its part, so
    their mean is that of the exposure. Samples from end to end would describe a longer exposure.
    """
    return (torch.arange(samples, dtype=torch.float32) - (samples - 1) / 2) / samples


def smooth_path(
    times: Tensor,
    dimensions: int,
    generator: torch.Generator,
    *,
    slowest: float = 0.02,
    fastest: float = 0.45,
) -> Tensor:
    """Random band-limited path, zero at time 0: sine waves whose amplitude falls with frequency.

    Hand tremor has about equal energy in each octave, so a wave of frequency f (log-uniform from
    slowest to fastest) gets an amplitude proportional to 1/f.

    Args:
        times: (B, ...) in frame intervals.
        dimensions: D independent coordinates.
        generator: on the CPU.
        slowest: lowest frequency, cycles per frame interval.
        fastest: highest frequency, cycles per frame interval.

    Returns:
        (B, ..., D); the scale is arbitrary and left to callers.
    """
    batch = times.shape[0]
    shape = (batch, _WAVES, dimensions)
    spread = math.log(fastest / slowest)
    frequency = slowest * torch.exp(spread * torch.rand(shape, generator=generator))
    phase = 2 * math.pi * torch.rand(shape, generator=generator)
    amplitude = torch.randn(shape, generator=generator) / (2 * math.pi * frequency)
    flat = times.reshape(batch, -1, 1, 1)  # (B, K, 1, 1) against (B, 1, waves, D)
    turn = 2 * math.pi * frequency[:, None]
    path = amplitude[:, None] * (
        torch.sin(turn * flat + phase[:, None]) - torch.sin(phase)[:, None]
    )
    return path.sum(dim=2).reshape(*times.shape, dimensions)


def path_length(path: Tensor) -> Tensor:
    """Length of a path (B, T, S, D) at `shutter_times` over a whole exposure, mean over the frames:
    (B,).
    """
    return _whole(path.diff(dim=2).norm(dim=-1)).mean(dim=1)


def _whole(steps: Tensor) -> Tensor:
    """Length of a path from the distances between the midpoints of its S parts:
    (B, T, S - 1, ...) -> (B, T, ...).
    """
    count = steps.shape[2]
    return steps.sum(dim=2) * ((count + 1) / count)


def rotation_matrices(vectors: Tensor) -> Tensor:
    """Rotation vectors (..., 3), radians -> rotation matrices (..., 3, 3)."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1)
    rotation: Tensor = torch.linalg.matrix_exp(skew.unflatten(-1, (3, 3)))
    return rotation


def plane_homographies(
    rotation: Tensor, translation: Tensor, normal: Tensor, focal: Tensor, principal: Tensor
) -> Tensor:
    """Homography K (R + t n') K^-1 of a camera that rotates and translates in front of a plane.

    Args:
        rotation: (B, ..., 3, 3).
        translation: (B, ..., 3) in units of the distance to the plane; z is forward.
        normal: of the plane, (B, 3); (0, 0, 1) faces the camera.
        focal: (B,) in pixels.
        principal: principal point, (B, 2) in pixels.

    Returns:
        (B, ..., 3, 3).
    """
    spread = (slice(None),) + (None,) * (rotation.dim() - 3)  # (B, ...) -> (B, 1.., ...)
    camera = torch.zeros(len(focal), 3, 3, dtype=focal.dtype)
    camera[:, 0, 0] = camera[:, 1, 1] = focal
    camera[:, :2, 2] = principal
    camera[:, 2, 2] = 1
    inverse = torch.linalg.inv(camera)
    moved = rotation + translation[..., :, None] * normal[spread][..., None, :]
    return camera[spread] @ moved @ inverse[spread]


def transform_points(homographies: Tensor, points: Tensor) -> Tensor:
    """Apply homographies (..., 3, 3) to points (..., P, 2) -> (..., P, 2)."""
    lifted = torch.cat((points, torch.ones_like(points[..., :1])), dim=-1)
    mapped = lifted @ homographies.transpose(-1, -2)
    # Behind the camera there is no image; a small positive depth keeps numbers finite.
    return mapped[..., :2] / mapped[..., 2:].clamp_min(1e-3)


def blur_length(homographies: Tensor, width: int, height: int) -> Tensor:
    """Length of the path that a pixel travels while the shutter is open.

    Args:
        homographies: (B, T, S, 3, 3) of the S samples of each exposure, at `shutter_times`.
        width: of the frames in pixels.
        height: of the frames in pixels.

    Returns:
        (B, T) in pixels, mean over a grid of points of the frame.
    """
    x = torch.linspace(-width / 2, width / 2, 5)
    y = torch.linspace(-height / 2, height / 2, 5)
    grid = torch.cartesian_prod(x, y)  # (25, 2)
    mapped = transform_points(homographies, grid)  # (B, T, S, 25, 2)
    return _whole(mapped.diff(dim=2).norm(dim=-1)).mean(dim=-1)


@dataclass(frozen=True)
class OrientationLog:
    """Recorded orientation of a hand-held camera.

    Attributes:
        seconds: (n,) increasing, float64.
        rotations: device to world, (n, 3, 3), float64.
    """

    seconds: Tensor
    rotations: Tensor

    @property
    def duration(self) -> float:
        """Seconds from the first to the last sample."""
        return float(self.seconds[-1] - self.seconds[0])

    def rotations_at(self, seconds: Tensor) -> Tensor:
        """Orientation at any moments (...,), interpolated linearly between samples. At 200 Hz
        samples differ by less than a degree, where linear interpolation and slerp agree to 1e-5.
        """
        after = torch.searchsorted(self.seconds, seconds.contiguous()).clamp(
            1, len(self.seconds) - 1
        )
        start, end = self.seconds[after - 1], self.seconds[after]
        share = ((seconds - start) / (end - start)).clamp(0, 1)[..., None, None]
        return (1 - share) * self.rotations[after - 1] + share * self.rotations[after]


_LOG_LINE = re.compile(r"^\s*\d+\s*,\s*(\d+)\s*,\s*\[([^\]]+)\]\s*$")


def read_orientation_log(path: Path) -> OrientationLog:
    """Read a phone's log: lines `system ms, sensor ns, [9 numbers of a rotation matrix]`.

    Other lines (start time, focal length, damaged ones) are ignored. So is all but the longest
    stretch without a pause: a recording that was interrupted, or began with an old time stamp,
    would be at rest for most of its duration.

    Raises:
        InputError: the file cannot be read, or has such lines of fewer than two moments.
    """
    nanoseconds, matrices = [], []
    with reading(path):
        text = path.read_text(errors="replace")
    for line in text.splitlines():
        match = _LOG_LINE.match(line)
        if match and len(values := _finite_numbers(match[2])) == 9:
            nanoseconds.append(int(match[1]))
            matrices.append(values)
    seconds, first = np.unique(np.asarray(nanoseconds, dtype=np.float64) / 1e9, return_index=True)
    if len(seconds) < 2:
        raise InputError(
            f"'{path}' is not an orientation log: expected lines "
            "'milliseconds, nanoseconds, [r11, ..., r33]' of two moments or more, found "
            f"{len(seconds)}; check the file, or leave it out"
        )
    steps = np.diff(seconds)
    longest = max(_PAUSE_INTERVALS * np.median(steps), _PAUSE_SECONDS)
    pauses = np.flatnonzero(steps > longest) + 1
    stretch = max(np.split(np.arange(len(seconds)), pauses), key=len)
    rotations = np.asarray(matrices, dtype=np.float64)[first[stretch]].reshape(-1, 3, 3)
    return OrientationLog(
        torch.from_numpy(seconds[stretch] - seconds[stretch[0]]), torch.from_numpy(rotations)
    )


def _finite_numbers(text: str) -> list[float]:
    """Numbers separated by commas; none if anything else is among them."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        return []
    return values if all(map(math.isfinite, values)) else []


# A phone's y axis points up and its z out of the screen; an image's y points down, z forward.
_PICTURE_AXES = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))


def recorded_rotations(
    log: OrientationLog, times: Tensor, start: float, frame_interval: float
) -> Tensor:
    """Rotations of a recorded camera, relative to time 0.

    Args:
        log: the recording.
        times: (...,) in frame intervals.
        start: seconds into the log that correspond to time 0.
        frame_interval: in seconds.

    Returns:
        (..., 3, 3), float32.
    """
    here = log.rotations_at(start + times.double() * frame_interval)
    origin = log.rotations_at(torch.tensor([start], dtype=torch.float64))[0]
    relative = origin.T @ here  # direction in the camera of that moment -> in that of time 0
    return (_PICTURE_AXES @ relative @ _PICTURE_AXES).float()
