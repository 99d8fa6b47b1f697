"""Truncated files: reported if frames are missing, and not otherwise."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import av
import pytest

from tests.conftest import write_video
from tests.video.conftest import cut, faststart, length_of, notes_of, restored
from unsmear.restoration.settings import Span
from unsmear.video.damage import Damage, Extent, shortfall, written_end
from unsmear.video.describe import describe_streams
from unsmear.video.reader import VideoReader

INTRA = {"codec": "mjpeg", "pixel_format": "yuvj420p", "frames": 30, "size": (128, 96)}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("mp4", "{} of 30 frames"),
        ("mov", "{} of 30 frames"),
        ("avi", "{} frames"),
        ("mkv", "of 1.00 s"),
    ],
)
def test_a_file_that_breaks_off_is_named(tmp_path, kind, words):
    whole = faststart(tmp_path / f"in.{kind}", **INTRA)
    assert notes_of(whole) == (30, [])
    broken = cut(whole, 2 / 3)
    outcome, notes = restored(broken, tmp_path / "out.mkv")
    assert 10 < outcome.frames < 25
    # The last frame is not shown until the end that the file states.
    assert length_of(tmp_path / "out.mkv") < Fraction(outcome.frames + 1, 29)
    (told,) = (note for note in notes if "is truncated" in note)
    assert words.format(outcome.frames) in told
    assert told in describe_streams(broken).streams[0].details
    assert 10 < describe_streams(broken).frames < 25
    # Nothing is missing if the part to restore ends before the truncation.
    _, notes = restored(broken, tmp_path / "end.mkv", span=Span(end=Fraction(1, 5)))
    assert not any("is truncated" in note for note in notes)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "avi", "mov"])
def test_whole_files_are_not_said_to_break_off(tmp_path, kind):
    codec = {"webm": "libvpx-vp9", "avi": "mpeg4"}.get(kind, "libx264")
    uneven = None if kind == "avi" else [0, 1001, 1500, 4000, 9000, 30_000]
    source = faststart(tmp_path / f"in.{kind}", codec=codec, pts=uneven, frames=6,
                       sound=("libopus" if kind == "webm" else "libmp3lame", "mono"))  # fmt: skip
    assert notes_of(source)[1] == []
    assert not any("truncated" in word for word in describe_streams(source).streams[0].details)


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_a_file_that_lacks_nothing_but_its_last_bytes_is_whole(tmp_path, kind):
    source = faststart(tmp_path / f"in.{kind}", frames=12)
    with source.open("ab") as file:
        file.write(b"\0\0\1\0free" + bytes(9) if kind == "mp4" else b"")
    broken = cut(source, 1 if kind == "mp4" else 1 - 20 / source.stat().st_size)
    assert notes_of(broken) == (12, [])


def big(*numbers):
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def little(number):
    return number.to_bytes(4, "little")


BOX, EBML = big(8) + b"ftyp", b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67"
AVI = b"RIFF" + little(99) + b"AVI " + b"LIST" + little(5) + b"hdrl" + bytes(2)  # an odd length


LENGTHS = [  # contents, and whether they are cut off
    (BOX + big(16) + b"mdat" + bytes(8), False),
    (BOX + big(17) + b"mdat" + bytes(8), True),
    (BOX + big(1) + b"mdat" + big(0, 24) + bytes(8), False),  # 64 bits
    (BOX + big(1) + b"mdat" + big(0, 25) + bytes(8), True),
    (BOX + big(0) + b"mdat" + bytes(8), False),  # up to the end, wherever that is
    (EBML + b"\x88" + bytes(8), False),
    (EBML + b"\x89" + bytes(8), True),
    (EBML + b"\xff" + bytes(8), False),  # not known
    (AVI + b"LIST" + little(8) + b"movi" + bytes(4), False),
    (AVI + b"LIST" + little(9) + b"movi" + bytes(4), True),
    (AVI + b"LIST" + little(0xFFFFFFFF) + b"movi" + bytes(4), False),  # never filled in
]


def test_what_a_file_says_of_its_length_is_read_from_its_outermost_parts(tmp_path):
    for contents, short in LENGTHS:
        (tmp_path / "a").write_bytes(contents)
        told = shortfall(tmp_path / "a", Extent(None, None, Fraction(0)), None, Fraction(0))
        assert bool(told) == short, contents


def test_a_duration_in_a_tag_is_read():
    stream = SimpleNamespace(metadata={"DURATION": "01:02:03.500000000"})
    assert written_end(stream) == Fraction(7447, 2)
    assert written_end(SimpleNamespace(metadata={"DURATION": "long"})) is None


def test_trimmed_by_an_edit_list_is_not_broken_off(tmp_path):
    source = write_video(tmp_path / "in.mp4", frames=30, options={"g": "30", "bf": "0"})
    contents = bytearray(source.read_bytes())
    at = contents.find(b"elst")
    assert int.from_bytes(contents[at + 8 : at + 12], "big") == 1
    contents[at + 16 : at + 20] = (15_015).to_bytes(4, "big")  # media time: skips half of it
    length = int.from_bytes(contents[at + 12 : at + 16], "big")
    contents[at + 12 : at + 16] = (length // 2).to_bytes(4, "big")
    source.write_bytes(contents)
    frames, notes = notes_of(source)
    assert frames < 30
    assert notes == []


def test_a_wrong_count_in_a_header_is_no_break(tmp_path):
    index = faststart(tmp_path / "index.avi", **INTRA)
    assert notes_of(cut(index, 1 - 100 / index.stat().st_size)) == (30, [])  # the index is cut off
    source = write_video(tmp_path / "in.avi", codec="mpeg4", frames=8)
    contents = bytearray(source.read_bytes())
    at = contents.find(b"strh") + 8 + 32  # stream length, in frames
    contents[at : at + 4] = (100).to_bytes(4, "little")
    source.write_bytes(contents)
    assert notes_of(source) == (8, [])


def test_what_breaks_off_with_an_error_is_told_too():
    (note,) = Damage(broke_off=True).notes()
    assert note == "the file is truncated; the frames before that are kept"
    both = Damage(broke_off=True, present="3 of 8 frames are present")
    assert both.notes() == ["the file is truncated: 3 of 8 frames are present"]


def test_packets_before_the_first_key_frame_are_counted(tmp_path):
    """A transport stream that was cut between key frames."""
    whole = write_video(tmp_path / "in.ts", frames=20, options={"g": "10", "preset": "ultrafast"})
    with av.open(str(whole)) as container:
        second = [packet.pos for packet in container.demux(video=0)][1]
    cut_off = tmp_path / "cut.ts"
    cut_off.write_bytes(whole.read_bytes()[second:])
    frames, notes = notes_of(cut_off)
    assert frames == 10
    assert len(notes) == 1
    assert notes[0].startswith("9 packets before the first key frame cannot be decoded")
    assert notes_of(whole) == (20, [])


def test_what_reading_from_the_middle_sees_is_told_in_seconds(tmp_path):
    source = faststart(tmp_path / "in.mp4", frames=300, options={"g": "15"}, size=(128, 96))
    with VideoReader(cut(source, 0.9), start=Fraction(7)) as reader:
        assert 0 < sum(1 for _ in reader) < 300
        (note,) = reader.damage.notes()
    assert note.endswith("of 10.01 s are present")
    told = Extent(None, None, Fraction(0))
    assert shortfall(cut(source, 0.9), told, None, Fraction(0)) == "what is present is kept"
