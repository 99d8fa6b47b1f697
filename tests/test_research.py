"""`unsmear synth` (train and eval are tried where their parts are tested)."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.conftest import picture
from unsmear.cli import main
from unsmear.train.config import PRESETS, Stage
from unsmear.train.display import contact_sheet
from unsmear.video.images import read_image, write_image


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    small = dataclasses.replace(
        PRESETS["lite"], stages=(Stage(steps=3, clips=2, frames=3, crop=32),), shards=2
    )
    monkeypatch.setitem(PRESETS, "lite", small)
    (tmp_path / "photos").mkdir()
    for index in range(2):
        image = torch.from_numpy(picture(90, 120, index).transpose(2, 0, 1).copy())
        write_image(tmp_path / "photos" / f"{index}.png", image)
    return tmp_path / "photos"


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


def test_synth_overwrites_nothing_unasked_and_knows_its_steps(photographs, tmp_path, capsys):
    target = tmp_path / "sheet.png"
    target.write_bytes(b"precious")
    base = ["synth", "--data", str(photographs), "-o", str(target)]
    for extra, message in (([], "--overwrite"), (["--step", "3"], "steps 0 to 2")):
        with pytest.raises(SystemExit) as stopped:
            main([*base, *extra])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
    assert target.read_bytes() == b"precious"
    main([*base, "--overwrite"])
    assert read_image(target).shape[0] == 3
