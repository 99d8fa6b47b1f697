"""VMAF: the plumbing with a stand-in program, and values of the real one where it is installed."""

from __future__ import annotations

import os
import sys
import types

import pytest
import torch

from tests.conftest import one_scene, picture
from unsmear.cli import main
from unsmear.errors import ConfigError, MissingExtraError, UnsmearError
from unsmear.evaluate.benchmark import Benchmark
from unsmear.evaluate.frames import find_comparisons
from unsmear.evaluate.protocol import find_protocol
from unsmear.evaluate.scores import mean_of
from unsmear.evaluate.vmaf import VmafMeter, find_vmaf
from unsmear.video.images import integer_from_unit, write_image

# Stands in for ffmpeg: reads raw RGB, and writes as VMAF the mean of each image of each pair.
STAND_IN = """#!{python}
import json, sys
width, height = map(int, sys.argv[sys.argv.index("-video_size") + 1].split("x"))
frames = []
while piece := sys.stdin.buffer.read(width * height * 3):
    half = len(piece) // 2
    frames.append({{"metrics": {{"vmaf": (sum(piece[:half]) - sum(piece[half:])) / half}}}})
json.dump({{"frames": frames}}, open("vmaf.json", "w"))
"""
scripts_run = pytest.mark.skipif(os.name == "nt", reason="stand-in is a script with a shebang")


def program(tmp_path, text):
    path = tmp_path / "ffmpeg"
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def offer(monkeypatch, path):
    module = types.ModuleType("imageio_ffmpeg")

    def get_ffmpeg_exe():
        if path is None:
            raise RuntimeError("No ffmpeg exe could be found")
        return path

    module.get_ffmpeg_exe = get_ffmpeg_exe
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", module)


def test_without_the_extra_its_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingExtraError, match=r'pip install "unsmear\[vmaf\]"'):
        find_vmaf()


@scripts_run
def test_an_ffmpeg_without_libvmaf_or_none_at_all_is_refused_with_the_remedy(monkeypatch, tmp_path):
    # `vmafmotion` is another filter, and descriptions may mention libvmaf.
    listing = "#!/bin/sh\\necho ' .. vmafmotion V->V like libvmaf'\\n".replace("\\n", "\n")
    offer(monkeypatch, program(tmp_path, listing))
    with pytest.raises(ConfigError, match=r"without libvmaf.*IMAGEIO_FFMPEG_EXE"):
        find_vmaf()
    offer(monkeypatch, None)
    with pytest.raises(ConfigError, match=r"No ffmpeg exe.*IMAGEIO_FFMPEG_EXE"):
        find_vmaf()
    listing = listing.replace("vmafmotion V->V like ", "libvmaf VV->V ")
    offer(monkeypatch, program(tmp_path, listing))
    assert find_vmaf() == str(tmp_path / "ffmpeg")


@scripts_run
@pytest.mark.parametrize(("protocol", "counted"), [("basicsr2d", 5), ("cdvd", 1)])
def test_each_frame_that_counts_gets_its_own_number(tmp_path, protocol, counted):
    frames = one_scene(5, 20, 22)
    for name, gains in (("made", [0.1, 0.2, 0.3, 0.4, 0.5]), ("truth", [0.0] * 5)):
        (tmp_path / name).mkdir()
        for index, gain in enumerate(gains):
            brighter = 0.4 * frames[index] + gain
            write_image(tmp_path / name / f"{index}.png", integer_from_unit(brighter))
    stand_in = program(tmp_path, STAND_IN.format(python=sys.executable))
    benchmark = Benchmark(find_protocol(protocol), workers=2, ffmpeg=stand_in)
    ((result,),) = benchmark.compare(find_comparisons(tmp_path / "made", tmp_path / "truth"))
    assert len(result.frames) == counted
    for score in result.frames:  # what the stand-in saw: restored first, frames in order
        assert score.vmaf == pytest.approx(255 * 0.1 * (score.index + 1), abs=0.6)


@scripts_run
def test_a_program_that_gives_up_says_why_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    broken = program(tmp_path, "#!/bin/sh\necho 'out of luck' >&2\nexit 3\n")
    with pytest.raises(UnsmearError, match="out of luck"), VmafMeter(broken, 64, 64) as meter:
        for _ in range(200):  # more than a pipe holds
            meter.add(torch.rand(3, 64, 64), torch.rand(3, 64, 64))
        meter.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["ffmpeg"]


def test_the_real_one_knows_equal_frames_from_spoilt_ones(tmp_path, capsys):
    pytest.importorskip("imageio_ffmpeg", reason="the extra unsmear[vmaf] is not installed")
    truth = torch.from_numpy(picture(96, 128).transpose(2, 0, 1).copy()).float() / 255
    for name, noise in (("truth", 0.0), ("same", 0.0), ("poor", 0.2)):
        (tmp_path / name).mkdir()
        for index in range(4):
            frame = truth.roll(3 * index, dims=-1)
            spoilt = (frame + noise * torch.randn_like(frame)).clamp(0, 1)
            write_image(tmp_path / name / f"{index}.png", integer_from_unit(spoilt))
    means = {}
    for name in ("same", "poor"):
        benchmark = Benchmark(find_protocol("basicsr2d"), ffmpeg=find_vmaf())
        ((result,),) = benchmark.compare(find_comparisons(tmp_path / name, tmp_path / "truth"))
        means[name] = mean_of(result.frames, "vmaf")
    assert means["same"] > 90
    assert means["poor"] < means["same"] - 20
    folders = ["--restored", str(tmp_path / "same"), "--sharp", str(tmp_path / "truth")]
    main(["eval", *folders, "--vmaf"])
    assert "VMAF" in capsys.readouterr().out
