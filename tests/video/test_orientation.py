"""Display matrices as EXIF orientations, images turned by them, and what the user is told of it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from tests.conftest import write_video
from unsmear.clip import ClipInfo
from unsmear.video.orientation import left_as_shown, orientation_of, upright
from unsmear.video.reader import VideoReader
from unsmear.video.stills import geometry_notes


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_a_display_matrix_is_an_orientation(tmp_path, rotation):
    source = write_video(tmp_path / "in.mp4", rotation=rotation, frames=1)
    with VideoReader(source) as reader:
        orientation = orientation_of(reader.info.display_matrix)
        notes = geometry_notes(reader.info)
        image = next(iter(reader)).rgb
    assert orientation == {0: 1, 90: 8, 180: 3, -90: 6}[rotation]
    turned = np.rot90(image.permute(1, 2, 0).numpy(), rotation // 90)
    assert (upright(image, orientation).permute(1, 2, 0).numpy() == turned).all()
    words = {90: "90 degrees anticlockwise", 180: "180 degrees", -90: "90 degrees clockwise"}
    turns = [words[rotation]] if rotation else []
    assert notes == [f"images are rotated by {one}, as players display the video" for one in turns]


def test_other_matrices_turn_nothing(tmp_path):
    source = write_video(tmp_path / "in.mp4", rotation=30, frames=1)
    with VideoReader(source) as reader:
        assert orientation_of(reader.info.display_matrix) is None
        assert "not rotated" in geometry_notes(reader.info)[0]
    wide = ClipInfo(width=8, height=8, frames=1, pixel_aspect=Fraction(4, 3))
    assert geometry_notes(wide) == ["the pixel aspect ratio, 4/3, is not kept in images"]
    image = torch.rand(3, 4, 6)
    assert upright(image, None) is image
    assert orientation_of(None) == 1
    assert orientation_of((255, -65_536, 0, 65_536, -255, 0, 0, 0, 1 << 30)) == 8  # rounded
    assert orientation_of((256, -65_536, 0, 65_536, -256, 0, 0, 0, 1 << 30)) is None
    mirrored = (-65_536, 0, 0, 0, 65_536, 0, 0, 0, 1 << 30)
    assert torch.equal(upright(image, orientation_of(mirrored)), image.flip(-1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_left_is_where_it_is_shown(orientation):
    marks = torch.arange(4).reshape(2, 2)
    sides = {"left": marks[:, 0], "right": marks[:, 1], "top": marks[0], "bottom": marks[1]}
    shown = {*upright(marks, orientation)[:, 0].tolist()}
    assert shown == {*sides[left_as_shown(orientation)].tolist()}
    assert left_as_shown(None) == "left"
