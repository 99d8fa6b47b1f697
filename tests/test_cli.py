"""Verbs, help, wildcards, names, and how mistakes and interrupts are told."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from tests.conftest import write_video
from unsmear import cli, display
from unsmear.cli import app, main
from unsmear.models import DEFAULT_MODEL
from unsmear.models.zoo import ZOO
from unsmear.video.images import write_image


def test_start_imports_nothing_heavy():
    heavy = "{'torch', 'av', 'cv2', 'numpy'}"
    check = f"import sys, unsmear.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wildcards_are_expanded_where_the_shell_leaves_them(tmp_path, monkeypatch):
    """As on Windows. Brackets occur in names, and what matches nothing is reported as it is."""
    for name in ("b [1].mp4", "a [1].mp4", ".c [1].mp4", "a1.mp4"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(cli, "_run", seen.extend)
    monkeypatch.setattr(sys, "argv", ["unsmear", "info", "? [1].mp4", "*.mov"])
    main()
    monkeypatch.setattr(sys, "platform", "win32")
    main()
    assert seen == [*sys.argv[1:], "info", "a [1].mp4", "b [1].mp4", "*.mov"]


def test_help_names_every_verb(capsys):
    main(["--help"])
    shown = capsys.readouterr().out
    for verb in ("train", "models", "demo", "explain", "--output", "--compare"):
        assert verb in shown


def test_every_verb_has_help(capsys):
    for name in app:
        if not name.startswith("-"):
            main([name, "--help"])
            assert "Usage" in capsys.readouterr().out


def test_models_lists_the_zoo(capsys):
    main(["models"])
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "steps" in rows["lite"]
    assert [name for name, row in rows.items() if "(default)" in row] == [DEFAULT_MODEL]
    assert "steps" in rows[DEFAULT_MODEL]
    assert "steps" in rows["paper"]


def test_models_cuts_no_number_off_in_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setattr("unsmear.models.zoo.ZOO", {"lite": ZOO["lite"]})
    monkeypatch.setattr("unsmear.models.count.count_macs", lambda _: 12.3e9)
    monkeypatch.setattr(display.out, "width", 24)
    main(["models"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["model", "lite"], ["parameters", "0.6", "M"], ["GMAC", "12.3"],
    ]  # fmt: skip


def test_an_error_is_an_event_where_json_is_a_flag_and_a_line_where_it_names_a_file(capsys):
    for arguments, event in (
        (["info", "nowhere.mp4", "--json"], True),
        (["eval", "--restored", "nowhere", "--sharp", "nothing", "--json", "x.json"], False),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        shown = capsys.readouterr()
        assert stop.value.code == 2
        assert [line.startswith('{"event": "error"') for line in shown.out.splitlines()] == [
            True
        ] * event
        assert ("nowhere" in shown.err) != event


def test_names_may_look_like_lists_and_numbers(tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "[Group] Show - 01.mp4", frames=1)
    run("[Group] Show - 01.mp4", "-o", "[1].mp4")
    assert (tmp_path / "[1].mp4").is_file()
    (tmp_path / "v1.0").mkdir()
    write_image(tmp_path / "v1.0" / "0.png", torch.zeros(3, 32, 32, dtype=torch.uint8))
    (tmp_path / "link").symlink_to("nowhere")  # a broken link that is not an image
    (tmp_path / "v1.0" / "notes.txt").symlink_to("nowhere")
    run("v1.0")
    run("v1.0", "[1].mp4", "-o", "both.d")
    assert [file.name for file in (tmp_path / "v1.0_sharp").iterdir()] == ["0.png"]
    assert sorted(file.name for file in (tmp_path / "both.d").iterdir()) == ["[1].mp4", "v1.0"]
    long = "x" * 245 + ".mp4"  # its work folder would have a longer name
    run("[1].mp4", "-o", long)
    assert (tmp_path / long).is_file()


def test_an_interrupt_is_one_line_and_exit_130(tmp_path, run, capsys, monkeypatch):
    source = write_video(tmp_path / "in.mp4", frames=3)
    from unsmear.restoration import files

    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "restore_frames", interrupted)
    with pytest.raises(SystemExit) as stop:
        run(source)
    assert stop.value.code == 130
    assert capsys.readouterr().err.strip() == "unsmear: interrupted"
    assert sorted(entry.suffix for entry in tmp_path.iterdir()) == [".mp4", ".safetensors"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "."], "is the input"),
        (["-o", "circle"], "broken link"),
        (["circle"], "no such file"),
        (["-o", ""], "an argument is empty"),
        (["-o="], "an argument is empty"),
        (["-dash.mp4"], "begin it with ./"),
        (["-m", "nope", "--", "-dash.mp4"], "unknown model"),
        ([""], "an argument is empty"),
        (["b.mp4", "-o", "no/such"], "there is no folder 'no'"),
        (["b.mp4", "-o", "plain"], "'plain' is a file"),
        (["b.mp4", "-o", "new", "-m", "nope"], "unknown model"),
        (["x" * 300], "name too long"),
        (["-o", "x" * 300 + ".mp4"], "name too long"),
        (["--crf", "1.5"], "'1.5' is not a whole number"),
        (["--crf", "many", "--json"], "'many' is not a whole number"),
        (["nowhere.mp4", "--json"], "no such file or folder: 'nowhere.mp4'"),
        (["--json", "-o", "out.gif"], "suffix must be one of"),
        (["--json", "--strength", "2"], "strength is 2"),
        (["--json", "-m", "nope"], "unknown model"),
        (["--json", "-o", ""], "an argument is empty"),
    ],
)
def test_slips_are_one_line_or_one_event(
    tmp_path, capsys, weights_file, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    for name in ("in.mp4", "b.mp4"):
        write_video(tmp_path / name, frames=1)
    (tmp_path / "plain").touch()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "-dash.mp4").touch()
    before = sorted(tmp_path.iterdir())
    weights = [] if "-m" in arguments else ["-m", str(weights_file)]
    with pytest.raises(SystemExit) as stop:
        main(["in.mp4", *arguments, *weights])
    assert stop.value.code == 2
    shown = capsys.readouterr()
    if "--json" in arguments:
        (line,) = shown.out.splitlines()
        event = json.loads(line)
        assert (event["event"], event["input"], shown.err) == ("error", None, "")
        assert message in event["text"]
    else:
        (line,) = shown.err.splitlines()
        assert message.lower() in line.lower()
        assert shown.out == ""
    assert sorted(tmp_path.iterdir()) == before
