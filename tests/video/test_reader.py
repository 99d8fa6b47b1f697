"""Files as they are in practice: damaged, without time stamps or colour tags, sought in."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest
import torch

from tests.conftest import audio_packets, mild, stamps_of, write_video
from tests.video.conftest import interlaced, join, notes_of, remuxed, restored
from unsmear import clip as clip_module
from unsmear.errors import InputError, MidwayError
from unsmear.restoration import files
from unsmear.restoration.files import Outcome, restore_file
from unsmear.restoration.settings import Span
from unsmear.video import reader as reader_module
from unsmear.video.damage import Damage
from unsmear.video.reader import VideoReader, read_rgb8


def test_what_is_not_said_about_colour_is_guessed_and_told(tmp_path):
    source = write_video(tmp_path / "in.mp4", tags=(1, 2, 2, 2))
    with VideoReader(source) as reader:
        assert any("BT.601" in note for note in reader.notes)
        assert reader.info.tags.matrix == 2  # and stays untagged
    big = write_video(tmp_path / "big.mp4", tags=(1, 2, 2, 2), size=(1280, 64), frames=1)
    with VideoReader(big) as reader:
        assert any("BT.709" in note for note in reader.notes)


def test_a_matrix_that_is_not_known_here_is_named(tmp_path):
    source = write_video(tmp_path / "in.mp4", tags=(1, 14, 2, 2), frames=2)
    with VideoReader(source) as reader:
        (note,) = reader.notes
        assert "colour matrix, ICtCp, is not supported" in note
        assert "processed as BT.601" in note
        assert reader.info.tags.matrix == 14


def test_packets_that_nobody_can_decode_are_counted(tmp_path):
    source = write_video(tmp_path / "in.mkv", frames=40, size=(128, 96), codec="mjpeg",
                         pixel_format="yuvj420p")  # fmt: skip
    contents = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    start = contents.find(b"\xff\xd8", places[20])
    contents[start : start + 1500] = b"\x00" * 1500
    (tmp_path / "bad.mkv").write_bytes(contents)
    outcome, notes = restored(tmp_path / "bad.mkv", tmp_path / "out.mkv", 3)
    assert 36 <= outcome.frames < 40
    assert any("could not be decoded" in note for note in notes)


def test_frames_that_the_decoder_concealed_are_counted(tmp_path):
    source = write_video(tmp_path / "in.mkv", frames=4, size=(128, 96), options={"bf": "0"})
    with av.open(str(source)) as container:
        second = [bytes(packet) for packet in container.demux(video=0)][1]
    half = len(second) // 2
    source.write_bytes(source.read_bytes().replace(second[half:], bytes(len(second) - half)))
    assert notes_of(source) == (
        4, ["1 frames are damaged; the decoder concealed what it could"],
    )  # fmt: skip


def test_a_file_that_breaks_off_gives_what_it_has(tmp_path):
    source = write_video(tmp_path / "in.mkv", frames=60, size=(128, 96))
    contents = source.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(contents[: len(contents) * 2 // 3])
    outcome, _ = restored(tmp_path / "cut.mkv", tmp_path / "out.mkv", 3)
    assert 10 < outcome.frames < 60
    assert stamps_of(tmp_path / "out.mkv") == stamps_of(source)[: outcome.frames]


def test_equal_and_falling_stamps_are_moved_and_told(tmp_path):
    source = write_video(tmp_path / "in.mkv", pts=[0, 3000, 3001, 3002, 9000, 12000])
    assert stamps_of(source)[1] == stamps_of(source)[2]  # Matroska has ticks of 1 ms
    with VideoReader(source) as reader:
        stamps = [frame.pts for frame in reader]
        assert stamps == sorted(set(stamps))
        assert reader.damage.stamps == 2
    finer = write_video(tmp_path / "in.mp4", pts=[0, 3000, 3001, 3002, 9000, 12000])
    outcome, notes = restored(finer, tmp_path / "out.mkv", 3)
    assert (outcome, notes) == (Outcome(6), ["2 time stamps did not increase and were adjusted"])
    stamps = [1000 * stamp for stamp in stamps_of(tmp_path / "out.mkv")]
    assert stamps == [0, 100, 101, 102, 300, 400]


def test_a_stream_without_stamps_gets_steady_ones(tmp_path):
    plain = write_video(tmp_path / "in.mp4", frames=6)
    raw = remuxed(plain, tmp_path / "raw.h264", form="h264")
    outcome, _ = restored(raw, tmp_path / "out.mp4", 3)
    assert outcome.frames == 6
    gaps = {b - a for a, b in zip(stamps_of(tmp_path / "out.mp4"),
                                  stamps_of(tmp_path / "out.mp4")[1:], strict=False)}  # fmt: skip
    assert max(gaps) - min(gaps) < Fraction(1, 100)


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_stamps_below_zero_are_moved_together(tmp_path, container):
    plain = write_video(tmp_path / "in.mp4", pts=[0, 3000, 6000, 9000, 30000], audio=True)
    back, options = Fraction(1, 5), {"avoid_negative_ts": "disabled"}
    early = remuxed(plain, tmp_path / "early.ts", later=-back, options=options)
    stamps = stamps_of(early)
    assert stamps[0] == -back
    out = tmp_path / f"out.{container}"
    outcome, notes = restored(early, out, 3)
    assert outcome == Outcome(5)
    assert any("before zero" in note for note in notes)
    # In Matroska everything moves by another 23 ms, by which the audio begins early.
    back += 0 if container == "mp4" else Fraction(23, 1000)
    assert any("everything is 23 ms later" in note for note in notes) == (container == "mkv")
    assert stamps_of(out) == [pts + back for pts in stamps]
    sound = [packets[0][0] for packets in (audio_packets(early), audio_packets(out))]
    assert abs(sound[1] - sound[0] - back) < Fraction(1, 900)


def test_sizes_that_cannot_be_are_refused_before_anything_is_allocated(tmp_path, monkeypatch):
    source = write_video(tmp_path / "in.mp4", size=(128, 96))
    monkeypatch.setattr(clip_module, "MOST_PIXELS", 128 * 96)
    VideoReader(source).close()
    monkeypatch.setattr(clip_module, "MOST_PIXELS", 128 * 96 - 1)
    with pytest.raises(InputError, match=r"in\.mp4' declares frames of 128x96: more than 12,287"):
        VideoReader(source)


def test_a_size_that_changes_is_told_with_the_time_before_it(tmp_path):
    """Seconds from the beginning, rounded down: as --end they leave that frame out."""
    one = write_video(tmp_path / "one.ts", frames=6)
    two = write_video(tmp_path / "two.ts", frames=2, size=(32, 32))
    told = r"changes size from 64x48 to 32x32 at 0\.166 s: .*with --end 0\.166$"
    with (
        VideoReader(join(tmp_path / "in.ts", one, two)) as reader,
        pytest.raises(MidwayError, match=told),
    ):
        list(reader)


def test_reading_can_start_in_the_middle(tmp_path):
    source = write_video(tmp_path / "in.mp4", frames=600, options={"g": "30"})
    stamps = stamps_of(source)
    with VideoReader(source, start=Fraction(15)) as reader:
        frames = [frame.pts for frame in reader]
    assert 9 < frames[0] < 11  # at a key frame some seconds earlier
    assert frames == stamps[stamps.index(frames[0]) :]
    with VideoReader(source) as reader:
        reader.skip(590)
        assert [frame.pts for frame in reader] == stamps[590:]


def test_what_cannot_be_sought_is_read_from_the_beginning(tmp_path):
    """A raw stream, as from a Raspberry Pi's camera: without a container there is no seeking, not
    even to the beginning.
    """
    source = write_video(tmp_path / "in.h264", frames=180)
    with VideoReader(source, start=Fraction(11, 2)) as reader:
        assert reader.first_pts == 0
        assert len([*reader]) == 180
        assert reader.damage == Damage()
    span = Span(start=Fraction(11, 2))
    assert restored(source, tmp_path / "out.mp4", span=span)[0].frames > 10


def test_a_file_that_is_gone_at_the_end_is_one_line(tmp_path):
    source = write_video(tmp_path / "in.mp4", frames=2)
    with VideoReader(source) as reader:
        source.unlink()
        with pytest.raises(InputError, match=r"cannot read '.*in\.mp4': No such file"):
            list(reader)


def test_one_frame_and_tiny_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_PART_FRAMES", (4, 5))  # so that there are several parts
    one = write_video(tmp_path / "one.mp4", frames=1)
    assert restore_file(one, tmp_path / "o.mp4", mild(), 5) == Outcome(1)
    tiny = write_video(tmp_path / "tiny.mp4", size=(16, 16), frames=12)
    assert restore_file(tiny, tmp_path / "t.mp4", mild(), 3) == Outcome(12)


@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 8, 9])
def test_every_matrix_that_is_known_is_taken(tmp_path, matrix):
    source = write_video(tmp_path / "in.mp4", tags=(1, matrix, 2, 2), frames=2)
    with VideoReader(source) as reader:
        assert reader.info.tags.matrix == matrix
        assert reader.notes == []


def test_what_no_filter_takes_is_one_line(tmp_path, monkeypatch):
    def refuses(frames, stream):
        yield next(frames)
        raise av.error.ArgumentError(22, "Invalid argument")

    monkeypatch.setattr(reader_module, "deinterlaced", refuses)
    with (
        pytest.raises(InputError, match="cannot be deinterlaced"),
        VideoReader(interlaced(tmp_path / "in.mp4"), deinterlace=True) as reader,
    ):
        list(reader)


def test_rgb8_frames_for_training(tmp_path):
    source = write_video(tmp_path / "in.mp4", frames=3)
    frames = list(read_rgb8(source))
    assert [frame.shape for frame in frames] == [(3, 48, 64)] * 3
    assert frames[0].dtype == torch.uint8


def test_a_start_beyond_all_numbers_is_a_stretch_without_frames(tmp_path):
    source = write_video(tmp_path / "in.mp4", frames=3)
    span = Span(start=Fraction(99999999999999999999))
    with pytest.raises(InputError, match="no frames between --start and --end"):
        restored(source, tmp_path / "out.mp4", span=span)
