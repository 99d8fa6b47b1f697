"""`unsmear eval --save`: the restored frames as files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.conftest import one_scene
from unsmear.cli import main
from unsmear.data.pairs import find_pairs
from unsmear.errors import InputError, OutputError
from unsmear.evaluate import saving
from unsmear.evaluate.benchmark import Benchmark
from unsmear.evaluate.frames import find_restored
from unsmear.evaluate.protocol import find_protocol
from unsmear.evaluate.saving import check_places, saved_frames
from unsmear.video.images import integer_from_unit, read_image, write_image


@pytest.fixture
def pairs(tmp_path):
    for name in ("a", "deep/b"):
        sharp = one_scene(3, 24, 32)
        for side, noise in (("sharp", 0.0), ("blur", 0.05)):
            folder = tmp_path / "set" / name / side
            folder.mkdir(parents=True)
            for index, frame in enumerate((sharp + noise * torch.rand_like(sharp)).clamp(0, 1)):
                write_image(folder / f"x{index}.bmp", integer_from_unit(frame))
    return tmp_path / "set"


def files_below(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_saved_frames_measure_as_the_network_did(pairs, tmp_path, weights_file, capsys):
    out, measured = tmp_path / "out", []
    base = ["eval", "--data", str(pairs), "--json", str(tmp_path / "r.json")]
    for extra in (
        ["-m", str(weights_file), "--device", "cpu", "--save", str(out)],
        ["--restored", str(out)],
    ):
        main([*base, *extra])
        measured.append(json.loads((tmp_path / "r.json").read_text()))
    assert f"written: {out}" in capsys.readouterr().out.replace("\n", "")
    assert files_below(out) == [f"{name}/x{i}.png" for name in ("a", "deep/b") for i in range(3)]
    assert read_image(out / "a" / "x0.png").dtype == torch.uint8
    for part in ("all", "sequences"):
        assert measured[0][part] == measured[1][part]
    assert measured[0]["all"]["psnr"] != measured[0]["all"]["psnr_before"]


def test_frames_are_saved_as_the_protocol_rounds_them(pairs, tmp_path):
    down = replace(find_protocol("estrnn"), skip=1)
    sequences = find_pairs(pairs)
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with saved_frames(tmp_path / "link") as keep:
        results = Benchmark(down).run(sequences, lambda xs: (0.9 * x for x in xs), keep)
        assert files_below(tmp_path / "out") == []
    assert len(files_below(tmp_path / "out")) == 6  # also those that do not count
    assert Benchmark(down).compare(find_restored(tmp_path / "out", sequences)) == results


def test_nothing_is_left_of_frames_that_could_not_be_saved(pairs, tmp_path, monkeypatch):
    def full(path: Path, image: torch.Tensor) -> None:
        raise OutputError(f"cannot write '{path}': No space left on device")

    monkeypatch.setattr(saving, "write_image", full)
    before = sorted(tmp_path.iterdir())
    message = rf"cannot write '{tmp_path}/out/a/x0.png': No space"
    with pytest.raises(OutputError, match=message), saved_frames(tmp_path / "out") as keep:
        Benchmark(find_protocol("basicsr2d")).run(find_pairs(pairs), iter, keep)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("set/a/new", "is the input 'set' or inside it"),
        ("full", "'full' is not empty"),
        ("full/file", "is a file"),
        ("no/out", "there is no folder"),
        ("r.json", "is given for a report too"),
    ],
)
def test_folders_that_cannot_take_the_frames_are_refused(
    pairs, tmp_path, monkeypatch, capsys, place, message
):
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/file").write_text("precious")
    with pytest.raises(SystemExit) as stopped:
        main(["eval", "--data", "set", "-m", "lite", "--save", place, "--json", "r.json"])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "set"]


def test_frames_that_would_be_one_file_are_named(pairs):
    (one, other) = find_pairs(pairs)
    check_places([one, other])
    with pytest.raises(InputError, match=r"a/blur/x0.bmp' and .*b/blur/x0.bmp' .*as 'a/x0.png'"):
        check_places([one, replace(other, name="a")])
