"""The page says what was measured."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
import torch

from unsmear.explain.gradients import ReceptiveField
from unsmear.explain.maps import FrameMaps, LevelMaps
from unsmear.explain.page import About, field_section, findings, render_page, temporal_section
from unsmear.explain.window import FrameWindow


@pytest.fixture
def maps() -> FrameMaps:
    """Frames 7 to 9 of a clip; of frame 8 a quarter of the values rose by 20 of 255."""
    pictures = torch.full((3, 3, 10, 20), 0.5)
    after = pictures[1].clone()
    after[:, :5, :10] += 20 / 255
    local, attention = torch.zeros(2, 3, 3, 10, 20)
    local[1, :, 4, 6] = 2.0  # of 3 channels: 60 % of all influence
    local[0, 0, 0, 0] = -1.0
    attention[2, 0, 3, :3] = -1.0
    spot, even = torch.zeros(2, 20, 40)
    spot[3, 4] = 1.0
    even[:] = 1 / 800
    spatial = torch.stack((spot, even, even))[None].expand(3, -1, -1, -1)
    temporal = torch.tensor([[0.1, 0.7, 0.2]])
    level = LevelMaps(1, 2, spatial, temporal, torch.full((3, 1, 20, 40), 1 / 3))
    window = FrameWindow(pictures, 7, 1, 3)
    field = ReceptiveField((6, 4), local, attention)
    return FrameMaps(window, (level,), pictures[1], after, field)


def test_the_measurements_are_told_in_numbers(maps):
    change, focus, frames, mixed, pixel = findings(maps)
    assert "by 5.00 of 255 on average, and by at most 20." in change
    assert "Of the 9 spatial maps (3 per frame), 3 focus on spots" in focus
    assert "and 6 on wide areas" in focus
    assert "range from 10.0 to 70.0 %; equal weights would be 33.3 %." in frames
    assert "mixes 3.0 of the 3 elements" in mixed
    assert "pixel 6,4 (x,y; marked in the images) depends 60 % on this frame" in pixel
    told = temporal_section([], maps.levels[0], named=False).what
    assert "of the 3 frames are mixed in 1 ways, T1 to T1;" in told
    assert "down to 1/10,000,000 of it" in field_section(["a.png"], maps, 1e-7).how
    assert "and 40 % on the others; 30 % of all influence comes through the attention" in pixel


def test_a_pixel_that_depends_on_nothing_is_told(maps):
    nothing = torch.zeros(3, 3, 10, 20)
    untrained = dataclasses.replace(maps, field=ReceptiveField((6, 4), nothing, nothing))
    assert findings(untrained)[-1].startswith("The restored pixel 6,4 depends on nothing")


def test_notes_are_those_that_apply(maps):
    about = About("clip.mp4", "lite", "cpu")
    page = render_page(maps, about, [])
    assert "Frame 8, counted from 0, 20x10 pixels." in page
    assert "3 frames requested, 3 available (7 to 9)" in page
    assert 'class="note"' not in page
    window = dataclasses.replace(maps.window, window=5, pts=Fraction(7, 2), rotation=-90.0)
    page = render_page(dataclasses.replace(maps, window=window, levels=()), about, [])
    assert page.count('class="note"') == 3
    assert "Frame 8, counted from 0 (at 3.50 s)" in page
    for words in ("shorter than requested", "has no attention", "rotate this clip by -90 degrees"):
        assert words in page
