"""What is shown: JSON lines, notes, names; and standard streams that fail before the work ends."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.conftest import write_video
from unsmear import display
from unsmear.clip import ClipInfo
from unsmear.display import Bar, JsonLines, ResilientStream, resilient_streams
from unsmear.errors import OutputError
from unsmear.restoration.files import Outcome, Progress
from unsmear.video.reader import VideoReader


class Ends(io.StringIO):
    """A stream that fails after one line."""

    def __init__(self, code):
        super().__init__()
        self.code = code

    def write(self, text):
        if self.getvalue():
            raise OSError(self.code, os.strerror(self.code))
        return super().write(text)


@pytest.mark.parametrize("code", [errno.EPIPE, errno.ENOSPC])
def test_a_stream_that_ends_stops_nothing(monkeypatch, code):
    stream, done = Ends(code), []
    monkeypatch.setattr(sys, "stdout", stream)

    def work():
        with resilient_streams():
            for number in range(3):
                print(number)
            done.append(True)

    if code == errno.EPIPE:
        work()
    else:
        with pytest.raises(OutputError, match="standard output: No space left"):
            work()
    assert done
    assert stream.getvalue() == "0"
    assert sys.stdout is stream


def test_what_a_full_disk_refuses_at_the_end_is_told(monkeypatch):
    """As `unsmear models > /dev/full`: what is written fits into the buffer."""

    class Full(io.StringIO):
        def flush(self):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(OutputError, match="standard output: No space left"), resilient_streams():
        print("a line")


def test_a_result_tells_what_an_earlier_run_did(capsys):
    outcome = Outcome(frames=5, resumed=2, untouched=1)
    Bar("a").result(Path("o.mp4"), outcome)
    assert capsys.readouterr().out == "5 frames restored (2 by an earlier run): o.mp4\n"
    Bar("a").result(Path("o.mp4"), Outcome(frames=1, resumed=0, untouched=0))
    assert capsys.readouterr().out == "1 frame restored: o.mp4\n"
    JsonLines(Path("a.mp4")).result(Path("o.mp4"), outcome)
    event = json.loads(capsys.readouterr().out)
    assert (event["frames"], event["resumed"], event["untouched"]) == (5, 2, 1)


def test_names_are_printed_as_they_are(capsys):
    display.say("my:car:.mp4 [1]")
    display.show_error("no such file: 'my:car:.mp4 [1]'")
    shown = capsys.readouterr()
    assert shown.out == "my:car:.mp4 [1]\n"
    assert shown.err == "unsmear: no such file: 'my:car:.mp4 [1]'\n"


def test_what_a_stream_cannot_show_is_escaped():
    held = io.BytesIO()
    stream = ResilientStream(io.TextIOWrapper(held, encoding="ascii"))
    stream.write("é \udcff.mp4")
    stream.flush()
    assert held.getvalue() == rb"\xe9 \udcff.mp4"


def test_where_there_is_no_stream_nothing_is_shown(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with resilient_streams():
        print("nobody hears")
        assert not sys.stdout.isatty()
    assert sys.stdout is None


def test_the_bar_shows_names_as_they_are(monkeypatch):
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(display, "err", terminal)
    info = ClipInfo(width=64, height=48, frames=2)
    with Bar("[abc] clip [/b].mp4") as bar:
        bar.progress(Progress(1, 2, info))
        bar.progress(Progress(1, 2, info, "watching"))
        bar.progress(Progress(3, 2, info, "watching"))  # more frames than the header has
    shown = terminal.file.getvalue()
    assert "[abc] clip [/b].mp4, first pass" in shown
    assert "3/3" in shown


def test_what_each_clip_loses_is_told_of_each(tmp_path, monkeypatch):
    terminal = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(display, "err", terminal)
    source = write_video(tmp_path / "in.mp4", frames=1, tags=(1, 2, 2, 2))
    with VideoReader(source) as reader:
        (guess,) = reader.notes
    said = set()
    for name in "ab":
        bar = Bar(name, said)
        for note in (guess, "the sound is left out", "the sound is left out"):
            bar.note(note)
    shown = terminal.file.getvalue().splitlines()
    assert shown == [f"a: {guess}", "a: the sound is left out", "b: the sound is left out"]


@pytest.mark.skipif(os.name == "nt", reason="pipes differ there")
def test_a_reader_that_leaves_does_not_stop_the_restoration(tmp_path, weights_file):
    source = write_video(tmp_path / "in.mp4", frames=3)
    command = [sys.executable, "-m", "unsmear", source, "-m", weights_file, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0
    assert (tmp_path / "in.sharp.mp4").is_file()


def test_json_lines_say_everything(tmp_path, run, capsys):
    source = write_video(tmp_path / "in.mp4", frames=3, tags=(1, 2, 2, 2))
    run(source, "--json")
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events if event["event"] != "progress"] == [
        "note", "result",
    ]  # fmt: skip
    assert "colour matrix" in events[0]["text"]
    done = [event["done"] for event in events if event["event"] == "progress"]
    assert done[0] == 0
    assert done[-1] == 3
    assert events[-1]["frames"] == 3
    assert events[-1]["output"].endswith("in.sharp.mp4")
    (tmp_path / "bad.mp4").write_text("no")
    with pytest.raises(SystemExit):
        run(tmp_path / "bad.mp4", "--json")
    (event,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert event["event"] == "error"
