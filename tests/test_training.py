"""`unsmear synth`. tests/train/ holds the rest of training, test_options.py what arrives there."""

from __future__ import annotations

import torch

from unsmear.cli import main
from unsmear.train.display import contact_sheet
from unsmear.video.images import read_image


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
    for words in ("--step 0", "--step 0", "--step 2", "--seed 7"):
        target = tmp_path / f"{len(sheets)}.png"
        main(["synth", "--data", str(photographs), "-o", str(target), *words.split()])
        sheets.append(read_image(target))
    assert sheets[0].shape == (3, 2 * 68, 3 * 36)
    assert torch.equal(sheets[0], sheets[1])
    assert not torch.equal(sheets[0], sheets[2])
    assert not torch.equal(sheets[0], sheets[3])
    assert "2 photographs" in capsys.readouterr().out


def test_synth_draws_batches_of_the_wanted_shape(photographs, tmp_path, refused):
    base = ["synth", "--data", str(photographs), "-o", str(tmp_path / "sheet.png")]
    main([*base, "--clips", "3", "--frames", "2", "--crop", "24"])
    assert read_image(tmp_path / "sheet.png").shape == (3, 3 * 52, 2 * 28)
    for words, message in (
        ("--clips 0", "clips and frames must be at least 1"),
        ("--crop 20", "crop is 20: must be a multiple of 8 for 'lite'"),
        ("--seed -1", "seed is -1: must be 0 or more"),
    ):
        assert message in refused(*base, "--overwrite", *words.split())


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
