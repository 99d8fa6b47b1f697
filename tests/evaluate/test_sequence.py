"""A sequence is measured as its frames come, each beside the one before."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.conftest import one_scene
from tests.evaluate.conftest import save
from unsmear.data.pairs import find_pairs
from unsmear.errors import InputError
from unsmear.evaluate.benchmark import Benchmark
from unsmear.evaluate.frames import find_alone, find_comparisons, find_restored
from unsmear.evaluate.protocol import find_protocol
from unsmear.video.images import write_image

BASE = find_protocol("basicsr2d")


def test_what_changes_nothing_flickers_as_its_input(gopro):
    (results,) = Benchmark(BASE).run(find_pairs(gopro), iter)
    for result in results:
        assert result.frames[0].flicker_before is None
        for score in result.frames[1:]:
            assert score.flicker_before == score.flicker > 0
    (halved,) = Benchmark(BASE).run(find_pairs(gopro), lambda frames: (0.5 * x for x in frames))
    assert all(s.flicker_before != s.flicker for result in halved for s in result.frames[1:])
    assert [[s.flicker_before for s in result.frames] for result in halved] == [
        [s.flicker_before for s in result.frames] for result in results
    ]


def test_skipping_protocols_compare_with_the_frame_before_all_the_same(gopro):
    sequences = [pair for pair in find_pairs(gopro) if pair.name == "GOPR0384"]
    ((result,),) = Benchmark(find_protocol("cdvd")).run(sequences, iter)
    (score,) = result.frames
    assert score.index == 2
    assert score.flicker is not None


def test_sizes_that_differ_are_named(tmp_path):
    save(tmp_path / "made", one_scene(1, 16, 16))
    save(tmp_path / "truth", one_scene(1, 16, 20))
    with pytest.raises(InputError, match="differ in height or width"):
        Benchmark(BASE).compare(find_comparisons(tmp_path / "made", tmp_path / "truth"))


def test_a_frame_of_another_size_than_the_one_before_is_named(tmp_path):
    save(tmp_path / "made", [torch.zeros(3, 16, 16), torch.zeros(3, 16, 20)])
    with pytest.raises(InputError, match=r"frame 1 is 20x16, the one before 16x16"):
        Benchmark(BASE).compare(find_alone(tmp_path / "made"))


def test_restored_frames_of_another_size_than_the_blurry_are_refused(reds):
    (one, *_) = find_restored(reds / "val_blur", find_pairs(reds))
    write_image(one.blurry.paths[1], torch.zeros(3, 30, 32, dtype=torch.uint8))
    small = [torch.zeros(3, 24, 32, dtype=torch.uint8)] * 3
    with pytest.raises(InputError, match=r"blurry \(30, 32\) differ"):
        Benchmark(BASE).compare([replace(one, restored=small)])
