"""What --start and --end keep of the other streams, and at what times."""

from __future__ import annotations

import struct
from fractions import Fraction
from itertools import pairwise

import av
import pytest

from tests.conftest import audio_packets, picture, stamps_of, write_video
from tests.video.conftest import MS, clip, held, lines, restored, shown, stretch
from unsmear.video.describe import describe_streams


def edited(path, *stretches):
    """Have the edit lists of an MP4 file show only stretches: begin and length, ms."""
    contents = bytearray(path.read_bytes())
    for name, rate in ((b"vide", 30_000), (b"soun", 44_100)):
        track = contents.rindex(b"trak", 0, contents.index(b"hdlr" + bytes(8) + name))
        elst = contents.index(b"elst", track)
        media = int.from_bytes(contents[elst + 16 : elst + 20], "big")
        edits = [struct.pack(">III", n, media + at * rate // 1000, 1 << 16) for at, n in stretches]
        contents[elst + 8 : elst + 24] = struct.pack(">I", len(edits)) + b"".join(edits)
        for at in (elst, contents.index(b"edts", track), track, contents.index(b"moov")):
            size = int.from_bytes(contents[at - 4 : at], "big") + 12 * (len(edits) - 1)
            contents[at - 4 : at] = size.to_bytes(4, "big")
    path.write_bytes(contents)
    return path


def test_sound_that_an_edit_list_hides_is_left_out(tmp_path):
    """Phones trim a clip by hiding parts of it."""
    source = write_video(tmp_path / "in.mp4", frames=15, audio=True)
    out = tmp_path / "out.mkv"
    _, notes = restored(edited(source, (200, 100), (400, 100)), out)
    assert not any("left out" in note for note in notes)
    sound = [at for at, _ in audio_packets(out)]
    assert max(late - early for early, late in pairwise(sound)) < 0.03
    first, *between, last = stamps_of(out)
    assert describe_streams(source).frames == len(between) + 2 == 6
    assert 0.05 < first - sound[0] < 0.13  # what primes the decoder
    assert abs(last - sound[-1]) < 0.06


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_lines_at_the_ends_of_a_stretch_are_on_while_it_lasts(tmp_path, kind):
    events = ((100, 1500, "long"), (1800, 600, "later"), (2600, 200, "never"))
    source = clip(tmp_path / "in.mkv", lines(*events), frames=30)
    stretch(source, tmp_path / f"out.{kind}", Fraction(1), Fraction(2))
    assert shown(tmp_path / f"out.{kind}") == [(0, 600, "long"), (800, 1000, "later")]


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_lines_that_overlap_where_a_stretch_begins(tmp_path, kind):
    events = ((100, 1900, "long"), (300, 1000, "short"), (1500, 200, "on"))
    source = clip(tmp_path / "in.mkv", lines(*events), frames=20)
    stretch(source, tmp_path / f"out.{kind}", Fraction(1), None)
    found = shown(tmp_path / f"out.{kind}")
    if kind == "mkv":
        assert found == [(0, 1000, "long"), (0, 300, "short"), (500, 700, "on")]
    else:
        assert found == [
            (0, 300, "long\nshort"), (300, 500, "long"),
            (500, 700, "long\non"), (700, 1000, "long"),
        ]  # fmt: skip


def test_a_line_that_ends_where_a_stretch_begins_is_not_on(tmp_path):
    source = clip(tmp_path / "in.mkv", lines((100, 900, "over"), (1000, 300, "on")), frames=20)
    stretch(source, tmp_path / "out.mkv", Fraction(1), None)
    assert shown(tmp_path / "out.mkv") == [(0, 300, "on")]


def test_chapters_of_a_stretch_are_those_that_reach_into_it(tmp_path):
    events = ((0, 1000, "before"), (500, 1200, "into"), (1200, 1700, "in"), (1700, 2500, "out of"),
              (2000, 3000, "after"))  # fmt: skip

    def book(container):
        container.set_chapters([
            {"id": at, "start": at, "end": end, "time_base": MS, "metadata": {"title": title}}
            for at, end, title in events
        ])  # fmt: skip
        return lambda: None

    source = clip(tmp_path / "in.mkv", book, frames=30)
    stretch(source, tmp_path / "out.mkv", Fraction(1), Fraction(2))
    found = [(begin * 1000, end * 1000, said["title"])
             for begin, end, said in held(tmp_path / "out.mkv")[1]]  # fmt: skip
    assert found == [(0, 200, "into"), (200, 700, "in"), (700, 1000, "out of")]


def view(keys, frames=40):
    """Adds a video stream with open GOPs of `keys` frames and reordered frames."""

    def add(container):
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {
            "g": str(keys),
            "bf": "3",
            "sc_threshold": "0",
            "x264-params": "open-gop=1",
        }

        def write():
            for index in range(frames):
                frame = av.VideoFrame.from_ndarray(picture(48, 64, index), format="rgb24")
                frame = frame.reformat(format="yuv420p")
                frame.pts, frame.time_base = index, Fraction(1, 10)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))

        return write

    return add


def view_of(path):
    """Time (in 1/10 s) and luma of each frame of the second video stream."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=1))
    assert not any(frame.is_corrupt for frame in frames)
    return [
        (round(frame.pts * frame.time_base * 10), frame.reformat(format="gray").to_ndarray())
        for frame in frames
    ]


def test_another_video_begins_at_a_key_frame_and_ends_whole(tmp_path):
    source = clip(tmp_path / "in.mkv", view(12), frames=40)
    notes = stretch(source, tmp_path / "out.mkv", Fraction(2), Fraction(33, 10))
    whole, part = dict(view_of(source)), view_of(tmp_path / "out.mkv")
    times = [at for at, _ in part]
    assert times[0] == 4
    assert times[: 13 - 4] == list(range(4, 13))
    assert times[-1] < 13 + 4  # frames after the end are kept if others are predicted from them
    for at, luma in part:
        assert (luma == whole[at + 20]).all()
    told = "video stream 1 begins 0.40 s late: a copied stream can begin only at a key frame"
    assert told in notes


def test_another_video_without_a_key_frame_is_said_to_be_empty(tmp_path):
    source = clip(tmp_path / "in.mkv", view(250), frames=40)
    notes = stretch(source, tmp_path / "out.mkv", Fraction(2), Fraction(3))
    assert view_of(tmp_path / "out.mkv") == []
    assert any(note.startswith("video stream 1 is empty") for note in notes)
