"""Videos as restored and as sharp frames."""

from __future__ import annotations

import av
import pytest
import torch

from tests.conftest import write_video
from unsmear.cli import main
from unsmear.errors import InputError
from unsmear.evaluate.benchmark import Benchmark
from unsmear.evaluate.frames import ImageFrames, find_comparisons, open_frames
from unsmear.evaluate.metrics import psnr
from unsmear.evaluate.protocol import find_protocol
from unsmear.video.images import write_image
from unsmear.video.reader import count_frames, read_rgb8

BASE = find_protocol("basicsr2d")
POOR = {"crf": "40"}


def test_frames_are_counted_by_decoding(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=7)
    assert count_frames(path) == 7
    raw = tmp_path / "a.h264"  # no header that states the count
    with av.open(str(path)) as source, raw.open("wb") as file:
        to_annex_b = av.bitstream.BitStreamFilterContext(
            "h264_mp4toannexb", source.streams.video[0]
        )
        for packet in source.demux(video=0):
            for part in to_annex_b.filter(packet if packet.dts is not None else None):
                file.write(bytes(part))
    assert count_frames(raw) == 7


def test_video_against_video_is_measured_frame_by_frame(tmp_path):
    sharp = write_video(tmp_path / "sharp.mp4", frames=5)
    made = write_video(tmp_path / "made.mkv", frames=5, options=POOR)
    (pair,) = find_comparisons(made, sharp)
    assert (pair.name, len(pair.restored), len(pair.sharp)) == ("made", 5, 5)
    (result,) = Benchmark(BASE, workers=2).compare([pair])
    assert len(result.frames) == 5
    for score, one, other in zip(result.frames, read_rgb8(made), read_rgb8(sharp), strict=True):
        assert score.psnr == pytest.approx(psnr(one / 255, other / 255), abs=1e-6)
        assert 15 < score.psnr < 60
    assert [score.flicker is None for score in result.frames] == [True] + [False] * 4


@pytest.mark.parametrize("protocol", ["basicsr2d", "estrnn"])
def test_a_video_is_eight_bit_before_any_protocol_cuts_down(tmp_path, protocol):
    """A lossless video against its own frames as images: YUV to RGB must not lose a step."""
    video = write_video(tmp_path / "a.mp4", frames=5, options={"crf": "0"})
    (tmp_path / "pictures").mkdir()
    for index, frame in enumerate(read_rgb8(video)):
        write_image(tmp_path / "pictures" / f"{index}.png", frame)
    (pair,) = find_comparisons(video, tmp_path / "pictures")
    assert isinstance(pair.sharp, ImageFrames)
    (result,) = Benchmark(find_protocol(protocol)).compare([pair])
    assert {score.psnr for score in result.frames} == {float("inf")}


def test_different_numbers_of_frames_are_named(tmp_path, capsys):
    sharp = write_video(tmp_path / "sharp.mp4", frames=5)
    made = write_video(tmp_path / "made.mp4", frames=4)
    with pytest.raises(InputError, match=r"made.mp4' has 4 frames, .*sharp.mp4' has 5"):
        find_comparisons(made, sharp)
    with pytest.raises(SystemExit) as stopped:
        main(["eval", "--restored", str(made), "--sharp", str(sharp)])
    assert stopped.value.code == 2
    assert "compared one by one" in capsys.readouterr().err


def test_what_is_no_video_and_no_folder_is_refused(tmp_path):
    sharp = write_video(tmp_path / "sharp.mp4", frames=2)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    for other, message in (
        ("text.mp4", "cannot be read as a video"),
        ("nowhere.mp4", "no such file"),
        ("empty", "contains no images"),
    ):
        with pytest.raises(InputError, match=message):
            find_comparisons(tmp_path / other, sharp)
    with pytest.raises(InputError, match="or a video"):
        find_comparisons(tmp_path / "nowhere", tmp_path / "nothing")


def test_the_command_takes_videos(tmp_path, capsys):
    sharp = write_video(tmp_path / "sharp.mp4", frames=3)
    made = write_video(tmp_path / "made.mp4", frames=3, options=POOR)
    main(["eval", "--restored", str(made), "--sharp", str(sharp)])
    assert "3 frames" in capsys.readouterr().out


def test_open_frames_iterates_again_and_again(tmp_path):
    frames = open_frames(write_video(tmp_path / "a.mp4", frames=3))
    first, second = list(frames), list(frames)
    assert len(first) == 3
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
