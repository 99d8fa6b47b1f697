"""Names that FFmpeg could misread, and files that are not videos."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import pytest

from tests.conftest import picture, stamps_of, write_video
from tests.video.conftest import is_cover, restored, rich_video
from unsmear.errors import InputError
from unsmear.restoration.files import Outcome
from unsmear.restoration.settings import Span
from unsmear.video.describe import describe_streams
from unsmear.video.opening import ffmpeg_name
from unsmear.video.reader import VideoReader


@pytest.mark.parametrize(
    "name", ["2024-05-01T12:30:00.mp4", "./12:30.mp4", "file:a.mp4", "a%d.mp4"]
)
def test_names_with_a_colon_are_files_and_no_protocols(tmp_path, monkeypatch, name):
    write_video(tmp_path / "plain.mp4", frames=3, audio=True).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    target = Path(f"to-{Path(name).name}")
    assert describe_streams(Path(name)).frames == 3
    assert restored(Path(name), target)[0] == Outcome(3)
    assert stamps_of(tmp_path / target) == stamps_of(tmp_path / name)
    assert ffmpeg_name(Path(name)) == f"file:{Path(name)}"


def test_a_cover_of_a_file_with_a_colon_is_kept(tmp_path, monkeypatch):
    rich_video(tmp_path / "in.mkv", cover=True).rename(tmp_path / "1:2.mkv")
    monkeypatch.chdir(tmp_path)
    restored(Path("1:2.mkv"), Path("3:4.mkv"))
    with av.open(str(tmp_path / "3:4.mkv")) as container:
        assert sum(is_cover(stream) for stream in container.streams.video) == 1


@pytest.mark.parametrize("name", ["a%03d.png", "b*.png", "c[1].png"])
def test_an_image_is_no_pattern_of_names(tmp_path, name):
    path = tmp_path / name
    cv2.imwrite(str(path), picture(48, 64))
    with VideoReader(path) as reader:
        assert sum(1 for _ in reader) == 1


@pytest.mark.parametrize("name", ["notes.nfo", "notes.ans", "notes.txt"])
def test_text_is_no_video(tmp_path, name):
    path = tmp_path / name
    path.write_text("buy milk\n" * 400)
    with pytest.raises(InputError, match="cannot be read as a video"):
        VideoReader(path)
    with pytest.raises(InputError, match="cannot be read as a video"):
        describe_streams(path)


def test_a_start_beyond_all_numbers_is_a_stretch_without_frames(tmp_path):
    source = write_video(tmp_path / "in.mp4", frames=3)
    span = Span(start=Fraction(99999999999999999999))
    with pytest.raises(InputError, match="no frames between --start and --end"):
        restored(source, tmp_path / "out.mp4", span=span)


def test_pages_that_would_be_lost_are_refused(tmp_path):
    path = tmp_path / "in.tif"
    cv2.imwritemulti(str(path), [picture(48, 64), picture(48, 64, 1)])
    with pytest.raises(InputError, match=r"contains more than one image.*in a folder"):
        VideoReader(path)
    cv2.imwritemulti(str(path), [picture(48, 64)])
    with VideoReader(path) as reader:
        assert sum(1 for _ in reader) == 1
