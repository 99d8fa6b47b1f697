"""Streams that begin in the middle of a clip, runs that are broken off, a clip with moments of
blur, and blur along the path of a camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.conftest import picture
from unsmear.models.network import DeblurNetwork
from unsmear.restoration import files
from unsmear.restoration.exposure import CameraPath
from unsmear.restoration.files import restore_file
from unsmear.restoration.quality import NETWORK_ALONE, QualityOptions
from unsmear.restoration.settings import Settings
from unsmear.restoration.stream import Window, frames_before, restore_stream

ALONE = Settings(quality=QualityOptions(burst=0))
STILL = torch.zeros(1, 2, 2, 2)


def texture(height: int, width: int, seed: int = 0) -> Tensor:
    """Detail at several scales, (1, 1, H, W), 0..1."""
    random = torch.Generator().manual_seed(seed)
    layers = [
        functional.interpolate(
            torch.rand(1, 1, -(-height // size) + 1, -(-width // size) + 1, generator=random),
            scale_factor=size,
            mode="bicubic",
        )[..., :height, :width]
        for size in (2, 4, 8, 16)
    ]
    return torch.stack(layers).mean(0).clamp(0.02, 0.95)


def moving(x: float, y: float) -> Tensor:
    """The same velocity everywhere, (1, 2, 3, 5)."""
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, 3, 5).clone()


def camera_path(velocity: Tensor = STILL, share: float = 0.0, **curve: Any) -> CameraPath:
    """At rest if nothing is given. `curve`: values at the seven points, by name of the freedom."""
    points = torch.zeros(7, 4)
    for name, values in curve.items():
        points[:, ("x", "y", "turn", "zoom").index(name)] = torch.as_tensor(values)
    return CameraPath(velocity, torch.tensor(share), points)


def restored_from(
    first: int,
    network: DeblurNetwork,
    clip: Sequence[Tensor] | Tensor,
    window: Window,
    quality: QualityOptions = NETWORK_ALONE,
    **passes: object,
) -> list[Tensor]:
    """Frames `first` and later of a clip, from a stream that begins with as many frames before
    them as `frames_before` asks for.

    Args:
        passes: scenes and store of a first pass, as `restore_stream` takes them.
    """
    lead = min(first, frames_before(network, window, quality))
    begun = restore_stream(
        network, clip[first - lead :], window,
        quality=quality, first=first - lead, lead=lead, **passes,
    )  # fmt: skip
    found = list(begun)
    assert len(found) == len(clip) - first
    return found


class PowerCut(BaseException):
    """An exception that the code does not know."""


def broken_off(source, target, network, window, settings, after):
    """Restore, and interrupt after a number of frames, counted over all passes."""
    seen = []

    def report(progress):
        seen.append(progress)
        if len(seen) > after:
            raise PowerCut

    with pytest.raises(PowerCut):
        restore_file(source, target, network, window, settings, on_progress=report)
    assert not target.exists()


def contents(path):
    """Bytes of a file, or of each file in a folder."""
    if path.is_dir():
        return {file.name: file.read_bytes() for file in path.iterdir()}
    return path.read_bytes()


@pytest.fixture
def short_parts(monkeypatch):
    """Results grow in parts of four frames."""
    monkeypatch.setattr(files, "_PART_FRAMES", (4, 4))


def textured(height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8 with detail at many scales."""
    scene = np.zeros((height, width, 3))
    for size in (1, 2, 4, 8, 16, 32):
        coarse = picture(-(-height // size), -(-width // size), size).astype(float)
        scene += np.kron(coarse, np.ones((size, size, 1)))[:height, :width] * size**0.5
    return (scene / scene.max() * 255).astype(np.uint8)


def write_moments(path: Path, blurred: list[bool], rate: int = 10) -> Path:
    """A clip of 256x192 in which some frames are blurred by 16 pixels."""
    scene = textured(192, 320)
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "12", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = 256, 192, "yuv420p"
        for index, smear in enumerate(blurred):
            left = index % 16
            shifts = range(16) if smear else [0]
            views = [scene[:, left + s : left + s + 256].astype(float) for s in shifts]
            array = np.mean(views, axis=0).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode(None))
    return path
