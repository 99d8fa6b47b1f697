"""scripts/failures.py: the worst place of each case, for any model."""

from __future__ import annotations

import sys

import pytest
import torch

from tests.conftest import load_script


@pytest.fixture(scope="module")
def failures():
    return load_script("scripts/failures.py")


def test_the_place_with_the_largest_error_is_found(failures):
    sharp = torch.zeros(3, 200, 320)
    restored = sharp.clone()
    restored[:, 150:180, 200:240] = 1
    top, left = failures.worst_place(restored, sharp)
    assert top <= 150 < 180 <= top + failures.PATCH[0]
    assert left <= 200 < 240 <= left + failures.PATCH[1]


def test_a_picture_of_three_rows_and_columns_is_written(failures, monkeypatch, tmp_path):
    clip = torch.rand(5, 3, 136, 216, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(failures, "cases", lambda: {"one": (clip, clip), "two": (clip, clip)})
    monkeypatch.setattr(sys, "argv", ["failures.py", "lite", "--out", str(tmp_path / "f.png")])
    failures.main()
    picture = failures.draw("lite")
    assert picture.shape == (3, 2 * 2 * failures.PATCH[0], 3 * 2 * failures.PATCH[1])
    assert (tmp_path / "f.png").stat().st_size > 1000


def test_lights_smear_with_the_wall_or_on_their_own(failures):
    plane = failures.grid_of_lights(160, 160)[0].expand(3, -1, -1)
    black = torch.zeros(2, 3, 64, 96)
    cases = [
        failures.shaky_clip(2, 64, 96, blur=10.0, canvas=plane),
        failures.with_moving_lights(black, black),
    ]
    for blurry, sharp in cases:
        assert blurry.shape == sharp.shape == black.shape
        assert sharp.max() == pytest.approx(1)  # more than a display can show is cut off
        lit = [(clip[0, 0] > 0.9).sum() for clip in (blurry, sharp)]
        assert lit[0] > 2 * lit[1] > 0
