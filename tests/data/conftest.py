"""Folders of training images."""

from __future__ import annotations

import torch

from tests.conftest import picture
from unsmear.video.images import write_image


def save(path, height=24, width=32, seed=0):
    """Write `picture` to a file, whose folder is made too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, torch.from_numpy(picture(height, width, seed).transpose(2, 0, 1).copy()))


def pair_folder(root, name, sides=("blur", "sharp"), frames=3):
    """Write a sequence of blurry and sharp frames, as GOPRO has them unless `sides` are others."""
    for side in sides:
        for index in range(frames):
            save(root / name / side / f"{index:06d}.png", seed=index)
