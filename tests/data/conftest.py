"""Sources of the synthesis, with known motion, and folders of training images."""

from __future__ import annotations

import numpy as np
import torch

from tests.conftest import picture
from unsmear.data.generators import Generators
from unsmear.data.motion import draw_motion
from unsmear.data.shake import OrientationLog, rotation_matrices, shutter_times
from unsmear.data.sources import Shot
from unsmear.data.synthesis import SynthesisConfig
from unsmear.video.images import write_image

CPU = torch.device("cpu")
PLAIN = SynthesisConfig(
    sharp_share=0, object_share=0, video_share=0, compressed_share=0, noise_most=0
)


def photographs(count=3):
    """Different images, (3, 200, 260) uint8 each."""
    return [
        torch.from_numpy(picture(200, 260, seed).transpose(2, 0, 1).copy()) for seed in range(count)
    ]


def shot(frames=9, pan=3):
    """A camera that pans by so many pixels a frame, with its true flow."""
    wide = picture(96, 200, seed=4)
    views = [wide[:, pan * i : pan * i + 144] for i in range(frames)]
    stack = torch.from_numpy(np.ascontiguousarray(np.stack(views).transpose(0, 3, 1, 2)))
    forward = torch.zeros(frames - 1, 2, 96, 144, dtype=torch.float16)
    forward[:, 0] = -pan
    return Shot(stack, forward, -forward)


def hand(samples=400):
    """A log of random orientations, 200 a second."""
    generator = torch.Generator().manual_seed(3)
    angles = torch.randn(samples, 3, generator=generator).cumsum(0) * 0.002
    return OrientationLog(
        torch.arange(samples, dtype=torch.float64) / 200, rotation_matrices(angles).double()
    )


def sliding(vx, vy, frames=2, samples=7):
    """Homographies of a camera that moves by (vx, vy) during each exposure."""
    times = shutter_times(samples)
    found = torch.eye(3).repeat(1, frames, samples, 1, 1)
    found[..., 0, 2], found[..., 1, 2] = vx * times + 5, vy * times - 3
    return found


def shaking(frames=3, size=48):
    """Homographies of two shaken clips, one blurred by 2 pixels and one by 20."""
    lengths = torch.tensor([2.0, 20.0])
    return draw_motion(lengths, frames, size, [], 0.0, Generators.seeded(3, CPU)).homographies


def psnr(one, two):
    """Mean over frames (T, 3, H, W), in dB."""
    return float(-10 * (one - two).square().flatten(1).mean(dim=1).log10().mean())


def save(path, height=24, width=32, seed=0):
    """Write `picture` to a file, whose folder is made too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, torch.from_numpy(picture(height, width, seed).transpose(2, 0, 1).copy()))


def pair_folder(root, name, sides=("blur", "sharp"), frames=3):
    """Write a sequence of blurry and sharp frames, as GOPRO has them unless `sides` are others."""
    for side in sides:
        for index in range(frames):
            save(root / name / side / f"{index:06d}.png", seed=index)
