"""Interlaced video: made whole if asked, and otherwise refused or told."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from tests.conftest import write_video
from tests.video.conftest import interlaced, join, restored
from unsmear.errors import InputError, MidwayError
from unsmear.video.reader import VideoReader


def test_interlaced_video_is_refused_or_made_whole(tmp_path):
    source = interlaced(tmp_path / "in.mp4")
    with pytest.raises(InputError, match="--deinterlace"):
        VideoReader(source)
    with VideoReader(source, deinterlace=True) as reader:
        assert any("interlaced" in note for note in reader.notes)
        frames = list(reader)
    assert [frame.pts for frame in frames] == [Fraction(index, 25) for index in range(12)]
    comb = [float((f.rgb[:, 1:] - f.rgb[:, :-1]).abs().mean()) for f in frames[3:9]]
    with av.open(str(source)) as raw:
        woven = [f.to_ndarray(format="gray").astype(float) / 255 for f in raw.decode(video=0)]
    assert max(comb) < 0.6 * min(np.abs(np.diff(w, axis=0)).mean() for w in woven[3:9])
    outcome, _ = restored(source, tmp_path / "out.mp4", 3, deinterlace=True)
    assert outcome.frames == 12
    with av.open(str(tmp_path / "out.mp4")) as out:
        assert not any(frame.interlaced_frame for frame in out.decode(video=0))


def joined_of(tmp_path, *parts):
    return join(tmp_path / "joined.ts", *parts)


def test_frames_that_are_interlaced_later_are_told(tmp_path):
    plain = write_video(tmp_path / "plain.ts", frames=6)
    woven = interlaced(tmp_path / "woven.ts", frames=7)
    source = joined_of(tmp_path, plain, woven)
    outcome, notes = restored(source, tmp_path / "out.mkv")
    assert outcome.frames == 13
    (note,) = (note for note in notes if "interlaced" in note)
    assert note.startswith("7 frames are interlaced, though the first is not")
    assert "add --deinterlace" in note
    with VideoReader(source, deinterlace=True) as reader:
        assert len([*reader]) == 13
        assert reader.damage.interlaced == 0


def test_frames_of_another_size_are_refused_while_deinterlacing_too(tmp_path):
    small = write_video(tmp_path / "small.ts", size=(32, 32), options={"x264-params": "tff=1"})
    source = joined_of(tmp_path, interlaced(tmp_path / "large.ts"), small)
    with VideoReader(source, deinterlace=True) as reader, pytest.raises(MidwayError, match="32x32"):
        for frame in reader:
            assert frame.pts < 2


def test_deinterlacing_can_start_in_the_middle(tmp_path):
    source = interlaced(tmp_path / "in.mp4", frames=420)
    with VideoReader(source, start=Fraction(15), deinterlace=True) as reader:
        frames = [frame.pts for frame in reader]
    assert 5 < frames[0] <= 10  # at a key frame some seconds earlier
    assert frames[-1] == Fraction(419, 25)


def test_progressive_video_is_not_touched_by_deinterlacing(tmp_path):
    source = write_video(tmp_path / "in.mp4")
    with VideoReader(source) as one, VideoReader(source, deinterlace=True) as two:
        for a, b in zip(one, two, strict=True):
            assert a.pts == b.pts
            assert torch.equal(a.planes.y, b.planes.y)
