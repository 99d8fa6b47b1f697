"""An interrupted evaluation goes on after the last finished sequence."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from pathlib import Path

import cv2
import pytest
import torch

from tests.conftest import one_scene
from tests.evaluate.conftest import save
from unsmear import __version__
from unsmear.cli import main
from unsmear.data.pairs import find_pairs
from unsmear.evaluate import benchmark as benchmark_module
from unsmear.evaluate.benchmark import Benchmark
from unsmear.evaluate.finished import FinishedSequences, finished_path
from unsmear.evaluate.protocol import find_protocol
from unsmear.evaluate.run import find_work
from unsmear.evaluate.scores import FrameScore, SequenceResult


@pytest.fixture
def evaluate(gopro, tmp_path, weights_file, monkeypatch, capsys):
    """Runs `unsmear eval` with a record, interrupted before the sequence of the given index if any.
    Returns the names of the sequences that were measured, what was shown, and the record.
    """

    def evaluate(*options, stop=None, data=("--data", gopro, "-m", weights_file)):
        measured = []
        whole = Benchmark._measure

        def measure(self, name, *arguments):
            if stop == len(measured):
                raise KeyboardInterrupt
            measured.append(name)
            return whole(self, name, *arguments)

        monkeypatch.setattr(Benchmark, "_measure", measure)
        report = tmp_path / "scores.json"
        with nullcontext() if stop is None else pytest.raises(SystemExit, match="130"):
            main(["eval", *map(str, data), "--json", str(report), *options])
        monkeypatch.setattr(Benchmark, "_measure", whole)
        record = json.loads(report.read_text()) if report.exists() else None
        return measured, capsys.readouterr().out, record

    return evaluate


def test_the_same_command_goes_on_after_the_last_finished_sequence(evaluate, tmp_path):
    _, _, direct = evaluate()
    (tmp_path / "scores.json").unlink()
    measured, shown, record = evaluate(stop=1)
    assert measured == ["GOPR0384"]
    assert "measured: 1 sequence; the same command goes on" in shown
    assert record is None
    measured, shown, record = evaluate()
    assert measured == ["GOPR0385"]
    assert "measured before the interruption: 1 sequence\n" in shown
    assert record == direct
    assert not finished_path(tmp_path / "scores.json").exists()
    measured, shown, _ = evaluate()  # a finished evaluation starts anew
    assert measured == ["GOPR0384", "GOPR0385"]
    assert "interruption" not in shown


@pytest.mark.parametrize(
    "options", [("--burst", "0"), ("--window", "1"), ("--protocol", "matlab3d"), ("--niqe",)]
)
def test_other_settings_measure_anew(evaluate, options, gopro, monkeypatch):
    monkeypatch.setattr(benchmark_module, "check_size", lambda *_: None)  # too small for NIQE
    monkeypatch.setattr("unsmear.evaluate.sequence.niqe", lambda *_: 1.0)
    evaluate(stop=1)
    assert evaluate(*options)[0] == ["GOPR0384", "GOPR0385"]


@pytest.mark.parametrize("side", ["blur", "sharp"])
def test_a_frame_that_was_written_again_is_measured_anew(evaluate, gopro, side):
    evaluate(stop=1)
    os.utime(gopro / "GOPR0384" / side / "000003.png", ns=(1, 1))
    assert evaluate()[0] == ["GOPR0384", "GOPR0385"]


def test_other_weights_measure_anew(evaluate, weights_file, aligned_file, tmp_path):
    evaluate(stop=1)
    weights_file.write_bytes(aligned_file.read_bytes())
    assert evaluate()[0] == ["GOPR0384", "GOPR0385"]


def test_versions_engine_and_vmaf_count_too(gopro, weights_file):
    jobs = []

    class Kept(FinishedSequences):
        def find(self, job):
            jobs.append(job)
            return (SequenceResult(job["name"], ()),)

    (work,) = find_work(gopro, None, None, None, [str(weights_file)], None, "cpu")
    for ffmpeg in (None, "ffmpeg"):
        work.run(Benchmark(find_protocol("basicsr2d"), ffmpeg=ffmpeg, finished=Kept(None)))
    assert [job["vmaf"] for job in jobs] == [False, False, True, True]
    job, engine = jobs[0], work.model.engine
    assert job["versions"] == [__version__, torch.__version__, cv2.__version__]
    assert (job["restorer"]["engine"], job["restorer"]["threads"]) == (
        engine.identity, engine.threads,
    )  # fmt: skip


def test_when_frames_are_saved_all_are_restored(evaluate, tmp_path):
    evaluate(stop=1)
    saved = tmp_path / "saved"
    assert evaluate("--save", str(saved))[0] == ["GOPR0384", "GOPR0385"]
    assert len(list(saved.glob("*/*.png"))) == 8


def test_existing_frames_too(evaluate, tmp_path):
    for side in ("restored", "sharp"):
        for name in ("a", "b"):
            save(tmp_path / side / name, one_scene(2, 24, 32))
    given = ("--restored", tmp_path / "restored", "--sharp", tmp_path / "sharp")
    assert evaluate(stop=1, data=given)[0] == ["a"]
    assert evaluate(data=given)[0] == ["b"]


def test_the_progress_counts_reused_frames(gopro, tmp_path):
    report, names = tmp_path / "scores.json", []
    rules = find_protocol("basicsr2d"), find_protocol("matlab3d")
    for _ in range(2):
        names.clear()
        measuring = Benchmark(*rules, on_frame=names.append, finished=FinishedSequences(report))
        measuring.run(find_pairs(gopro), iter, restorer={})
        assert len(names) == 16


def test_results_come_back_exactly_and_damaged_files_are_ignored(tmp_path):
    report = tmp_path / "scores.json"
    frames = FrameScore(0, psnr=float("inf"), ssim=0.1 + 0.2), FrameScore(1, psnr=1 / 3)
    results = (SequenceResult("a", frames, "gopro"), SequenceResult("a", frames[:1]))
    FinishedSequences(report).add({"name": "a\udcff"}, results)
    kept = FinishedSequences(report)
    assert kept.find({"name": "a\udcff"}) == results
    assert kept.find({"name": "b"}) is None
    finished_path(report).write_text(finished_path(report).read_text()[:-20])
    assert FinishedSequences(report).find({"name": "a\udcff"}) is None


def test_nothing_is_kept_beside_devices():
    for report in (None, Path(os.devnull)):
        finished = FinishedSequences(report)
        finished.add({}, ())
        assert finished.find({}) is None
        finished.forget()
