"""Small data sets in the published layouts."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import one_scene
from unsmear.video.images import integer_from_unit, write_image


def save(folder, frames):
    """A new folder with the images 000000.png, 000001.png, ... of frames (3, H, W), 0..1."""
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        write_image(folder / f"{index:06d}.png", integer_from_unit(frame))


@pytest.fixture
def gopro(tmp_path):
    root = tmp_path / "GOPRO" / "test"
    for name, count in (("GOPR0384", 5), ("GOPR0385", 3)):
        sharp = one_scene(count, 24, 32)
        for side, noise in (("sharp", 0.0), ("blur", 0.05), ("blur_gamma", 0.2)):
            save(root / name / side, (sharp + noise * torch.randn_like(sharp)).clamp(0, 1))
    return root


@pytest.fixture
def reds(tmp_path):
    """A set whose sequences have nested names."""
    for name in ("000", "001"):
        sharp = one_scene(3, 24, 32)
        for side, noise in (("sharp", 0.0), ("blur", 0.05)):
            folder = tmp_path / "REDS" / f"val_{side}" / name
            folder.mkdir(parents=True)
            for index, frame in enumerate((sharp + noise * torch.rand_like(sharp)).clamp(0, 1)):
                write_image(folder / f"{index:08d}.png", integer_from_unit(frame))
    return tmp_path / "REDS"
