"""Names that FFmpeg could misread, files that are not videos, and which stream is the video."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import pytest

from tests.conftest import picture, stamps_of, write_video
from tests.video.conftest import restored, rich_video
from unsmear.errors import InputError
from unsmear.restoration.files import Outcome
from unsmear.video.describe import describe_streams, measured_length
from unsmear.video.opening import ffmpeg_name, is_cover
from unsmear.video.reader import VideoReader
from unsmear.video.writer import Origin


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
    found = {stream.kind: stream.details for stream in describe_streams(Path("3:4.mkv")).streams}
    assert "cover" in found
    assert found["attachment"] == ("font.ttf",)


def test_names_with_spaces_and_accents_and_links(tmp_path):
    folder = tmp_path / "été 2026 "
    folder.mkdir()
    source = write_video(folder / "mein Vidéo (1) ☀.mp4", frames=2)
    link = tmp_path / "link.mp4"
    link.symlink_to(source)
    assert restored(link, folder / "résultat ✓.mp4")[0] == Outcome(2)
    assert stamps_of(folder / "résultat ✓.mp4") == stamps_of(source)


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


@pytest.mark.parametrize(
    ("contents", "why"),
    [
        (b"", "it is empty; copy or download it again"),
        (bytes(100), "it is damaged, or no video"),
        (b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x64mdat", r"its index \(moov\).* is missing"),
    ],
)
def test_why_a_file_cannot_be_read_is_told(tmp_path, contents, why):
    path = tmp_path / "in.mp4"
    path.write_bytes(contents)
    for read in (VideoReader, describe_streams):
        with pytest.raises(InputError, match=f"cannot be read as a video: {why}"):
            read(path)


def test_pages_that_would_be_lost_are_refused(tmp_path):
    path = tmp_path / "in.tif"
    cv2.imwritemulti(str(path), [picture(48, 64), picture(48, 64, 1)])
    with pytest.raises(InputError, match=r"contains more than one image.*in a folder"):
        VideoReader(path)
    cv2.imwritemulti(str(path), [picture(48, 64)])
    with VideoReader(path) as reader:
        assert sum(1 for _ in reader) == 1


def test_cover_images_are_not_video(tmp_path):
    path = tmp_path / "cover.mp4"
    write_video(tmp_path / "clip.mp4", frames=1, codec="mjpeg", pixel_format="yuvj420p")
    with av.open(str(tmp_path / "clip.mp4")) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.disposition = av.stream.Disposition.attached_pic
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    for read in (VideoReader, measured_length):
        with pytest.raises(InputError, match="no video stream"):
            read(path)


def test_animated_avif_is_more_than_its_first_image(tmp_path):
    source = write_video(
        tmp_path / "in.avif", codec="libsvtav1", options={"preset": "12"}, frames=5, size=(64, 64)
    )
    with VideoReader(source) as reader:
        assert len([*reader]) == 5
        notes = Origin.of(reader, ".mkv").notes
    assert notes == ["video stream 0 (av1) is left out: an image without a time stamp"]
    assert describe_streams(source).frames == 5


def box(kind, *parts):
    """A box of ISO/IEC 14496-12, from bytes and 16-bit numbers."""
    body = b"".join(p if isinstance(p, bytes) else p.to_bytes(2, "big") for p in parts)
    return (8 + len(body)).to_bytes(4, "big") + kind + body


def test_an_image_in_tiles_is_refused(tmp_path):
    """Two tiles side by side, as phones store images. FFmpeg shows each as a stream."""
    path = write_video(
        tmp_path / "in.avif", codec="libsvtav1", options={"preset": "12"}, frames=1, size=(64, 64)
    )
    with av.open(str(path)) as container:
        data = next(bytes(packet) for packet in container.demux(video=0))
    contents, zero = path.read_bytes(), bytes(4)
    at = contents.index(b"av1C") - 4
    setting = contents[at : at + int.from_bytes(contents[at : at + 4], "big")]
    size = box(b"ispe", zero, 0, 64, 0, 64)
    named = [
        box(b"infe", b"\2" + bytes(3), number, 0, kind, b"\0")
        for number, kind in enumerate((b"av01", b"av01", b"grid"), start=1)
    ]

    def head(begin):
        tile = 0, 0, 1, 0, begin, 0, len(data)
        return box(b"ftyp", b"avif", zero, b"avifmif1") + box(
            b"meta", zero, box(b"hdlr", zero, zero, b"pict", bytes(13)), box(b"pitm", zero, 3),
            box(b"iloc", b"\1" + bytes(3), 0x4400, 3, 1, *tile, 2, *tile, 3, 1, 0, 1, 0, 0, 0, 8),
            box(b"iinf", zero, 3, *named), box(b"iref", zero, box(b"dimg", 3, 2, 1, 2)),
            box(
                b"iprp", box(b"ipco", size, setting),
                box(b"ipma", zero, 0, 2, 1, b"\2\1\x82", 2, b"\2\1\x82"),
            ),
            box(b"idat", 0, 1, 128, 64),
        )  # fmt: skip

    path.write_bytes(head(len(head(0)) + 8) + box(b"mdat", data))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
    for read in (VideoReader, describe_streams):
        with pytest.raises(InputError, match="is an image in tiles"):
            read(path)
