"""Reports of results: Markdown, Table 1, JSON and plots."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from itertools import chain
from statistics import fmean

import pytest

from tests.conftest import one_scene
from tests.evaluate.conftest import save
from unsmear.cli import main
from unsmear.data.pairs import find_pairs
from unsmear.evaluate import report
from unsmear.evaluate.benchmark import Benchmark
from unsmear.evaluate.frames import find_comparisons
from unsmear.evaluate.protocol import find_protocol
from unsmear.evaluate.report import TABLE_1, as_json, as_markdown, remarks, table_1_lines
from unsmear.evaluate.scores import (
    BenchmarkResult,
    FrameScore,
    MeasuredModel,
    SequenceResult,
    mean_of,
)

BASE = find_protocol("basicsr2d")


def test_equal_frames_are_infinite_and_json_says_so(gopro):
    sharp = gopro / "GOPR0384" / "sharp"
    (results,) = Benchmark(BASE).compare(find_comparisons(sharp, sharp))
    result = BenchmarkResult("itself", BASE, tuple(results))
    assert mean_of(result.frames, "psnr") == math.inf
    assert json.loads(as_json(result))["all"]["psnr"] == "inf"
    assert json.loads(as_json(result))["all"]["psnr_before"] is None
    assert json.loads(as_json(result))["model"] is None


def test_table_1_is_the_papers_and_ours_says_what_it_counts(gopro):
    assert len(TABLE_1) == 8
    assert TABLE_1[-1] == ("the paper", 31.61, 0.91)
    results = tuple(Benchmark(BASE).run(find_pairs(gopro), iter)[0])
    lines = table_1_lines(BenchmarkResult("lite on test", BASE, results))
    assert len(lines) == 2 + 8 + 1
    assert "arXiv 2201.00169" in lines[2]
    assert "8 frames, not GOPRO's 1111" in lines[-1]
    alone = MeasuredModel(
        name="lite", digest="", window=5, engine="torch", device="cpu",
        ensemble=1, refine=0, burst=0,
    )  # fmt: skip
    for change, remark in (
        ({}, None),
        ({"burst": 1}, "(burst 1)"),
        ({"burst": 1, "polish": "a digest"}, "(burst 1, polished)"),
        ({"burst": 1, "reblur": True}, "(burst 1, reblurred)"),
        ({"ensemble": 2}, "(ensemble of 2, burst 0)"),
        ({"refine": 1}, "(refined 1x, burst 0)"),
    ):
        measured = BenchmarkResult("x", BASE, results, replace(alone, **change))
        rest = table_1_lines(measured)[11:]
        assert rest == [] if remark is None else remark in rest[-1]


def test_a_missing_extra_names_its_command(gopro, tmp_path, monkeypatch):
    import builtins

    original = builtins.__import__

    def without(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *rest)

    results = tuple(Benchmark(BASE).run(find_pairs(gopro), iter)[0])
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"unsmear\[eval\]"):
        report.write_plot(tmp_path / "x.png", BenchmarkResult("x", BASE, results))


def test_markdown_leaves_out_what_was_not_measured(gopro):
    sharp = gopro / "GOPR0384"
    (results,) = Benchmark(BASE).compare(find_comparisons(sharp / "blur", sharp / "sharp"))
    text = as_markdown(BenchmarkResult("x", BASE, tuple(results)))
    assert "blurry" not in text
    assert "| sharp | 5 |" in text


def test_reports_hold_names_that_are_no_valid_text_nor_mathtext(tmp_path):
    for side in ("made", "truth"):
        save(tmp_path / side / os.fsdecode(b"caf\xe9"), one_scene(2, 16, 16))
        save(tmp_path / side / "clip_$1_$2", one_scene(2, 16, 16))
    reports = [tmp_path / name for name in ("r.md", "r.json", "r.png")]
    base = ["eval", "--restored", str(tmp_path / "made"), "--sharp", str(tmp_path / "truth")]
    options = zip(("--markdown", "--json", "--plot"), map(str, reports), strict=True)
    main([*base, *chain.from_iterable(options)])
    assert r"| caf\udce9 | 2 |" in reports[0].read_text(encoding="utf-8")
    assert [row["name"] for row in json.loads(reports[1].read_text())["sequences"]] == [
        "caf\udce9",
        "clip_$1_$2",
    ]
    assert reports[2].stat().st_size > 0


def test_json_has_means_over_all_frames_and_over_sequences(gopro):
    (results,) = Benchmark(BASE).run(find_pairs(gopro), iter)
    record = json.loads(as_json(BenchmarkResult("t", BASE, tuple(results))))
    each = [[frame["psnr"] for frame in one["scores"]] for one in record["sequences"]]
    assert [len(values) for values in each] == [5, 3]
    assert (record["all"]["frames"], record["mean_of_sequences"]["sequences"]) == (8, 2)
    assert record["all"]["psnr"] == pytest.approx(sum(map(sum, each)) / 8)
    assert record["mean_of_sequences"]["psnr"] == pytest.approx(sum(map(fmean, each)) / 2)


def test_numbers_that_are_none_can_be_written(gopro):
    ((result, *_),) = Benchmark(BASE).run(
        find_pairs(gopro), lambda frames: (f * math.nan for f in frames)
    )
    text = as_json(BenchmarkResult("t", BASE, (result,)))
    assert json.loads(text)["sequences"][0]["scores"][0]["psnr"] == "nan"


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, None), (1, "x: 1 restored frame equals the"), (2, "x: 2 restored frames equal the")],
)
def test_frames_that_are_the_ground_truth_are_told(count, told):
    frames = [FrameScore(index=at, psnr=math.inf) for at in range(count)]
    sequence = SequenceResult("a", (*frames, FrameScore(index=count, psnr=30.0)))
    found = remarks(BenchmarkResult("x", BASE, (sequence,)))
    assert [line.startswith(told) for line in found] == [True] * (count > 0)
