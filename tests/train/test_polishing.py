"""Training of the polishing network: samples, crops of them, and the run itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.conftest import ALIGNED, SMALL, mild, picture
from tests.models.test_polish import TOLD, lively
from unsmear.data.clips import unknown_clips
from unsmear.data.pairs import find_pairs
from unsmear.errors import ConfigError, InputError, ModelError
from unsmear.models.checkpoint import Provenance, load_polish_weights, read_provenance
from unsmear.models.flow import clip_motion, luma_of
from unsmear.models.polish import CHANNELS, PolishConfig, PolishNetwork
from unsmear.models.zoo import LoadedModel
from unsmear.restoration.burst import fusions_of
from unsmear.train.config import Stage
from unsmear.train.loop import train
from unsmear.train.polishing import (
    PLAN,
    Polishing,
    Samples,
    TrainedPolish,
    fill_folder,
    make_samples,
)
from unsmear.video.images import write_image

CPU = torch.device("cpu")
ORIGIN = Provenance(model="small", steps=1, seed=0, hours=0.0, device="cpu", version="0")
FAST = dataclasses.replace(
    PLAN, stages=(Stage(steps=8, clips=4, frames=1, crop=32),), warmup=0, shards=2
)


def model(name="small", config=SMALL):
    return LoadedModel(name, mild(config), 3, ORIGIN)


def clips(seed=0, side=64):
    """Two clips of 7 frames that move, as synthesis makes them."""
    random = torch.Generator().manual_seed(seed)
    wide = torch.rand(2, 3, side + 16, side + 16, generator=random)
    sharp = torch.stack([wide[..., 8 : 8 + side, n : n + side] for n in range(7)], dim=1)
    blurry = (sharp + sharp.roll(1, dims=-1)) / 2
    return unknown_clips(blurry, sharp)._replace(motion=clip_motion(blurry))


def untrained(told=False):
    return PolishNetwork(PolishConfig(told=told)).eval()


class Drawn:
    """A source of batches that notes what it was asked for."""

    def __init__(self):
        self.steps = []

    def draw(self, step, shards=None):
        self.steps.append(step)
        return clips(step)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "told"])
def told(request):
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory, told):
    folder = tmp_path_factory.mktemp("samples")
    fill_folder(folder, Drawn, [model("one"), model("two", ALIGNED)], untrained(told), 2)
    return folder


def test_samples_are_what_restoration_would_polish(told):
    drawn, restorer = clips(), model(config=ALIGNED)
    samples = torch.from_numpy(make_samples(drawn, restorer, untrained(told), turn=1)) / 255
    assert samples.shape == (8, 19 if told else 16, 64, 64)
    restored = restorer.network(drawn.blurry, motion=drawn.motion).clamp(0, 1)
    for clip, places in ((0, (2, 3, 4, 1)), (1, (2, 3, 4, 5))):
        fusions = fusions_of(restored[clip], drawn.blurry[clip], 2, places, untrained(told))
        rows = enumerate(zip(places, fusions, strict=True), start=4 * clip)
        for row, (place, (fusion,)) in rows:
            signed = 0.5 + 2 * fusion[CHANNELS:]
            wanted = torch.cat((fusion[:CHANNELS], signed, drawn.sharp[clip, place])).clamp(0, 1)
            torch.testing.assert_close(samples[row], wanted, rtol=0, atol=0.6 / 255)
    # The last frame but one lacks the second after it; the frame itself stands in.
    own, last = luma_of(samples[7:, 6:9]), samples[7, CHANNELS - 1]
    torch.testing.assert_close(last, own[0, 0], rtol=0, atol=1.1 / 255)


def test_later_passes_are_samples_too():
    """What a pass takes is what the one before gave, and the truth is the same."""
    network = lively(dataclasses.replace(TOLD, passes=2), size=0.05)
    samples = torch.from_numpy(make_samples(clips(), model(), network)).float() / 255
    assert samples.shape == (16, 19, 64, 64)
    first, second = samples[::2], samples[1::2]
    assert torch.equal(first[:, 3:CHANNELS], second[:, 3:CHANNELS])
    assert torch.equal(first[:, 16:], second[:, 16:])
    evidence = (first[:, CHANNELS:16] - 0.5) / 2
    wanted = network(torch.cat((first[:, :CHANNELS], evidence), dim=1)).clamp(0, 1)
    torch.testing.assert_close(second[:, :3], wanted, rtol=0, atol=4 / 255)
    assert (wanted - first[:, :3]).abs().max() > 20 / 255


def test_files_that_exist_are_kept_and_the_others_made(tmp_path):
    made, models, drawn = tmp_path / "samples", [model("one"), model("two")], Drawn()
    fill_folder(made, lambda: drawn, models, untrained(), 2)
    assert drawn.steps == [0, 1, 2, 3]
    names = ["one-00000.npy", "one-00001.npy", "two-00000.npy", "two-00001.npy"]
    assert sorted(path.name for path in made.iterdir()) == names
    before = (made / names[2]).read_bytes()
    (made / names[2]).unlink()
    (made / names[1]).write_bytes(b"kept")
    again = Drawn()
    fill_folder(made, lambda: again, models, untrained(), 2)
    assert again.steps == [1]
    assert (made / names[2]).read_bytes() == before
    assert (made / names[1]).read_bytes() == b"kept"

    def never():
        raise AssertionError

    fill_folder(made, never, models, untrained(), 2)


def test_a_batch_is_that_of_its_step_and_shards(folder, told):
    samples = Samples(folder, FAST, CPU, told=told)
    assert samples.summary == "16 samples of one, 16 samples of two"
    whole = samples.draw(3)
    assert whole.blurry.shape == (4, 1, 16 if told else 13, 32, 32)
    assert whole.sharp.shape == (4, 1, 3, 32, 32)
    parts = [Samples(folder, FAST, CPU, told=told).draw(3, [shard]) for shard in (0, 1)]
    assert torch.equal(torch.cat([part.blurry for part in parts]), whole.blurry)
    assert torch.equal(torch.cat([part.sharp for part in parts]), whole.sharp)
    assert not torch.equal(samples.draw(4).blurry, whole.blurry)


def test_crops_are_turned_and_reversed_as_one(tmp_path, told):
    """Channels keep their places, but neighbours before and after change theirs. What reblurring
    finds is signed.
    """
    count = 19 if told else 16
    wide = np.arange(64 * 64, dtype=np.float32).reshape(64, 64) % 251
    sample = np.stack([(wide + 12 * channel) % 256 for channel in range(count)]).astype(np.uint8)
    np.save(tmp_path / "one-00000.npy", sample[None])
    plan = dataclasses.replace(FAST, stages=(Stage(steps=99, clips=2, frames=1, crop=32),))
    samples, orders = Samples(tmp_path, plan, CPU, told=told), set()
    for step in range(20):
        for crop in torch.cat(samples.draw(step).pair, dim=2)[:, 0]:
            crop[13:-3].mul_(2).add_(0.5)
            shifts = ((255 * (crop - crop[:1])).round() % 256).flatten(1)[:, 0] / 12
            orders.add(tuple(shifts.int().tolist()))
    assert orders == {tuple(range(count)), (*range(9), 10, 9, 12, 11, *range(13, count))}


@pytest.mark.parametrize("content", [b"", b"text", np.zeros((1, 3, 4, 4), np.uint8)])
def test_what_is_no_sample_is_refused(tmp_path, content):
    path = tmp_path / "one-00000.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(InputError, match=r"one-00000.npy' is not a file of samples: delete it"):
        Samples(tmp_path, FAST, CPU)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no samples in"):
        Samples(tmp_path, FAST, CPU)


def test_crops_must_fit_the_squares_of_the_kernels():
    bad = dataclasses.replace(FAST, stages=(Stage(steps=1, clips=4, frames=1, crop=34),))
    with pytest.raises(ConfigError, match="crop is 34: must be a multiple of 4"):
        Polishing(model()).check(bad)


def test_a_run_learns_resumes_and_continues_from_weights(tmp_path, folder, told):
    for side in ("blur", "sharp"):
        for number in range(3):
            path = tmp_path / "val" / "a" / side / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = torch.from_numpy(picture(40, 48, number).transpose(2, 0, 1).copy())
            write_image(path, image)
    val, samples = find_pairs(tmp_path / "val"), Samples(folder, FAST, CPU, told=told)
    heard, kind = [], Polishing(model(), PolishConfig(told=told))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for out, stop in ((whole, None), (parts, 3), (parts, None)):
        path = train(FAST, samples, val, out, CPU, heard.append, trainable=kind, stop_after=stop)
    assert path.read_bytes()[-4000:] == (whole / path.name).read_bytes()[-4000:]  # the values
    network, origin = load_polish_weights(path)
    assert (origin.model, origin.steps, set(origin.scores)) == ("polish", 8, {"a"})
    assert network.head.weight.abs().max() > 0
    batch = samples.draw(0)
    errors = [
        (frames - batch.sharp).square().mean()
        for frames in (batch.blurry[:, :, :3], network(batch.blurry))
    ]
    assert errors[1] < errors[0]
    out, initial = tmp_path / "further", TrainedPolish.read(path)
    path.unlink()  # it is not needed any more
    for stop in (4, None):
        further = train(
            FAST, samples, (), out, CPU, heard.append, trainable=kind, initial=initial,
            stop_after=stop,
        )  # fmt: skip
    assert read_provenance(further).total_steps == 16
    other = dataclasses.replace(initial, network=PolishNetwork(PolishConfig(width=8)))
    with pytest.raises(ModelError, match="belong to another network than the one to train"):
        train(FAST, samples, (), tmp_path / "x", CPU, heard.append, trainable=kind, initial=other)
    kind = Polishing(model(config=ALIGNED))
    clip = clips().blurry[0]
    assert kind.restored(network, clip).shape == clip.shape
    assert kind.window == 3
