"""What `unsmear eval` refuses before it measures, and how it shows its tables. Its work is tested
in tests/evaluate/test_run.py, that of `unsmear explain` in tests/explain/test_run.py.
"""

from __future__ import annotations

import io
import json

import pytest
import torch
from rich.console import Console

from unsmear import research
from unsmear.cli import main
from unsmear.video.images import write_image

WIDE = [
    "PSNR blurry", "PSNR", "SSIM blurry", "SSIM", "flicker blurry", "flicker", "VMAF",
    "NIQE blurry", "NIQE", "NIQE sharp",
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "photos/00.png"], "is the input"),
        (["--markdown", "photos/new.md"], "is the input"),
        (["--json", "no/r.json"], "there is no folder"),
        (["--plot", "p.txt"], "suffix must be one of .png"),
        (["--plot", "p"], "suffix must be one of .png"),
        (["--json", "r", "--markdown", "r"], "'r' is given for two reports: give"),
        (["--json", "p.png", "--markdown", "r", "--plot", "p.png"], "'p.png' is given for two"),
        (["--json", "photos/../r", "--markdown", "r"], "'r' is given for two reports (as 'photos/"),
        (["--workers", "-1"], "workers is -1"),
    ],
)
def test_eval_says_beforehand_what_cannot_be_written(
    photographs, tmp_path, refused, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in photographs.iterdir()}
    told = refused("eval", "--restored", "photos", "--sharp", "photos", *arguments)
    assert message in told  # and nothing was measured, since nothing was printed
    assert {path: path.read_bytes() for path in photographs.iterdir()} == before
    assert list(tmp_path.iterdir()) == [photographs]


def shown(headings, rows, width):
    """Lines of the tables of `unsmear eval`, without spaces at their ends."""
    console = Console(width=width, file=io.StringIO())
    console.print(*research._tables(headings, rows, width), sep="")
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_eval_shows_names_beside_their_numbers_on_80_columns():
    tail = ", ensemble of 4, burst 2 on REDS/val"
    headings = ["model", "protocol", "mean over", "frames", *WIDE[:6]]
    rows = [
        [name + tail, protocol, over, "3000", *["30.37"] * 6]
        for over in ("frames", "sequences")
        for name in ("core", "gopro-mine/weights")
        for protocol in ("basicsr2d", "matlab3d")
    ]
    lines = shown(headings, rows, 80)
    assert max(map(len, lines)) <= 80
    assert [line.split()[:3] for line in lines[2:6]] == [
        ["core", "basicsr2d", "frames"],
        ["matlab3d", "frames", "3000"],
        ["gopro-mine", "basicsr2d", "frames"],
        ["/weights", "matlab3d", "frames"],
    ]
    assert len(lines) == 2 + len(rows)  # no line is of a name alone
    two = [[name + tail, *row[1:]] for name in ("mine", "not mine") for row in rows[:1]]
    assert [line.split()[0] for line in shown(headings, two, 80)[2:]] == ["mine", "not"]


@pytest.mark.parametrize("width", [20, 24, 30, 60, 80, 100, 200])
def test_eval_cuts_no_number_off(width):
    """Rich cuts a table off at the width of the terminal, and at 80 columns in a pipe."""
    rows = [["GOPR0384_11_00", "300", *[f"{n}8.765" for n in range(10, 20)]]]
    lines = shown(["sequence", "frames", *WIDE], rows, width)
    told = " ".join(lines).split()
    assert [word for word in told if "." in word] == rows[0][2:]
    several = [["a model", "estrnn-gopro-ds", "sequences", *row[1:]] for row in rows]
    told = " ".join(shown(["model", "protocol", "mean over", "frames", *WIDE], several, width))
    assert [word for word in told.split() if "." in word] == rows[0][2:]
    alone = shown(["sequence", "frames"], [["a", "300"]], width)
    assert alone == ["sequence  frames", "a            300"]


def test_eval_replaces_reports_and_refuses_frames_of_two_sizes(photographs, tmp_path, refused):
    report = tmp_path / "r.json"
    report.write_text("of an earlier run")
    base = ["eval", "--restored", str(photographs), "--sharp", str(photographs)]
    main([*base, "--json", str(report)])
    assert json.loads(report.read_text())["all"]["frames"] == 2
    write_image(photographs / "02.png", torch.zeros(3, 60, 60, dtype=torch.uint8))
    assert "frame 2 is 60x60" in refused(*base)
