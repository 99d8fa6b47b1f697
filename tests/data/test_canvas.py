"""Crops of images and of their flow, mirrored beyond the edges."""

from __future__ import annotations

import torch

from unsmear.data.canvas import cut_canvas, cut_flow


def test_canvas_of_a_small_picture_is_mirrored():
    small = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 4).expand(3, 3, 4)
    canvas = cut_canvas(small, 9, (0.5, 0.5), half=False) * 255
    assert canvas.shape == (3, 9, 9)
    assert set(canvas.round().int().flatten().tolist()) == set(range(12))
    torch.testing.assert_close(canvas[0, 3:6, 2:6], small[0].float())
    torch.testing.assert_close(canvas[0, 3:6, 1], small[0, :, 1].float())


def test_flow_leads_to_the_next_picture_in_the_mirror_too():
    """A pan on a canvas larger than the image: every pixel is found where its flow points."""
    wide = torch.randint(0, 256, (3, 20, 40), dtype=torch.uint8)
    frames = torch.stack((wide[:, 4:16, 10:26], wide[:, 3:15, 12:28]))  # content moves by (-2, +1)
    flow = torch.tensor([-2.0, 1.0])[None, :, None, None].expand(1, 2, 12, 16).half()
    first, second = cut_canvas(frames, 24, (0.5, 0.5), half=False)
    x, y = cut_flow(flow, 24, (0.5, 0.5))[0].int()
    assert set(x.flatten().tolist()) == {-2, 2}
    assert set(y.flatten().tolist()) == {-1, 1}
    found = 0
    for row in range(24):
        for column in range(24):
            to_row, to_column = row + int(y[row, column]), column + int(x[row, column])
            # What leaves the image, and thus its mirror image, cannot be found.
            own_row, own_column = (row - 6) % 22, (column - 4) % 30
            own_row, own_column = min(own_row, 22 - own_row), min(own_column, 30 - own_column)
            if own_row + 1 < 12 and own_column >= 2 and 0 <= to_row < 24 and 0 <= to_column < 24:
                assert torch.equal(first[:, row, column], second[:, to_row, to_column])
                found += 1
    assert found > 300


def test_flow_is_cut_from_the_same_place_as_the_picture():
    """From (y, x) of the room that is left, which is not square."""
    place = torch.stack((torch.arange(60).expand(40, 60), torch.arange(40)[:, None].expand(40, 60)))
    picture = torch.cat((place, place[:1])).to(torch.uint8)
    for centre, (top, left) in (((0.25, 1.0), (6, 44)), ((1.0, 0.5), (24, 22))):
        wanted = place[:, top : top + 16, left : left + 16].float()
        seen = cut_canvas(picture, 16, centre, half=False)[:2] * 255
        torch.testing.assert_close(seen, wanted)
        assert torch.equal(cut_flow(place[None].half(), 16, centre)[0], wanted)


def test_half_canvas_averages():
    image = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)
    canvas = cut_canvas(image, 32, (0.0, 0.0), half=True)
    expected = image[:, :2, :2].float().mean(dim=(1, 2)) / 255
    torch.testing.assert_close(canvas[:, 0, 0], expected)
