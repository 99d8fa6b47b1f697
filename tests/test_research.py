"""`unsmear synth`, and what `unsmear eval` refuses before it measures. The tests of their parts
cover the rest.
"""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
import torch
from rich.console import Console

from tests.conftest import image, write_frames
from unsmear import research
from unsmear.cli import main
from unsmear.train.config import PRESETS, Stage
from unsmear.train.display import contact_sheet
from unsmear.video.images import read_image, write_image

WIDE = [
    "PSNR blurry", "PSNR", "SSIM blurry", "SSIM", "flicker blurry", "flicker", "VMAF",
    "NIQE blurry", "NIQE", "NIQE sharp",
]  # fmt: skip


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    small = dataclasses.replace(
        PRESETS["lite"], stages=(Stage(steps=3, clips=2, frames=3, crop=32),), shards=2
    )
    monkeypatch.setitem(PRESETS, "lite", small)
    return write_frames(tmp_path / "photos", (image(90, 120, index) / 255 for index in range(2)))


def test_contact_sheet_puts_every_frame_in_its_place():
    blurry, sharp = torch.rand(2, 3, 3, 8, 10), torch.rand(2, 3, 3, 8, 10)
    sheet = contact_sheet(blurry, sharp)
    assert sheet.shape == (3, 2 * (2 * 8 + 4), 3 * (10 + 4))
    for clip in range(2):
        for frame in range(3):
            top, left = clip * 20, frame * 14
            cell = sheet[:, top : top + 16, left : left + 10].float() / 255
            expected = torch.cat((blurry[clip, frame], sharp[clip, frame]), dim=-2)
            assert (cell - expected).abs().max() <= 0.5 / 255 + 1e-6
    assert (sheet[:, 16:20] == 255).all()


def test_synth_draws_the_batch_of_a_step(photographs, tmp_path, capsys):
    sheets = []
    for step in (0, 0, 2):
        target = tmp_path / f"{len(sheets)}.png"
        main(["synth", "--data", str(photographs), "-o", str(target), "--step", str(step)])
        sheets.append(read_image(target))
    assert sheets[0].shape == (3, 2 * 68, 3 * 36)
    assert torch.equal(sheets[0], sheets[1])
    assert not torch.equal(sheets[0], sheets[2])
    assert "2 photographs" in capsys.readouterr().out


def test_synth_changes_the_synthesis_as_train_does(photographs, tmp_path, refused):
    sheets = {}
    for noise in ("0", "0.2"):
        target = tmp_path / f"{noise}.png"
        base = ["synth", "--data", str(photographs), "-o", str(target)]
        main([*base, "--noise-most", noise, "--sharp-share", "1", "--compressed-share", "0"])
        sheets[noise] = read_image(target).float()
    apart = (sheets["0"] - sheets["0.2"]).abs()[:, :32, :32]
    assert apart.mean() > 2
    told = refused(*base, "--overwrite", "--sharp-share", "2")
    assert "sharp_share is 2.0: must be from 0 to 1" in told


def test_synth_overwrites_nothing_unasked_and_knows_its_steps(photographs, tmp_path, refused):
    target = tmp_path / "sheet.png"
    target.write_bytes(b"precious")
    base = ["synth", "--data", str(photographs), "-o", str(target)]
    for extra, message in (([], "--overwrite"), (["--step", "3"], "steps 0 to 2")):
        assert message in refused(*base, *extra)
    assert target.read_bytes() == b"precious"
    inside = photographs / "00.png"
    pixels = inside.read_bytes()
    for output, message in (
        (tmp_path / "s.txt", "suffix must be one of .bmp"),
        (tmp_path / "s", "suffix must be one of .bmp"),
        (tmp_path / "no" / "s.png", "there is no folder"),
        (inside, "is the input"),
    ):
        assert message in refused("synth", "--data", photographs, "-o", output, "--overwrite")
    assert inside.read_bytes() == pixels
    main([*base, "--overwrite"])
    assert read_image(target).shape[0] == 3


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


@pytest.mark.parametrize("width", [30, 60, 80, 100, 200])
def test_eval_cuts_no_number_off(width):
    """Rich cuts a table off at the width of the terminal, and at 80 columns in a pipe."""
    rows = [["GOPR0384_11_00", "300", *[f"{n}8.765" for n in range(10, 20)]]]
    lines = shown(["sequence", "frames", *WIDE], rows, width)
    told = " ".join(lines).split()
    assert [word for word in told if "." in word] == rows[0][2:]
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
