"""The savings by factorisation: a record, its table, and its place on the page of results."""

from __future__ import annotations

import sys

import pytest

from tests.conftest import load_script
from unsmear.evaluate.dense import Cost, DenseRecord, dense_lines, slope
from unsmear.evaluate.records import record_from_json


def test_a_run_tells_growth_and_its_record_makes_the_page(tmp_path, monkeypatch, capsys):
    """With theoretical costs: quadratic in the pixels for dense attention, linear for ours."""
    bench = load_script("benchmarks/attention.py")

    def measure_apart(kind, size, channels):
        frames, height, width = size
        pixels = height * width
        if kind == "factorised":
            return Cost(1e-7 * frames * pixels, 1000 * frames * pixels)
        return None if pixels > 8000 else Cost(1e-8 * frames * pixels**2, 4 * frames * pixels**2)

    monkeypatch.setattr(bench, "measure_apart", measure_apart)
    path = tmp_path / "dense-96.json"
    monkeypatch.setattr(sys, "argv", ["attention.py", "--json", str(path)])
    bench.main()
    shown = capsys.readouterr().out
    assert "| 5 | 64 x 64 | 838.86 | 2.05 | 410 | 320.0 | 19.5 | 16 |" in shown
    assert "| 5 | 90 x 90 | out of memory | 4.05 | - | - | 38.6 | - |" in shown
    assert "- dense: with pixels time ~ x^2.00, memory ~ x^2.00; with frames time ~ x^1.00" in shown
    assert "- factorised: with pixels time ~ x^1.00, memory ~ x^1.00; with" in shown
    assert "dense needs 61.8 GiB for its weights alone and, by extrapolation, 166 s" in shown
    record = record_from_json(DenseRecord, path.read_text())
    assert record.channels == 96
    assert "\n".join(dense_lines(record)) in shown
    page = load_script("scripts/results.py").page(tmp_path)
    assert "\n".join(dense_lines(record)) in page[page.index("## Speed and memory") :]
    monkeypatch.setattr(
        bench, "measure_apart", lambda kind, *_: Cost(1, 1) if kind[0] == "f" else None
    )
    with pytest.raises(bench.UnsmearError, match="no memory for the dense block at any size"):
        bench.main()


def test_slopes_are_exponents():
    assert slope([1.0, 2.0, 4.0], [3.0, 12.0, 48.0]) == pytest.approx(2)
