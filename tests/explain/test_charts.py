"""Charts are drawn for windows and frames of any shape, and show what the maps hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.conftest import SMALL, awake, one_scene
from tests.explain.test_maps import window_of
from unsmear.explain import charts, drawing
from unsmear.explain.drawing import percent
from unsmear.explain.maps import FrameMaps, explain_frame
from unsmear.video.images import read_image

COARSE = 40  # pixels per inch


def maps_of(frames: int, size: tuple[int, int], window: int) -> FrameMaps:
    network = awake(dataclasses.replace(SMALL, attention_levels=(1,), spatial_maps=2))
    return explain_frame(network, window_of(one_scene(frames, *size), frames // 2, window, 1))


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    monkeypatch.setattr(drawing, "DPI", COARSE)  # quicker


@pytest.fixture(scope="module")
def maps() -> FrameMaps:
    torch.manual_seed(0)
    return maps_of(3, (50, 70), 3)


def test_shares_are_told_with_two_digits_and_long_windows_in_runs():
    assert [percent(x) for x in (0.5, 0.0996, 0.0123, 0.0001, 0)] == [
        "50 %",
        "10 %",
        "1.2 %",
        "< 0.1 %",
        "0 %",
    ]
    assert charts.frame_runs(5) == [range(5)]
    assert charts.frame_runs(9) == [range(4), range(4, 9)]


def test_strongest_elements_are_counted(maps):
    level = maps.levels[0]
    found = charts.strongest_elements(level, 100)
    assert sum(share for _, share in found) == pytest.approx(1)
    assert [share for _, share in found] == sorted((s for _, s in found), reverse=True)
    element, share = found[0]
    picked = level.pixelwise.flatten(0, 1).argmax(dim=0) == element
    assert float(picked.float().mean()) == pytest.approx(share)


def test_the_legend_has_others_only_where_there_are_some(maps, tmp_path, monkeypatch):
    elements = torch.tensor([0] * 7 + [1] * 2 + [2])  # shares that add up to slightly less than 1
    weights = torch.nn.functional.one_hot(elements, 4).T.reshape(2, 2, 1, 10).float()
    labels, patch = [], charts.Patch
    monkeypatch.setattr(charts, "Patch", lambda **k: labels.append(k["label"]) or patch(**k))
    level = dataclasses.replace(maps.levels[0], pixelwise=weights)
    charts.draw_taken(tmp_path / "taken.png", maps, level)
    assert [label.split() for label in labels] == [
        ["S1\N{MIDDLE DOT}T1", "70", "%"],
        ["S1\N{MIDDLE DOT}T2", "20", "%"],
        ["S2\N{MIDDLE DOT}T1", "10", "%"],
    ]


def test_the_scale_of_the_change_follows_the_change(maps):
    ten = dataclasses.replace(
        maps, before=torch.full((3, 50, 70), 0.5), after=torch.full((3, 50, 70), 0.5 + 9.5 / 255)
    )
    assert charts.change_limit(ten) == 10
    assert charts.change_limit(dataclasses.replace(maps, after=maps.before)) == 1
    for channel, limit in enumerate((11, 37, 4)):  # of luma, by ITU-R BT.709
        tinted = ten.before.clone()
        tinted[channel] += 0.2
        assert charts.change_limit(dataclasses.replace(ten, after=tinted)) == limit


@pytest.mark.parametrize(
    ("frames", "size", "window"),
    [(3, (16, 60), 1), (1, (90, 40), 1), (8, (24, 40), 9)],
)
def test_every_picture_is_drawn(tmp_path, frames, size, window):
    maps = maps_of(frames, size, window)
    level = maps.levels[0]
    attended, shown = len(maps.window.attended), len(maps.window.pictures)
    files = {
        "change": lambda path: charts.draw_change(path, maps),
        "temporal": lambda path: charts.draw_temporal(path, maps, level),
        "taken": lambda path: charts.draw_taken(path, maps, level),
    }
    for number, run in enumerate(charts.frame_runs(attended)):
        files[f"spatial{number}"] = lambda path, run=run: charts.draw_spatial(
            path, maps, level, run
        )
    for number, run in enumerate(charts.frame_runs(shown)):
        files[f"field{number}"] = lambda path, run=run: charts.draw_field(path, maps, run)
    for name, draw in files.items():
        draw(tmp_path / name)
        image = read_image(tmp_path / name)
        assert image.shape[-1] <= 12 * COARSE
        assert image.float().std() > 5
        border = torch.cat((image[:, :3].flatten(1), image[:, -3:].flatten(1)), dim=1)
        assert (border == 255).all(), name  # nothing is cut off above or below


@pytest.fixture
def figure(monkeypatch):
    """The figure that is drawn next, instead of its file."""
    drawn = []
    monkeypatch.setattr(drawing.Sheet, "save", lambda sheet, path: drawn.append(sheet._figure))
    return lambda draw, *arguments: draw(Path(), *arguments) or drawn.pop()


def titles_of(figure):
    return [panel.get_title() for panel in figure.axes if panel.get_title()]


def test_frames_are_named_as_in_the_clip(maps, figure):
    """Of frames 4 to 6 only the middle one is in the window of the attention."""
    window = dataclasses.replace(maps.window, first=4, window=1)
    level = dataclasses.replace(maps.levels[0], spatial=maps.levels[0].spatial[1:2])
    later = dataclasses.replace(maps, window=window)
    shown = figure(charts.draw_spatial, later, level, range(1))
    assert titles_of(shown) == ["frame 5 (this one)"]
    shown = figure(charts.draw_field, later, range(3))
    assert titles_of(shown) == ["frame 4", "frame 5 (this one)", "frame 6"]


def test_bars_are_shares_through_convolutions_and_above_them_through_the_attention(maps, figure):
    parts = torch.zeros(2, *maps.window.pictures.shape)
    parts[0, 1, 0, 0, 0], parts[1, 2, 0, 0, 0] = 3.0, 1.0
    field = dataclasses.replace(maps.field, local=parts[0], attention=parts[1])
    *_, bars = figure(charts.draw_field, dataclasses.replace(maps, field=field), range(3)).axes
    held = {group.get_label(): [bar.get_height() for bar in group] for group in bars.containers}
    assert held == {
        "through convolutions": pytest.approx([0, 75, 0]),
        "through the attention": pytest.approx([0, 0, 25]),
    }


def test_what_became_brighter_is_purple(maps, figure):
    grey = torch.full((3, 50, 70), 0.5)
    for step, purple in ((0.1, True), (-0.1, False)):
        changed = dataclasses.replace(maps, before=grey, after=grey + step)
        shown = figure(charts.draw_change, changed)
        (panel,) = [one for one in shown.axes if one.get_title().startswith("change")]
        red, _, blue = panel.images[0].get_array()[0, 0]
        assert (blue > red) == purple


def test_an_overlay_shows_its_map(maps, tmp_path):
    level = maps.levels[0]
    one = torch.zeros_like(level.spatial)
    one[:, :, 0, 0] = 1
    other = torch.zeros_like(level.spatial)
    other[:, :, -2, -2] = 1
    images = []
    for spatial in (one, other):
        file = tmp_path / "map.png"
        charts.draw_spatial(file, maps, dataclasses.replace(level, spatial=spatial), range(3))
        images.append(read_image(file).float())
    changed = (images[0] - images[1]).abs().sum(dim=0) > 30
    assert 0.001 < changed.float().mean() < 0.2
