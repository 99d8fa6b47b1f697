"""Batches of synthesised clips and recorded pairs, and sources that give none."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.train.conftest import CONFIG, CPU, TRACER, request, run
from unsmear.data.sources import find_training_files
from unsmear.data.trails import unknown_trails
from unsmear.errors import CombinedError, InputError
from unsmear.train.batches import Batches
from unsmear.train.config import Stage
from unsmear.train.preflight import prepare
from unsmear.video.images import write_image

pytestmark = pytest.mark.usefixtures("tiny")


def test_sequences_too_short_or_too_small_are_named(pairs, tmp_path):
    long = dataclasses.replace(CONFIG, stages=(Stage(steps=1, clips=1, frames=9, crop=32),))
    with pytest.raises(InputError, match="'seq' has 4 frames"):
        run(long, pairs, tmp_path / "a")
    wide = dataclasses.replace(CONFIG, stages=(Stage(steps=1, clips=1, frames=2, crop=72),))
    with pytest.raises(InputError, match="80x64"):
        run(wide, pairs, tmp_path / "b")


def test_the_batch_has_trails_for_all_its_clips(data, pairs):
    config = dataclasses.replace(
        TRACER, stages=(Stage(steps=1, clips=6, frames=2, crop=40),), shards=6
    )
    batches = Batches(config, find_training_files([data, pairs]), [], CPU, 1)
    clips = batches.draw(0)
    assert [part.shape[:2] for part in clips.tensors[:4]] == [(6, 2)] * 4
    assert clips.trails.vectors.shape == (6, 2, 2, 5, 5)
    known = clips.trails.known.flatten(1).amax(dim=1)
    assert 0 < known.sum() < 6  # both synthesis and pairs
    blank = unknown_trails(clips.blurry)
    assert torch.equal(clips.trails.vectors[known == 0], blank.vectors[known == 0])


def test_recorded_clips_come_from_every_place_and_moment_the_same_on_both_sides(tmp_path):
    """Each pixel holds its frame, its row and its column; sharp ones 100 more of each."""
    places = torch.meshgrid(torch.arange(20), torch.arange(22), indexing="ij")
    for index in range(4):
        for side, more in (("blur", 0), ("sharp", 100)):
            path = tmp_path / "s" / side / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = torch.stack((torch.full((20, 22), index), *places)) + more
            write_image(path, image.to(torch.uint8))
    stage = Stage(steps=9, clips=8, frames=2, crop=16)
    config = dataclasses.replace(CONFIG, stages=(stage,))
    batches = Batches(config, find_training_files([tmp_path]), [], CPU, 1)
    drawn = [batches.draw(step) for step in range(9)]
    blurry, sharp = (
        (torch.cat([clips.pair[side] for clips in drawn]) * 255).round().int() for side in (0, 1)
    )
    assert torch.equal(sharp, blurry + 100)
    frame, row, column = blurry.amin(dim=(-2, -1)).unbind(dim=-1)
    assert {tuple(clip) for clip in frame.tolist()} == {
        (0, 1), (1, 2), (2, 3), (1, 0), (2, 1), (3, 2),
    }  # fmt: skip
    corners = set(zip(row[:, 0].tolist(), column[:, 0].tolist(), strict=True))
    assert {top for top, _ in corners} == set(range(5))
    assert {left for _, left in corners} == set(range(7))
    assert len({left - top for top, left in corners}) > 7  # drawn apart
    across = (blurry[:, 0, 2, 0, 1] - blurry[:, 0, 2, 0, 0]).tolist()
    assert set(across) == {-1, 0, 1}  # turned and mirrored


def test_reseeded_batches_are_others_from_the_same_sources(data):
    batches = Batches(CONFIG, find_training_files([data]), [], CPU, 1)
    first, other = batches.draw(0)[0], batches.reseeded(CONFIG.seed + 1).draw(0)[0]
    assert not torch.equal(first, other)
    assert torch.equal(batches.draw(0)[0], first)
    assert torch.equal(batches.reseeded(CONFIG.seed).draw(0)[0], first)


def test_damaged_photographs_are_all_named(stills, tmp_path):
    for index in range(2):
        (stills / f"{index}.png").write_bytes(b"no picture")
    plan = prepare(request(stills, tmp_path))
    with pytest.raises(CombinedError, match=r"\(1\).*0\.png.*\(2\).*1\.png"):
        Batches(plan.config, plan.files, [], CPU, 2)
