"""Time codes, counted frame by frame, with and without drop-frame."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import av
import pytest

from tests.conftest import picture
from tests.video.conftest import stretch
from unsmear.video.timecode import later, with_later_time_code

NTSC, FILM = Fraction(30000, 1001), Fraction(24000, 1001)


def counted(each, dropped, hours):
    """All time codes of some hours: hour, minute, second, frame."""
    for code in product(hours, range(60), range(60), range(each)):
        _, minute, second, frame = code
        if not (minute % 10 and second == 0 and frame < dropped):
            yield code


def written(code, sign):
    hour, minute, second, frame = code
    return f"{hour:02}:{minute:02}:{second:02}{sign}{frame:02}"


@pytest.mark.parametrize(("rate", "sign", "dropped"), [(NTSC, ";", 2), (Fraction(10), ":", 0)])
def test_time_codes_are_those_of_counting(rate, sign, dropped):
    first, number = f"00:00:00{sign}00", 0
    for number, code in enumerate(counted(round(rate), dropped, range(2))):
        if number % 1009 == 0 or 1790 < number < 1810 or 17970 < number < 17990:
            assert later(first, number, rate) == written(code, sign)
            assert later(written(code, sign), 0, rate) == written(code, sign)
    day = 12 * (number + 1)
    assert later(first, day, rate) == first
    last_hour = list(counted(round(rate), dropped, [23]))
    for before in (1, 2 * round(rate), 600 * round(rate)):
        assert later(first, day - before, rate) == written(last_hour[-before], sign)


def test_time_codes_go_on_from_any():
    assert later("00:00:59;29", 1, NTSC) == "00:01:00;02"
    assert later("00:09:59;29", 1, NTSC) == "00:10:00;00"
    assert later("00:00:59;59", 1, 2 * NTSC) == "00:01:00;04"
    assert later("23:59:59:23", 1, FILM) == "00:00:00:00"
    assert later("01:00:00:0", 25, Fraction(10)) == "01:00:02:5"
    assert later("01:00:00:30", 1, NTSC) is None
    assert later("one o'clock", 1, NTSC) is None


def test_what_cannot_be_moved_is_left_out():
    metadata = {"title": "Kite", "TIMECODE": "10:00:00:00"}
    assert with_later_time_code(metadata, 25, Fraction(25))["TIMECODE"] == "10:00:01:00"
    assert with_later_time_code(metadata, 25, None) == {"title": "Kite"}
    assert with_later_time_code({**metadata, "TIMECODE": "?"}, 25, FILM) == {"title": "Kite"}


def coded(path, rate, code, first=0):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.metadata["timecode"] = code
        for index in range(40):
            frame = av.VideoFrame.from_ndarray(picture(48, 64, index), format="rgb24")
            frame.pts, frame.time_base = first + index, 1 / Fraction(rate)
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return path


def code_of(path):
    with av.open(str(path)) as container:
        metadata = {**container.metadata, **container.streams.video[0].metadata}
    return {key.lower(): text for key, text in metadata.items()}.get("timecode")


@pytest.mark.parametrize("kind", ["mov", "mkv"])
def test_a_stretch_has_the_time_code_of_its_first_frame(tmp_path, kind):
    """Also if the video begins late, or the stretch between two frames."""
    source = coded(tmp_path / f"in.{kind}", NTSC, "01:00:59;28", first=60 * (kind == "mkv"))
    target = tmp_path / f"out.{kind}"
    stretch(source, target, None, Fraction(1, 10))
    assert code_of(target) == "01:00:59;28"
    target.unlink()
    notes = stretch(source, target, Fraction(51, 100), Fraction(6, 10))  # from frame 16 on
    assert code_of(target) == "01:01:00;16"
    assert not any("left out" in note for note in notes)  # its stream is written anew


def test_a_time_code_that_cannot_be_moved_is_named(tmp_path):
    source = coded(tmp_path / "in.mkv", 10, "at noon")
    notes = stretch(source, tmp_path / "out.mkv", Fraction(1), None)
    assert code_of(tmp_path / "out.mkv") is None
    assert any("time code" in note for note in notes)
