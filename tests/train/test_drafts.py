"""Clips whose neighbours are restored before the network learns from them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import TWO_ALIGNED, TWO_LEVELS, awake, picture
from unsmear.data.clips import unknown_clips
from unsmear.data.sources import find_training_files
from unsmear.data.synthesis import Synthesizer
from unsmear.errors import ConfigError
from unsmear.models import zoo
from unsmear.models.flow import clip_motion
from unsmear.models.zoo import Entry
from unsmear.train.batches import Batches
from unsmear.train.config import Stage, TrainConfig, check_drafts
from unsmear.train.drafts import draft_indices, with_drafts
from unsmear.train.loop import train
from unsmear.train.losses import charbonnier, restore_and_compare
from unsmear.train.state import STATE_FILE
from unsmear.train.team import Team
from unsmear.video.images import write_image

CPU = torch.device("cpu")
CONFIG = TrainConfig(
    model="finder",
    stages=(Stage(steps=4, clips=4, frames=3, crop=32),),
    optimizer="muon",
    learning_rate=1e-3,
    shards=2,
    refine_share=0.5,
)


@pytest.fixture(autouse=True)
def _row(monkeypatch):
    for name, config in (("finder", TWO_ALIGNED), ("tiny", TWO_LEVELS)):
        monkeypatch.setitem(zoo.ZOO, name, Entry(name=name, summary="", config=config, window=3))


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
@pytest.mark.parametrize(("share", "count"), [(0, 0), (0.25, 4), (0.5, 8), (1, 16)])
def test_the_last_clips_of_a_batch_whoever_has_them(processes, share, count):
    stage = Stage(steps=1, clips=16, frames=2, crop=32)
    config = dataclasses.replace(CONFIG, stages=(stage,), shards=8, refine_share=share)
    found = set()
    for rank in range(processes):
        shards = Team(rank=rank, size=processes).share(range(8))
        places = draft_indices(config, stage, shards)
        numbers = [8 * clip + shard for shard in shards for clip in range(2)]
        found |= {numbers[place] for place in places}
        if share == 0.5:
            assert len(places) == 8 // processes  # the work is shared equally
    assert found == set(range(16 - count, 16))


def test_drafts_are_of_short_blurs_as_of_long_ones(tmp_path, monkeypatch):
    """The synthesis sorts its clips by blur, so drafts must not take one end only."""
    write_image(tmp_path / "a.png", torch.zeros(3, 8, 8, dtype=torch.uint8))
    stage = Stage(steps=9, clips=6, frames=1, crop=16)

    def batch(_, count, *__):
        lengths = torch.arange(float(count)).view(-1, 1, 1, 1, 1).expand(-1, 1, 3, 16, 16)
        return unknown_clips(lengths, lengths)

    monkeypatch.setattr(Synthesizer, "batch", batch)
    for share in (0.0, 0.5):
        config = dataclasses.replace(CONFIG, model="tiny", stages=(stage,), refine_share=share)
        batches = Batches(config, find_training_files([tmp_path]), [], CPU, 1)
        drawn = torch.stack([batches.draw(step).blurry[:, 0, 0, 0, 0] for step in range(9)])
        shards = drawn.view(-1, 3)
        assert torch.equal(shards.sort().values, torch.arange(3.0).expand(18, 3))
        assert set(shards[:, -1].tolist()) == ({0.0, 1.0, 2.0} if share else {2.0})


def test_drafts_are_what_the_network_makes():
    network = awake(TWO_ALIGNED)
    blurry = torch.rand(3, 3, 3, 32, 40)
    clips = unknown_clips(blurry, blurry.flip(-1))._replace(motion=clip_motion(blurry))
    drafted = with_drafts(network, clips, [0, 2])
    assert drafted.seen is not None
    assert torch.equal(drafted.seen[1], blurry[1])
    assert torch.equal(drafted.blurry, blurry)
    restored = network(blurry).clamp(0, 1)
    torch.testing.assert_close(drafted.seen[::2], restored[::2], rtol=0, atol=5e-5)
    motion = drafted.motion.unflatten(0, (3, 3))
    assert torch.equal(motion[1], clips.motion.unflatten(0, (3, 3))[1])
    assert torch.equal(motion[::2].flatten(0, 1), clip_motion(drafted.seen[::2]))
    assert torch.equal(
        torch.cat([part.flatten() for part in drafted.tensors[-2:]]),
        torch.cat([drafted.motion.flatten(), drafted.seen.flatten()]),
    )


def test_the_loss_is_that_of_frames_made_again():
    network = awake(TWO_ALIGNED)
    blurry, sharp = torch.rand(2, 1, 3, 3, 32, 32)
    clips = unknown_clips(blurry, sharp)._replace(motion=clip_motion(blurry))
    drafted = with_drafts(network, clips, [0])
    restored, loss = restore_and_compare(network, drafted, charbonnier, 0.01)
    wanted = network(blurry, motion=drafted.motion, seen=network(blurry).clamp(0, 1))
    torch.testing.assert_close(restored, wanted, rtol=0, atol=2e-4)
    assert (restored - network(blurry)).abs().max() > 1e-3
    torch.testing.assert_close(loss, charbonnier(wanted, sharp), rtol=0, atol=1e-4)
    untold, _ = restore_and_compare(network, drafted, charbonnier, 0.0)
    torch.testing.assert_close(untold, restored, rtol=0, atol=2e-4)


def test_a_run_with_drafts_is_another_one_and_goes_on_to_the_same_bits(tmp_path):
    stills = tmp_path / "stills"
    stills.mkdir()
    for index in range(2):
        pixels = torch.from_numpy(picture(64, 80, index).transpose(2, 0, 1).copy())
        write_image(stills / f"{index}.png", pixels)

    def run(out, share=0.5, **options):
        config = dataclasses.replace(CONFIG, refine_share=share)
        batches = Batches(config, find_training_files([stills]), [], CPU, 1)
        train(config, batches, [], tmp_path / out, CPU, lambda _: None, **options)
        return load_file(tmp_path / out / STATE_FILE)

    whole, none = run("whole"), run("none", share=0.0)
    run("parts", stop_after=2)
    parts = run("parts")
    assert {key for key in whole if not torch.equal(whole[key], parts[key])} == set()
    assert any(not torch.equal(whole[key], none[key]) for key in whole)


def test_a_network_has_to_look_at_its_neighbours():
    check_drafts(CONFIG, TWO_ALIGNED)
    check_drafts(dataclasses.replace(CONFIG, refine_share=0.0), TWO_LEVELS)
    with pytest.raises(
        ConfigError, match=r"refine_share is 0\.5: 'finder' does not align neighbours"
    ):
        check_drafts(CONFIG, TWO_LEVELS)
    with pytest.raises(ConfigError, match=r"refine_share is 1\.5: must be from 0 to 1"):
        dataclasses.replace(CONFIG, refine_share=1.5)
