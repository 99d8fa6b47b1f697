"""Benchmarks: the figures are consistent, and engines that cannot run say why."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from unsmear.cli import main
from unsmear.deploy import bench
from unsmear.deploy.bench import convolution_peak, time_end_to_end, time_engines
from unsmear.deploy.records import BenchRecord, EndToEnd, bench_lines
from unsmear.engines.base import TorchEngine, as_engine
from unsmear.errors import ConfigError
from unsmear.evaluate.origin import origin_of
from unsmear.evaluate.records import record_as_json, record_from_json
from unsmear.models.count import count_macs
from unsmear.models.zoo import random_model
from unsmear.restoration.files import restore_file
from unsmear.restoration.quality import QualityOptions


def test_engines_are_timed_and_missing_ones_say_why(loaded):
    rows, opened = time_engines(
        loaded, ["torch", "openvino-int8", "openvino"], 49, 40, rounds=2, peak=10.0
    )
    torch_row, missing, openvino_row = rows
    assert set(opened) == {"torch", "openvino"}
    assert "quantize" in missing.why_not
    assert missing.seconds is None
    macs = count_macs(loaded.network.config, 40, 50)
    for row in (torch_row, openvino_row):
        assert row.seconds is not None
        assert row.gmac_per_second == pytest.approx(macs / row.seconds / 1e9)
        assert row.share_of_peak == pytest.approx(row.gmac_per_second / 10)


class Failing(TorchEngine):
    """Opens but cannot run, like torch-compile without a compiler."""

    def encode_level(self, *_):
        raise ConfigError("no compiler")


def test_an_engine_that_fails_when_it_runs_is_a_row_that_says_why(loaded, monkeypatch, refused):
    def opened(model, name, **_):
        return (Failing if name == "torch-compile" else TorchEngine)(model.network)

    monkeypatch.setattr(bench, "open_engine", opened)
    names = ["torch-compile", "torch"]
    (failed, ran), engines = time_engines(loaded, names, 32, 32, rounds=1, peak=10.0)
    assert failed.why_not == "no compiler"
    assert ran.seconds is not None
    assert set(engines) == {"torch"}
    monkeypatch.setattr(bench, "convolution_peak", lambda _: 10.0)
    command = "bench --size 32x32 --rounds 1 --frames 0 --engines torch-compile --device cpu -m"
    assert "torch-compile: no compiler" in refused(*command.split(), loaded.weights)


def test_time_is_taken_when_a_gpu_has_done_its_work(monkeypatch):
    waits = []
    monkeypatch.setattr("torch.mps.synchronize", lambda: waits.append("mps"))
    bench._seconds(lambda: waits.append("work"), torch.device("mps"))
    assert waits == ["mps", "work", "mps"]


def test_a_convolution_has_a_speed():
    assert convolution_peak(torch.device("cpu"), seconds=0.05) > 0


def test_times_are_those_of_one_frame(loaded, monkeypatch):
    engine = as_engine(loaded.network)
    monkeypatch.setattr(bench, "_seconds", lambda work, device: 10.0)
    assert bench.seconds_each(engine, 3, bench.panning_frames(4, 32, 32)) == 2.5
    whole = time_end_to_end(engine, 3, 32, 32, frames=5, rounds=1, quality=QualityOptions())
    assert whole.seconds == whole.restoring_seconds == 2
    assert whole.overhead == 0


def test_end_to_end_restores_a_whole_clip(loaded, monkeypatch):
    asked = []

    def restoring(source, target, engine, window, settings):
        asked.append((window, settings.quality))
        return restore_file(source, target, engine, window, settings)

    monkeypatch.setattr(bench, "restore_file", restoring)
    quality = QualityOptions(burst=1, polish=True, reblur=True)
    whole = time_end_to_end(
        as_engine(loaded.network), 3, 48, 32, frames=5, rounds=1, quality=quality
    )
    assert whole.frames == 5
    assert whole.engine == "torch"
    assert asked == [(3, quality)]
    assert (whole.burst, whole.refine, whole.polish, whole.reblur) == (1, 0, True, True)
    assert whole.overhead == pytest.approx(1 - whole.restoring_seconds / whole.seconds)


@pytest.mark.parametrize(
    ("alone", "words"), [(0.9, "10 % of the time"), (1.57, "less time than can be measured")]
)
def test_what_cannot_be_told_of_the_rest_of_the_time_is_no_number(alone, words):
    whole = EndToEnd("torch", 2, seconds=1.0, restoring_seconds=alone)
    origin = origin_of(torch.device("cpu"))
    lines = bench_lines(BenchRecord("lite", 64, 48, 2, 10.0, (), whole, origin))
    assert words in lines[-1]
    assert "-57" not in lines[-1]
    record = BenchRecord(
        "lite", 64, 48, 2, 10.0, (), replace(whole, polish=True, reblur=True), origin
    )
    assert "2 frames, burst 0, polished, reblurred: 1.00 frames" in bench_lines(record)[-1]


def test_the_command_prints_a_table_and_writes_a_record(loaded, tmp_path, capsys):
    path = tmp_path / "bench.json"
    command = f"bench --size 48x32 --rounds 1 --frames 3 --engines torch openvino --json {path}"
    main([*command.split(), "--model", str(loaded.weights)])
    shown = capsys.readouterr().out
    record = record_from_json(BenchRecord, path.read_text())
    assert [row.engine for row in record.engines] == ["torch", "openvino"]
    for line in bench_lines(record):
        assert line in shown
    assert record.end_to_end is not None
    assert record_from_json(BenchRecord, record_as_json(record)) == record


def test_a_row_without_weights_can_be_measured():
    model = random_model("paper")
    assert model.name == "paper (random weights)"
    assert model.weights is None
