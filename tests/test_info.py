"""`unsmear info`: what is in a clip, its blur over time, the time it takes, and the verdict."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from tests.conftest import write_frames, write_video
from tests.restoration.conftest import textured, write_moments
from unsmear.cli import main
from unsmear.engines.base import TorchEngine
from unsmear.engines.choice import OpenedModel, open_model
from unsmear.info import (
    HEAVY_ABOVE,
    SHARP_BELOW,
    as_json,
    histogram,
    inspect_clip,
    report_lines,
    sparkline,
    verdict,
    write_plot,
)
from unsmear.restoration import timing
from unsmear.restoration.sampling import sample_blur
from unsmear.restoration.timing import TimeEstimate
from unsmear.video.images import write_image


@pytest.fixture
def small_model(weights_file) -> OpenedModel:
    return open_model(str(weights_file), "cpu")


def test_interlaced_clips_are_told_apart(tmp_path, small_model):
    clip = write_video(tmp_path / "tape.mkv", options={"x264-params": "interlaced=1:tff=1"})
    report = inspect_clip(clip, small_model)
    assert report.file is not None
    assert report.file.interlaced
    assert any("interlaced" in words for words in report.file.streams[0].details)
    assert report.time is not None  # with --deinterlace
    assert "restore it with --deinterlace" in "\n".join(report_lines(report))


def test_folders_of_images_are_described_too(tmp_path, small_model):
    frame = torch.from_numpy(textured(150, 160)).permute(2, 0, 1) / 255
    folder = write_frames(tmp_path / "frames", [frame] * 4)
    report = inspect_clip(folder, small_model)
    assert report.file is None
    assert (report.width, report.height, report.frames) == (160, 150, 4)
    assert [frame.time for frame in report.blur] == [0, 1, 2, 3]
    assert [frame.time for frame in sample_blur(folder, most=3)] == [0, 2]
    assert "folder of 4 images, 160x150" in "\n".join(report_lines(report))


@pytest.mark.parametrize(
    ("lengths", "kind"),
    [
        ([SHARP_BELOW - 0.5] * 20, "sharp"),
        ([SHARP_BELOW + 2] * 20, "gain"),
        ([SHARP_BELOW - 0.5] * 14 + [SHARP_BELOW + 4] * 6, "gain"),
        ([SHARP_BELOW - 0.5] * 19 + [SHARP_BELOW + 4], "sharp"),
        ([SHARP_BELOW - 0.5] * 18 + [SHARP_BELOW] * 2, "gain"),
        ([HEAVY_ABOVE + 1] * 20, "heavy"),
        ([HEAVY_ABOVE] * 11 + [SHARP_BELOW - 0.5] * 9, "heavy"),
        ([HEAVY_ABOVE + 1] * 10 + [SHARP_BELOW + 1] * 10, "gain"),
        ([None] * 16 + [5.0] * 4, "unknown"),
        ([None] * 15 + [5.0] * 5, "gain"),
        ([], "unknown"),
        ([None, 1.0], "sharp"),
    ],
)
def test_the_verdict_follows_the_lengths_of_blur(lengths, kind):
    assert verdict(lengths).kind == kind


def test_verdict_names_the_share_of_blurred_frames():
    assert "30%" in verdict([0.5] * 14 + [6.0] * 6).words
    assert verdict([0.5] * 10 + [6.0] * 10).words == "likely to gain"


def test_histogram_and_sparkline_count_every_frame():
    lengths = [0.5, 2.0, 3.9, 9.0, 100.0, None]
    assert sum(count for _, count in histogram(lengths)) == len(lengths)
    assert dict(histogram(lengths))["2 to 4 px"] == 2
    assert dict(histogram(lengths))["unknown"] == 1
    line = sparkline(lengths)
    assert len(line) == len(lengths)
    assert line[-1] == "?"
    assert line[4] == "█"
    assert sparkline([1.0, 1.0]) == "▂▂"  # small blur stays small


def test_json_and_plot_hold_all_frames(tmp_path, small_model):
    clip = write_moments(tmp_path / "clip.mp4", [False, True] * 4)
    report = inspect_clip(clip, small_model)
    held = json.loads(as_json([report, report]))
    assert len(held) == 2
    assert len(held[0]["blur"]) == 8
    assert held[0]["file"]["streams"][0]["kind"] == "video"
    assert held[0]["verdict"]["kind"] == report.verdict.kind
    pytest.importorskip("matplotlib")
    write_plot(tmp_path / "blur.png", [report, dataclasses.replace(report, blur=())])
    image = av.open(str(tmp_path / "blur.png")).streams.video[0]
    assert image.width > image.height > 100
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_frames_of_unknown_blur_count_in_no_mean(tmp_path, small_model, monkeypatch):
    clip = write_video(tmp_path / "clip.mp4", frames=1)
    (frame,) = sample_blur(clip)
    lengths = (1.0, 9.0, None, 5.0)
    estimates = (
        dataclasses.replace(frame.estimate, length=x, worst=None if x is None else x + 2)
        for x in lengths
    )
    found = [dataclasses.replace(frame, estimate=estimate) for estimate in estimates]
    monkeypatch.setattr("unsmear.restoration.sampling.sample_blur", lambda *_, **__: found)
    report = inspect_clip(clip, small_model)
    assert report.median_length == 5
    assert report.blurred_share == pytest.approx(2 / 3)
    told = "median 5.0 px, 7.0 px in the blurriest tenth of the frame; 67% of frames above 4 px"
    assert told in "\n".join(report_lines(report))


def test_command_prints_what_a_user_asks_for(tmp_path, weights_file, capsys):
    (folder := tmp_path / "clips").mkdir()
    clip = write_moments(folder / "clip.mp4", [True] * 6)
    write_video(folder / "tiny [1].mp4", frames=4, audio=True, rotation=90)
    (folder / "notes.txt").touch()
    main(["info", str(folder), "-m", str(weights_file)])
    shown, told = capsys.readouterr()
    assert "clips: skipped: 'notes.txt'; if one of these is a video, give it by name" in told
    for words in ("256x192", "H.264", "6 frames", "10 frames/s", "a frame", "tiny [1].mp4",
                  "44100 Hz", "unknown", "rotated by"):  # fmt: skip
        assert words in shown
    main(["info", str(clip), "--json", "--every", "2", "-m", str(weights_file)])
    held = json.loads(capsys.readouterr().out)
    assert len(held[0]["blur"]) == 3


@pytest.mark.parametrize(("has", "engine"), [(True, "auto"), (True, "torch"), (False, "auto")])
def test_half_precision_is_timed_where_the_cpu_has_it(
    tmp_path, weights_file, capsys, monkeypatch, has, engine
):
    monkeypatch.setattr("unsmear.engines.choice.has_bfloat16", lambda: has)
    clip = write_video(tmp_path / "clip.mp4", frames=3)
    main(["info", str(clip), "--json", "-m", str(weights_file), "--engine", engine,
          "--device", "cpu"])  # fmt: skip
    (held,) = json.loads(capsys.readouterr().out)
    assert held["time"] is not None
    assert (held["time_half"] is not None) == (has and engine == "auto")


def test_each_engine_is_timed_on_its_own_threads(tmp_path, small_model, monkeypatch):
    """Beside an engine with threads of its own torch has one; in half precision it needs all."""
    torch.set_num_threads(2)
    half = dataclasses.replace(small_model, engine=TorchEngine(small_model.network, half=True))
    monkeypatch.setattr(small_model.engine, "own_threads", True)
    threads = []

    def timed(*_, **__):
        threads.append(torch.get_num_threads())
        return TimeEstimate((1.0, 1.0), None)

    monkeypatch.setattr(timing, "expected_time", timed)
    inspect_clip(write_video(tmp_path / "clip.mp4", frames=1), small_model, half=half)
    assert (threads, torch.get_num_threads()) == ([1, 2], 2)


def test_half_precision_is_recommended_where_it_is_quicker(tmp_path, small_model):
    report = inspect_clip(write_video(tmp_path / "clip.mp4", frames=1), small_model)
    for seconds, told in ((1.0, True), (3.0, False), (None, False)):
        half = None if seconds is None else TimeEstimate((seconds, 9.0), (60 * seconds, 540.0))
        timed = dataclasses.replace(report, time=TimeEstimate((2, 4), (120, 240)), time_half=half)
        text = "\n".join(report_lines(timed))
        assert (
            "faster on this CPU: --engine torch-half, 1:00 to 9:00 (1 s to 9 s a" in text
        ) == told


@pytest.mark.parametrize(
    ("each", "total", "words"),
    [
        ((2.0, 4.0), (120, 240), "2:00 to 4:00 (2 s to 4 s a frame)"),
        ((2.04, 2.05), None, "about 2 s a frame"),
        ((0.0123, 99.6), None, "0.012 s to 100 s a frame"),
        ((123.4, 1234.0), None, "123 s to 1234 s a frame"),  # large frames on a slow CPU
    ],
)
def test_times_and_rates_are_told_without_powers_of_ten(each, total, words):
    rate = SimpleNamespace(mean=30.0, variable=True, slowest=0.5, fastest=1000.0)
    file = SimpleNamespace(
        container="MP4",
        bytes=1,
        duration=None,
        rate=rate,
        streams=(),
        chapters=(),
        interlaced=False,
    )
    report = SimpleNamespace(
        path=Path("a"), file=file, frames=None, width=8, height=8, blur=(), median_length=None,
        time=TimeEstimate(each, total), time_half=None, verdict=verdict([]), why_not=None,
    )  # fmt: skip
    lines = report_lines(report)
    assert f"  restoring takes {words}, without encoding" in lines
    assert lines[1].endswith("30 frames/s on average, variable (0.5 to 1000)")


def write_transparent(path: Path) -> Path:
    """Three frames with varying alpha."""
    pixels = np.concatenate((textured(64, 64), textured(64, 64)[..., :1]), axis=2)
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "bgra"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba")))
        container.mux(stream.encode(None))
    return path


def test_what_cannot_be_restored_is_described(tmp_path, small_model):
    report = inspect_clip(write_transparent(tmp_path / "alpha.mkv"), small_model)
    assert report.time is None
    assert len(report.blur) == 3
    lines = report_lines(report)
    assert "64x64" in "\n".join(lines)
    assert "cannot be restored: " in lines[-1]
    assert "transparen" in lines[-1]
    (held,) = json.loads(as_json([report]))
    assert held["time"] is None
    assert "transparen" in held["why_not"]


@pytest.mark.parametrize("name", [b"a$_$b.mp4", b"n\xff.mp4"])
def test_any_name_can_stand_above_a_plot(name, tmp_path, small_model):
    pytest.importorskip("matplotlib")
    clip = tmp_path / os.fsdecode(name)
    write_video(tmp_path / "clip.mp4", frames=1).rename(clip)
    write_plot(tmp_path / "blur.svg", [inspect_clip(clip, small_model)])
    assert (tmp_path / "blur.svg").is_file()


def test_a_clip_that_fails_does_not_take_the_others_along(tmp_path, weights_file, capsys):
    pytest.importorskip("matplotlib")
    clip, bad = write_video(tmp_path / "clip.mp4", frames=2), tmp_path / "bad.mp4"
    bad.write_bytes(clip.read_bytes()[:700])
    plot = tmp_path / "blur.svg"
    with pytest.raises(SystemExit) as stop:
        main(["info", str(bad), str(clip), "--json", "--plot", str(plot), "-m", str(weights_file)])
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert [held["path"] for held in json.loads(shown.out)] == [str(clip)]
    assert "bad.mp4" in shown.err
    assert plot.is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.mp4"], "no such file"),
        (["clip.mp4", "--every", "0"], "every is 0"),
        (["clip.mp4", "--plot", "plot.png"], "--overwrite"),
        (["text.mp4"], "cannot be read as a video"),
        (["empty"], "contains no images"),
        (["clip.mp4", "-m", "nothing"], "unknown model"),
        (["clip.mp4", "--plot", "plot.nothing"], "suffix must be one of .png"),
        (["clip.mp4", "--plot", "no/p.png"], "there is no folder 'no'"),
        (["pictures", "--plot", "pictures/0.png", "--overwrite"], "is the input"),
        (["clip.mp4", "--every", "1.5"], "not a whole number"),
        (["clip.mp4", ""], "an argument is empty"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, monkeypatch, refused, weights_file):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mp4", frames=3)
    (tmp_path / "plot.png").write_text("precious")
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures").mkdir()
    write_image(tmp_path / "pictures" / "0.png", torch.zeros(3, 32, 32, dtype=torch.uint8))
    pixels = (tmp_path / "pictures" / "0.png").read_bytes()
    monkeypatch.setattr("unsmear.restoration.sampling.sample_blur", never_if(arguments, "--plot"))
    before = sorted(tmp_path.iterdir())
    weights = [] if "-m" in arguments else ["-m", weights_file]
    assert message in refused("info", *arguments, *weights)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "plot.png").read_text() == "precious"
    assert (tmp_path / "pictures" / "0.png").read_bytes() == pixels


def never_if(arguments, option):
    """A function that must not be called if the option is wrong."""
    return None if option in arguments else sample_blur
