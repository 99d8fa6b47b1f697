"""Quantize, export and engines as users type them."""

from __future__ import annotations

import json

import av
import cv2
import numpy as np
import pytest
import torch

from tests.conftest import write_video
from unsmear.cli import main
from unsmear.deploy import bench
from unsmear.deploy.quantize import Quantized
from unsmear.deploy.records import EndToEnd, EngineTime
from unsmear.engines.eight_bit import EightBitOrigin
from unsmear.restoration import files
from unsmear.restoration.quality import QualityOptions


@pytest.fixture
def clip(tmp_path):
    return write_video(tmp_path / "clip.mp4", frames=6)


def write_pairs(folder):
    random = np.random.default_rng(0)
    scene = cv2.resize(random.integers(0, 256, (8, 12, 3), dtype=np.uint8), (48, 32))
    for side in ("blur", "sharp"):
        (folder / "walk" / side).mkdir(parents=True)
        cv2.imwrite(str(folder / "walk" / side / "000.png"), scene)
    return folder


def test_quantize_then_restore_takes_the_eight_bits(
    clip, one_level_file, tmp_path, refused, capsys
):
    val = write_pairs(tmp_path / "val")
    arguments = ["quantize", str(one_level_file), "--clips", str(clip), "--val", str(val)]
    main(arguments)
    shown = capsys.readouterr().out
    assert "quantized to 8 bits" in shown
    made = one_level_file.with_suffix(".int8.safetensors")
    assert made.is_file()
    assert "exists" in refused(*arguments)
    target = tmp_path / "sharp.mp4"
    named = ["-m", str(one_level_file), "--device", "cpu", "--engine", "openvino-int8"]
    main([str(clip), "-o", str(target), *named])
    with av.open(str(target)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 6


def test_export_writes_a_folder(one_level_file, tmp_path, refused, capsys):
    folder = tmp_path / "graphs"
    main(["export", str(one_level_file), "-o", str(folder), "--format", "openvino"])
    assert "largest difference" in capsys.readouterr().out
    assert json.loads((folder / "model.json").read_text())["format"] == "openvino"
    assert "exists" in refused("export", one_level_file, "-o", folder)


@pytest.mark.parametrize("name", ["out[x264]", "b[/x]"])
def test_names_with_brackets_are_told_as_they_are(name, weights_file, monkeypatch, capsys):
    monkeypatch.setattr("unsmear.deploy.export.export", lambda *_: 0.0)
    monkeypatch.setattr("unsmear.deploy.export.check_target", lambda _: None)
    main(["export", str(weights_file), "-o", name])
    assert f"written: {name};" in capsys.readouterr().out


def test_mistakes_are_one_line(clip, weights_file, tmp_path, refused):
    val = write_pairs(tmp_path / "val")
    assert "frames is 0" in refused(
        "quantize", weights_file, "--clips", clip, "--val", val, "--frames", 0
    )
    assert "is not a folder" in refused(
        "quantize", weights_file, "--clips", clip, "--val", tmp_path / "nowhere"
    )
    arguments = ["quantize", weights_file, "--clips", clip, "--val", val, "-o"]
    for output, message in (
        (tmp_path / "a" / "b.safetensors", "there is no folder"),
        (tmp_path / "a.bin", "the suffix must be one of .safetensors"),
        (weights_file, "is the input"),
    ):
        assert message in refused(*arguments, output, "--overwrite")
    assert "unknown model" in refused("export", "heavy", "-o", tmp_path / "x")
    # These errors come before the model is loaded.
    for output, message in (
        ("nowhere/x", "there is no folder"),
        ("..", "is a folder"),
        ("val", "exists"),
    ):
        assert message in refused("export", "heavy", "-o", tmp_path / output)


@pytest.mark.parametrize("place", ["small", "other"])
def test_where_eight_bits_are_looked_for_is_told(
    clip, weights_file, tmp_path, capsys, monkeypatch, place
):
    scores = {"walk": (30.0, 29.95)}
    origin = EightBitOrigin(digest="", calibrated_on={}, scores=scores, versions={})
    calibrated = []

    def quantize_model(network, window, clips, *_, on_note):
        calibrated.extend(map(len, clips.values()))
        return Quantized(origin, ("encode_0",))

    monkeypatch.setattr("unsmear.deploy.quantize.quantize_model", quantize_model)
    val, output = write_pairs(tmp_path / "val"), f"{place}.int8.safetensors"
    monkeypatch.chdir(tmp_path)
    base = ["quantize", str(weights_file), "--clips", str(clip), "--val", str(val)]
    main([*base, "-o", output, "--frames", "2"])
    shown = capsys.readouterr().out
    assert ("openvino-int8 reads" in shown) == (place == "other")
    assert "walk: 30.00 -> 29.95 dB (-0.050)" in shown
    assert calibrated == [2]


def test_each_option_of_bench_arrives_and_the_fastest_engine_restores_a_video(
    weights_file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(2)
    timed, whole = {}, {}

    def time_engines(model, names, width, height, *, rounds, **_):
        timed.update(names=names, size=(width, height), rounds=rounds)
        rows = (EngineTime("openvino", 3.0, 1.0, 0.1), EngineTime("torch", 2.0, 1.0, 0.1))
        return rows, {row.engine: row.engine for row in rows}

    def time_end_to_end(engine, window, width, height, **more):
        whole.update(more, engine=engine, size=(width, height))
        return EndToEnd(engine, 2, 1.0, 0.5)

    monkeypatch.setattr(bench, "convolution_peak", lambda _: 1.0)
    monkeypatch.setattr(bench, "time_engines", time_engines)
    monkeypatch.setattr(bench, "time_end_to_end", time_end_to_end)
    base = ["bench", "-m", str(weights_file), "--device", "cpu", "--size", "64x48"]
    main([*base, "--rounds", "6", "--frames", "7", "--burst", "1", "--polish", "--reblur",
          "--threads", "1", "--engines", "openvino", "torch", "--json", "b.json"])  # fmt: skip
    assert json.loads((tmp_path / "b.json").read_text())["threads"] == 1
    assert timed == {"names": ["openvino", "torch"], "size": (64, 48), "rounds": 6}
    assert whole == {
        "engine": "torch", "size": (64, 48), "frames": 7, "rounds": 3,
        "quality": QualityOptions(burst=1, polish=True, reblur=True),
    }  # fmt: skip


def test_bench_says_beforehand_what_cannot_be(weights_file, tmp_path, refused, monkeypatch):
    monkeypatch.setattr("unsmear.deploy.bench.convolution_peak", None)  # nothing is measured
    for arguments, message in (
        (["--json", tmp_path / "no" / "b.json"], "there is no folder"),
        (["--json", weights_file], "is the input"),
        (["--size", "big"], "WIDTHxHEIGHT, each at least 16"),
        (["--size", "8x8"], "WIDTHxHEIGHT, each at least 16"),
        (["--size", "99999999x99999999"], "at most 67,108,864 pixels"),
        (["--size", f"{'9' * 5000}x9"], "WIDTHxHEIGHT, each at least 16"),
        (["--rounds", "0"], "rounds is 0: must be at least 1"),
        (["--threads", "-1"], "threads is -1: must be from 1 to 4,096"),
        (["--threads", "100000"], "threads is 100000: must be from 1 to 4,096"),
        (["--threads", "0"], "threads is 0: must be from 1 to 4,096"),
        (["--frames", "-2"], "frames is -2: must be at least 0"),
        (["--refine", "1"], "needs a model that aligns neighbours"),
        (["--rounds", "1.5"], "not a whole number"),
    ):
        assert message in refused("bench", "-m", weights_file, *arguments)


def test_another_engine_does_not_go_on_with_what_one_began(
    clip, one_level_file, tmp_path, monkeypatch, capsys
):
    """The parts of one result never come from two engines."""
    monkeypatch.setattr(files, "_PART_FRAMES", (2, 2))
    target = tmp_path / "sharp.mp4"
    shared = [str(clip), "-o", str(target), "-m", str(one_level_file), "--device", "cpu", "--json"]
    original = files._Run.restore_rest

    def breaks(self, *arguments):
        original(self, *arguments)
        raise KeyboardInterrupt

    for engine, resumed in (("openvino", 0), ("torch", 6)):
        target.unlink(missing_ok=True)
        with monkeypatch.context() as patched, pytest.raises(SystemExit):
            patched.setattr(files._Run, "restore_rest", breaks)
            main([*shared, "--engine", "torch"])
        capsys.readouterr()
        main([*shared, "--engine", engine])
        last = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert last["resumed"] == resumed
