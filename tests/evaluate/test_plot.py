"""Plots: where their panels are."""

from __future__ import annotations

import cv2
import pytest

from unsmear.evaluate import plot


def test_many_panels_are_in_several_columns(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(plot, "_ROWS", 2)
    with plot.plotted_panels(tmp_path / "p.png", 5) as panels:
        assert len(panels) == 5
    assert cv2.imread(str(tmp_path / "p.png")).shape == (500, 2400, 3)
    places = [
        (round(panel.get_position().x0, 1), round(panel.get_position().y0)) for panel in panels
    ]
    assert places == [(0, 1), (0, 0), (0.3, 1), (0.3, 0), (0.7, 1)]
