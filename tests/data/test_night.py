"""Lamps are discs of their light with a glow; without any, nothing changes."""

from __future__ import annotations

import pytest
import torch

from unsmear.data.generators import Generators
from unsmear.data.night import Lamps, add_lamps, draw_dimming, draw_lamps

CPU = torch.device("cpu")


def one_lamp(x, y, radius=3.0, glow=0.0):
    light = torch.tensor([[2.0, 4.0, 8.0]])
    return Lamps(torch.tensor([[x, y]]), torch.tensor([radius]), light, torch.tensor([glow]))


def test_a_lamp_is_a_disc_of_its_light_where_it_stands():
    lit = add_lamps(torch.full((3, 40, 50), 0.1), one_lamp(20.3, 11.6)) - 0.1
    assert lit.amin(dim=(1, 2)).abs().max() < 1e-6  # without a glow, nothing changes elsewhere
    torch.testing.assert_close(lit.amax(dim=(1, 2)), torch.tensor([2.0, 4.0, 8.0]))
    area = lit.sum(dim=(1, 2)) / torch.tensor([2.0, 4.0, 8.0])
    torch.testing.assert_close(area, torch.full((3,), torch.pi * 9.0), rtol=0.03, atol=0)
    share = lit[0] / lit[0].sum()
    assert float((share.sum(dim=0) * torch.arange(50)).sum()) == pytest.approx(20.3, abs=0.1)
    assert float((share.sum(dim=1) * torch.arange(40)).sum()) == pytest.approx(11.6, abs=0.1)


def test_glow_falls_off_and_lamps_add_up():
    dark = torch.zeros(3, 60, 60)
    glowing = add_lamps(dark, one_lamp(30.0, 30.0, glow=0.1))[2, 30, 30:50]
    assert (glowing.diff() <= 0).all()
    assert 0.05 < glowing[10] < 0.1 * 8  # far beyond the disc
    both = Lamps(*map(torch.cat, zip(one_lamp(30.0, 30.0), one_lamp(33.0, 30.0), strict=True)))
    apart = add_lamps(dark, one_lamp(30.0, 30.0)) + add_lamps(dark, one_lamp(33.0, 30.0))
    torch.testing.assert_close(add_lamps(dark, both), apart)


@pytest.mark.parametrize("place", [(0.0, 0.0), (39.0, 1.0), (18.0, 29.0)])
def test_lamps_at_the_edge_do_not_come_out_at_the_other(place):
    lit = add_lamps(torch.zeros(3, 30, 40), one_lamp(*place, glow=0.04))[0]
    y, x = torch.meshgrid(torch.arange(30), torch.arange(40), indexing="ij")
    away = torch.hypot(x - place[0], y - place[1])
    assert lit[away > 24.5 * 2**0.5].abs().max() == 0
    assert lit[away < 2].min() == 2


def test_no_lamps_leave_a_canvas_as_it_is():
    none = Lamps(torch.zeros(0, 2), torch.zeros(0), torch.zeros(0, 3), torch.zeros(0))
    canvas = torch.rand(3, 8, 8)
    torch.testing.assert_close(add_lamps(canvas, none), canvas, rtol=0, atol=0)


def test_what_is_drawn_keeps_within_its_limits():
    random = Generators.seeded(0, CPU)
    dimming = draw_dimming(4000, 0.25, random)
    night = dimming[dimming < 1]
    assert 0.22 < len(night) / 4000 < 0.28
    assert 0.03 <= night.min() < 0.032
    assert 0.38 < night.max() <= 0.4
    counts, lights = [], []
    for _ in range(200):
        lamps = draw_lamps(352, random)
        counts.append(len(lamps.radii))
        assert ((lamps.places >= 0) & (lamps.places <= 351)).all()
        assert ((lamps.radii >= 0.8) & (lamps.radii <= 5)).all()
        lights.append(lamps.light)
    assert 0 < max(counts) <= 32  # eight for each crop of 176
    assert min(counts) == 0
    red, green, blue = torch.cat(lights).unbind(dim=-1)
    assert 1 <= green.min() < 1.1
    assert 36 < green.max() <= 40
    assert 0.6 < (red > blue).float().mean() < 0.68  # more of them orange than blue
    assert 3 < (red / blue).max() < 3.6
