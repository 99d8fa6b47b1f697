"""Drawing tools: maps lie where they belong, and a missing matplotlib is told."""

from __future__ import annotations

import sys

import numpy as np

from unsmear.explain.drawing import over, part_around


def test_a_map_is_laid_where_it_belongs():
    red, clear = (1.0, 0.0, 0.0, 0.5), (0.0, 1.0, 0.0, 0.0)
    colors = np.array([[clear, red, red], [clear, clear, red]])  # stride 8: 24x16, frame 20x12
    laid = over(np.full((12, 20), 0.6), colors, stride=8, frame_width=20)
    assert laid.shape == (12, 20, 3)
    assert np.allclose(laid[:8, 8:], (0.8, 0.3, 0.3))
    assert np.allclose(laid[8:, 16:], (0.8, 0.3, 0.3))
    assert np.allclose(laid[:, :8], 0.6)
    assert np.allclose(laid[8:, :16], 0.6)
    half = over(np.full((6, 10), 0.6), colors, stride=8, frame_width=20)
    assert np.allclose(half, laid[::2, ::2])


def test_the_part_around_a_pixel_stays_in_the_frame():
    assert part_around(50, 40, 10, 100, 100) == (40, 30, 61, 51)
    assert part_around(2, 99, 10, 100, 100) == (0, 79, 21, 100)
    assert part_around(5, 5, 10, 8, 100) == (0, 0, 21, 8)


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch, refused):
    for name in ("drawing", "charts", "run"):
        monkeypatch.delitem(sys.modules, f"unsmear.explain.{name}", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    shown = refused("explain", "clip.mp4", "--frame", "0", "-o", tmp_path / "out")
    assert 'pip install "unsmear[explain]"' in shown
