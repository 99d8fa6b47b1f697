"""benchmarks/synthesis.py: all sides are measured, spread over the clips, and recorded."""

from __future__ import annotations

import sys

import pytest
import torch

from tests.conftest import load_script, write_video
from tests.restoration.test_sharpness import dead_leaves
from unsmear.errors import ConfigError, InputError
from unsmear.evaluate.camera import CROP, MEASURES, CameraRecord
from unsmear.evaluate.records import record_from_json
from unsmear.video.images import integer_from_unit, write_image


@pytest.fixture(scope="module")
def bench():
    script = load_script("benchmarks/synthesis.py")
    script._BATCH = 1
    return script


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for seed in (0, 5):
        write_image(folder / f"{seed}.png", integer_from_unit(dead_leaves(seed)))
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "moving.mp4"
    write_video(path, frames=8, size=(320, 272))
    return path


def test_pieces_of_a_video_are_spread_over_it(bench, clip, monkeypatch):
    seen = []
    monkeypatch.setattr(bench, "measure_camera", lambda first, second: seen.append((first, second)))
    generator = torch.Generator().manual_seed(0)
    assert len(list(bench.real_pieces(clip, 9, generator))) == 9
    assert all(piece.shape == (3, CROP, CROP) for pair in seen for piece in pair)
    seen.clear()
    # At most as many pairs as the video has: each frame but the last, with the next one.
    assert len(list(bench.real_pieces(clip, 900, generator))) == 7 * 3
    assert not any(torch.equal(first, second) for first, second in seen)


def test_a_video_that_moves_steadily_is_measured(bench, clip):
    found = list(bench.real_pieces(clip, 6, torch.Generator().manual_seed(0)))
    assert [piece.step for piece in found] == pytest.approx([4] * 6, abs=0.5)


def test_a_single_frame_shows_no_step(bench, tmp_path):
    write_video(tmp_path / "still.mp4", frames=1)
    with pytest.raises(InputError, match="has 1 frames: at least two"):
        list(bench.real_pieces(tmp_path / "still.mp4", 3, torch.Generator()))


@pytest.mark.parametrize("name", ["lite", "paper"])  # with and without coded clips
def test_any_preset_gives_pieces_of_two_frames(bench, photographs, name):
    batches = bench.open_batches([photographs], [], name, 0)
    blurry = batches.draw(0).blurry
    assert blurry.shape[1:] == (2, 3, CROP, CROP)


def test_recorded_pairs_are_not_synthesised(bench, photographs, tmp_path):
    for side in ("blur", "sharp"):
        (tmp_path / "seq" / side).mkdir(parents=True)
        for number in range(2):
            frame = torch.zeros(3, CROP, CROP, dtype=torch.uint8)
            write_image(tmp_path / "seq" / side / f"{number}.png", frame)
    batches = bench.open_batches([photographs, tmp_path], [], "lite", 0)
    assert batches.summary.endswith(" 0 paired sequences")
    with pytest.raises(InputError, match="add longer ones, or photographs"):
        bench.open_batches([tmp_path], [], "lite", 0)


def test_shares_take_the_place_of_the_presets(bench, photographs):
    def white(shares):
        blurry = bench.open_batches([photographs], [], "lite", 0, shares).draw(0).blurry
        return float((blurry > 0.999).double().mean())

    assert white({"bright_share": 1.0}) > white(None) + 0.03


def test_a_run_prints_a_table_and_writes_a_record_without_folders(
    bench, photographs, clip, tmp_path, monkeypatch, capsys
):
    record = tmp_path / "synthesis-lite.json"
    arguments = ["--data", str(photographs), "--clips", str(clip), "--json", str(record)]
    monkeypatch.setattr(
        sys, "argv", ["synthesis.py", *arguments, "--pieces", "3", "--quality", "5"]
    )
    bench.main()
    table = capsys.readouterr().out
    coded = "synthesised, coded at quality 5"
    assert f"| measure | moving | synthesised | {coded} |" in table
    assert str(clip.parent) not in record.read_text()
    assert str(photographs.parent) not in record.read_text()
    read = record_from_json(CameraRecord, record.read_text())
    assert read.pieces == {"moving": 3, "synthesised": 3, coded: 3}
    blocks = {side: measures["blocking"].middle for side, measures in read.sides.items()}
    assert blocks[coded] > 1.5 > blocks["synthesised"]
    assert all(tuple(measures) == MEASURES for measures in read.sides.values())
    assert read.sides["moving"]["step"].middle == pytest.approx(4, abs=0.5)
    monkeypatch.setattr(
        sys, "argv", ["synthesis.py", *arguments, "--pieces", "2", "--coarse-share", "0.5"]
    )
    bench.main()
    read = record_from_json(CameraRecord, record.read_text())
    assert read.title == "Preset `lite`, coarse share 0.5 against real video"
    monkeypatch.setattr(sys, "argv", ["synthesis.py", *arguments, "--pieces", "0"])
    with pytest.raises(ConfigError, match="at least one a clip"):
        bench.main()
