"""NIQE: its statistics against other implementations, results for photographs, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage, optimize, special
from skimage import data
from torch.nn import functional

from tests.conftest import load_script, write_video
from unsmear.cli import main
from unsmear.data.pairs import find_pairs
from unsmear.errors import InputError
from unsmear.evaluate.benchmark import Benchmark
from unsmear.evaluate.niqe import (
    FEATURES,
    FITTED,
    PATCH,
    fit_asymmetric,
    fit_symmetric,
    gaussian_of,
    load_model,
    model_as_json,
    niqe,
    normalized,
    patch_features,
    sharp_features,
)
from unsmear.evaluate.protocol import find_protocol
from unsmear.evaluate.report import remarks
from unsmear.evaluate.scores import BenchmarkResult
from unsmear.video.images import integer_from_unit, write_image

MODEL = load_model()


def photograph(name):
    """(3, H, W), 0..1, at most 480x480."""
    pixels = getattr(data, name)()[:480, :480]
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()) / 255


def smeared(frame, pixels):
    wide = functional.pad(frame[None], (pixels // 2, pixels // 2, 0, 0), "replicate")[0]
    return wide.unfold(-1, pixels, 1).mean(dim=-1)


def draws(shape, left, right, count=200_000, seed=0):
    """Samples of an asymmetric generalised Gaussian: a gamma variate's power, on a random side."""
    random = np.random.default_rng(seed)
    size = random.gamma(1 / shape, size=count) ** (1 / shape)
    below = random.random(count) < left / (left + right)
    return torch.from_numpy(np.where(below, -left, right) * size)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.5, 3), st.floats(0.2, 5), st.floats(0.25, 4), st.integers(0, 1000))
def test_fits_find_what_was_drawn_from(shape, left, skew, seed):
    right = left * skew
    found = fit_asymmetric(draws(shape, left, right, seed=seed))
    assert float(found.shape) == pytest.approx(shape, rel=0.08)
    assert float(found.left) == pytest.approx(left, rel=0.12)
    assert float(found.right) == pytest.approx(right, rel=0.12)
    mean = (right - left) * math.gamma(2 / shape) / math.gamma(1 / shape)
    assert float(found.mean) == pytest.approx(mean, abs=0.1 * max(left, right) / min(shape, 1) ** 2)
    even = fit_symmetric(draws(shape, left, left, seed=seed))
    assert float(even.shape) == pytest.approx(shape, rel=0.08)
    assert float(even.scale) == pytest.approx(left, rel=0.12)


def shape_from(ratio):
    def off(shape):
        return (
            special.gamma(2 / shape) ** 2 / (special.gamma(1 / shape) * special.gamma(3 / shape))
            - ratio
        )

    return optimize.brentq(off, 0.1, 15, xtol=1e-12)


def theirs(luma):
    """All features of one patch, row by row, with SciPy and Pillow: luma (H, W), float64."""
    offset = np.arange(-3, 4)
    tap = np.exp(-(offset**2) / (2 * (7 / 6) ** 2))
    window = np.outer(tap, tap) / np.outer(tap, tap).sum()
    columns = []
    for side in (96, 48):
        mean = ndimage.correlate(luma, window, mode="nearest")
        square = ndimage.correlate(luma**2, window, mode="nearest")
        field = (luma - mean) / (np.sqrt(np.abs(square - mean**2)) + 1)
        rows = []
        for top in range(0, luma.shape[0], side):
            for start in range(0, luma.shape[1], side):
                patch = field[top : top + side, start : start + side]
                shape = shape_from(np.abs(patch).mean() ** 2 / (patch**2).mean())
                scale = np.sqrt((patch**2).mean()) * np.sqrt(
                    special.gamma(1 / shape) / special.gamma(3 / shape)
                )
                row = [shape, scale]
                for down, along in ((0, 1), (1, 0), (1, 1), (1, -1)):
                    products = []
                    for y in range(side - down):
                        for x in range(max(-along, 0), side - max(along, 0)):
                            products.append(patch[y, x] * patch[y + down, x + along])
                    p = np.array(products)
                    left, right = np.sqrt((p[p < 0] ** 2).mean()), np.sqrt((p[p > 0] ** 2).mean())
                    skew = left / right
                    ratio = np.abs(p).mean() ** 2 / (p**2).mean()
                    ratio *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
                    shape = shape_from(ratio)
                    g1, g2, g3 = (special.gamma(n / shape) for n in (1, 2, 3))
                    left, right = left * np.sqrt(g1 / g3), right * np.sqrt(g1 / g3)
                    row += [shape, (right - left) * g2 / g1, left, right]
                rows.append(row)
        columns.append(np.array(rows))
        small = Image.fromarray(luma.astype(np.float32)).resize(
            (luma.shape[1] // 2, luma.shape[0] // 2), Image.Resampling.BICUBIC
        )
        luma = np.asarray(small).astype(np.float64)
    return np.concatenate(columns, axis=1)


def test_features_are_those_of_an_independent_computation():
    luma = data.camera()[100:300, 150:350].astype(np.float64)  # 200x200: 8 are left out
    features, sharpness = patch_features(torch.from_numpy(luma))
    assert features.shape == (4, FEATURES)
    np.testing.assert_allclose(features.numpy(), theirs(luma[:192, :192]), rtol=2e-4, atol=2e-5)
    _, deviation = normalized(torch.from_numpy(luma[:192, :192]))
    assert float(sharpness[1]) == pytest.approx(float(deviation[:96, 96:].mean()))


def test_a_distance_is_that_of_two_gaussians():
    frame = photograph("coffee")
    own = gaussian_of(patch_features(255 * luma(frame))[0])
    assert niqe(frame, own) == pytest.approx(0, abs=1e-6)
    a, b = own.mean.numpy(), MODEL.mean.numpy()
    between = np.linalg.inv((own.covariance.numpy() + MODEL.covariance.numpy()) / 2)
    assert niqe(frame, MODEL) == pytest.approx(math.sqrt((a - b) @ between @ (a - b)), rel=1e-5)


def luma(frame):
    return torch.einsum("c,chw->hw", torch.tensor([0.299, 0.587, 0.114]), frame)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_the_more_a_photograph_is_spoilt_the_worse_it_is(name):
    frame = photograph(name)
    by_blur = [niqe(smeared(frame, pixels), MODEL) for pixels in (1, 5, 9, 15)]
    assert by_blur == sorted(by_blur)
    assert by_blur[1] > by_blur[0] + 0.5
    grain = torch.randn(frame.shape, generator=torch.Generator().manual_seed(0))
    by_noise = [niqe((frame + s * grain).clamp(0, 1), MODEL) for s in (0.0, 0.05, 0.1, 0.2)]
    assert by_noise == sorted(by_noise)
    assert by_noise[1] > by_noise[0] + 0.5


def test_colour_does_not_count_and_gray_will_do():
    frame = photograph("coffee")
    gray = luma(frame).expand(3, -1, -1)
    assert niqe(gray, MODEL) == pytest.approx(niqe(frame, MODEL), abs=1e-3)


def test_what_has_no_texture_has_no_value_and_bars_do_not_count():
    assert niqe(torch.full((3, 192, 192), 0.5), MODEL) is None
    assert niqe(torch.zeros(3, 96, 192), MODEL) is None
    frame = photograph("coffee")[:, :288, :384]
    barred = torch.cat((torch.zeros(3, 192, 384), frame), dim=1)  # two rows of patches
    assert niqe(barred, MODEL) == pytest.approx(niqe(frame, MODEL), rel=0.1)
    one_left = torch.zeros(3, 192, 288)
    one_left[:, 98:190, 98:190] = frame[:, :92, :92]
    assert niqe(one_left, MODEL) is None


@pytest.mark.parametrize("size", [(96, 191), (95, 400), (20, 20)])
def test_too_small_a_frame_is_refused(size):
    with pytest.raises(InputError, match=f"{size[1]}x{size[0]} is too small.*192x96"):
        niqe(torch.rand(3, *size), MODEL)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"mean": [0], "covariance": []}',
        '{"mean": "no", "covariance": [[1]]}',
        "\xff",
    ],
)
def test_a_file_that_holds_no_model_is_told(tmp_path, text):
    (tmp_path / "m.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"m\.json' is not a NIQE model"):
        load_model(tmp_path / "m.json")


def test_the_model_is_a_gaussian_and_says_what_it_was_fitted_on(tmp_path):
    assert torch.equal(MODEL.covariance, MODEL.covariance.T)
    assert torch.linalg.eigvalsh(MODEL.covariance).min() > 0
    (tmp_path / "m.json").write_text(model_as_json(MODEL, {"photographs": 3}))
    again = load_model(tmp_path / "m.json")
    torch.testing.assert_close(again.covariance, MODEL.covariance)
    torch.testing.assert_close(again.mean, MODEL.mean)
    told = json.loads(Path(FITTED).read_text())["fitted on"]
    assert told["photographs"] > 300
    assert "not comparable with published" in told["remark"]
    assert "/" not in told["origin"].replace("scripts/fit_niqe.py", "").replace("DATA/train", "")


def test_only_the_sharpest_patches_teach():
    frame = photograph("astronaut")
    half = torch.cat((frame[..., :192], smeared(frame, 25)[..., 192:]), dim=-1)
    features, sharpness = patch_features(255 * luma(half))
    chosen = sharp_features(255 * luma(half))
    assert 1 <= len(chosen) == int((sharpness > 0.75 * sharpness.max()).sum()) < len(features)


def test_pictures_are_compared_with_themselves(monkeypatch, capsys):
    """Of four images, one has texture only before a change, one only after it, and one is too
    small: the remaining one counts.
    """
    script = load_script("scripts/fit_niqe.py")
    told = {0: None, 1: 9.0, 2: 5.0, 3: 4.0, 4: 1.0, 5: None}  # selected by the first pixel
    frames = {"a": 0, "b": 2, "c": 4}
    pictures = {name: torch.full((3, PATCH, 2 * PATCH), float(n)) for name, n in frames.items()}
    pictures["small"] = torch.zeros(3, PATCH, PATCH)
    monkeypatch.setattr(script, "read", pictures.get)
    monkeypatch.setattr(script, "niqe", lambda frame, _: told[int(frame[0, 0, 0])])
    changes = {"changed": lambda frame: frame + 1, "lost": lambda frame: 0 * frame}
    monkeypatch.setattr(script, "CHANGES", changes)
    script.check("four", list(pictures), MODEL)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "four, 3 pictures, 1 more are too small:"
    assert shown[1] == "changed: mean 4.00, median 4.00, worse than as it was: 0 % of 1"
    assert shown[2] == "lost: no picture has any texture left"
    with pytest.raises(InputError, match="none of 1 pictures is large enough"):
        script.check("one", ["small"], MODEL)
    with pytest.raises(InputError, match="no picture has any texture"):
        script.check("one", ["a"], MODEL)


def test_changes_are_as_large_as_their_names_say():
    script = load_script("scripts/fit_niqe.py")
    grey = torch.full((3, 96, 96), 0.5)
    noisy = script.CHANGES["noise of 10 code values"](grey)
    assert 255 * float((noisy - grey).std()) == pytest.approx(10, rel=0.05)
    line = torch.zeros(3, 8, 40)
    line[..., 20] = 1
    smeared = script.CHANGES["smeared by 5 pixels"](line)[0, 0]
    assert torch.nonzero(smeared).flatten().tolist() == [18, 19, 20, 21, 22]
    assert float(smeared.max()) == pytest.approx(0.48, abs=0.01)  # a fifth of the light


def test_the_script_fits_and_checks(tmp_path, monkeypatch, capsys):
    script = load_script("scripts/fit_niqe.py")
    (tmp_path / "photos").mkdir()
    for name in ("astronaut", "coffee", "chelsea"):
        write_image(tmp_path / "photos" / f"{name}.png", integer_from_unit(photograph(name)))
    pairs = tmp_path / "pairs"
    for side in ("blur", "sharp"):
        (pairs / "cat" / side).mkdir(parents=True)
        write_image(pairs / "cat" / side / "0.png", integer_from_unit(photograph("chelsea")))
    monkeypatch.setattr(script, "HELD_OUT", 3)
    monkeypatch.setattr(script, "CHANGES", dict(list(script.CHANGES.items())[:3]))
    fitted = tmp_path / "model.json"
    threads = str(torch.get_num_threads())
    photos = ["--data", str(tmp_path / "photos")]
    for work, told in (("fit", photos), ("check", [*photos, "--pairs", str(pairs)])):
        told = [*told, "--model", str(fitted), "--threads", threads]
        monkeypatch.setattr("sys.argv", ["fit_niqe.py", work, *told])
        script.main()
    shown = capsys.readouterr().out
    assert "patches of 2 photographs" in shown
    assert shown.count("smeared by 5 pixels: mean") == 2
    assert "cat, 1 pictures" in shown
    assert json.loads(fitted.read_text())["fitted on"]["held out"] == 1


def test_the_command_shows_it_for_blurry_restored_and_sharp(tmp_path, weights_file, capsys):
    frame = photograph("astronaut")[:, 96:288, 96:384]
    for side, one in (("blur", smeared(frame, 9)), ("sharp", frame)):
        (tmp_path / "set" / "a" / side).mkdir(parents=True)
        for index in range(2):
            write_image(tmp_path / "set" / "a" / side / f"{index}.png", integer_from_unit(one))
    files = {name: tmp_path / name for name in ("r.json", "r.md")}
    base = ["eval", "--data", str(tmp_path / "set"), "-m", str(weights_file), "--device", "cpu"]
    reports = ["--json", str(files["r.json"]), "--markdown", str(files["r.md"])]
    main([*base, *reports])
    assert "NIQE" not in capsys.readouterr().out + files["r.md"].read_text(encoding="utf-8")
    assert json.loads(files["r.json"].read_text())["remarks"] == []
    main([*base, "--niqe", *reports])
    shown = capsys.readouterr().out
    assert shown.count("NIQE") == 4  # three columns and a note
    assert "not with published ones" in " ".join(shown.split())
    assert "| NIQE blurry | NIQE | NIQE sharp |" in files["r.md"].read_text(encoding="utf-8")
    assert "not with published ones" in files["r.md"].read_text(encoding="utf-8")
    record = json.loads(files["r.json"].read_text())
    (remark,) = record["remarks"]
    assert remark.startswith("NIQE")
    score = record["sequences"][0]["scores"][1]
    assert score["niqe_sharp"] == pytest.approx(niqe(frame, MODEL), rel=1e-4)
    assert score["niqe_before"] > score["niqe_sharp"] + 0.5
    assert score["niqe"] == pytest.approx(record["all"]["niqe"], rel=0.2)


def test_the_means_of_all_sides_are_over_the_same_frames(gopro, monkeypatch):
    monkeypatch.setattr("unsmear.evaluate.benchmark.check_size", lambda *_: None)
    monkeypatch.setattr(
        "unsmear.evaluate.sequence.niqe", lambda frame, _: 1.0 if frame.std() else None
    )
    benchmark = Benchmark(find_protocol("basicsr2d"), pristine=MODEL)

    def restore(frames):
        return (frame * (index != 2) for index, frame in enumerate(frames))

    for restored, frames in ((iter, [0, 1, 2, 3, 4]), (restore, [0, 1, 3, 4])):
        (sequences,) = benchmark.run(find_pairs(gopro)[:1], restored)
        scores = sequences[0].frames
        for side in ("niqe", "niqe_before", "niqe_sharp"):
            assert [score.index for score in scores if getattr(score, side)] == frames
        told = remarks(BenchmarkResult("mine", benchmark.protocols[0], tuple(sequences)))
        assert told[1:] == (
            ["mine: NIQE is of 4 of 5 frames; the others have too little texture"]
            if len(frames) == 4
            else []
        )


def test_the_command_takes_videos_and_refuses_small_ones(tmp_path, capsys):
    large = write_video(tmp_path / "large.mp4", frames=3, size=(192, 96))
    main(["eval", "--restored", str(large), "--sharp", str(large), "--niqe"])
    shown = capsys.readouterr().out
    assert shown.count("NIQE") == 3  # there is no blurry side
    small = write_video(tmp_path / "small.mp4", frames=3)
    with pytest.raises(SystemExit) as stopped:
        main(["eval", "--restored", str(small), "--sharp", str(small), "--niqe"])
    assert stopped.value.code == 2
    assert "64x48 is too small for NIQE" in capsys.readouterr().err
