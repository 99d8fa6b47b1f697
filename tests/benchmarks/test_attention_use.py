"""benchmarks/attention_use.py: its measures in cases with a known answer."""

from __future__ import annotations

import copy
import json
import sys
from functools import partial

import pytest
import torch

from tests.benchmarks.test_fusion import CPU, bench, plan, small
from tests.conftest import awake, load_script
from unsmear.errors import ConfigError
from unsmear.models.fusion import FusionNetwork
from unsmear.video.images import integer_from_unit, write_image

__all__ = ["bench"]


@pytest.fixture(scope="module")
def use():
    return load_script("benchmarks/attention_use.py")


def lively(name="factorised"):
    network = FusionNetwork(small(name))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


def test_flatness_is_the_share_that_is_looked_at(use):
    assert use.flatness(torch.full((2, 8), 1 / 8)) == pytest.approx(100)
    assert use.flatness(torch.eye(8)[:3]) == pytest.approx(100 / 8)
    half = torch.tensor([0.25] * 4 + [0.0] * 4)
    assert use.flatness(half) == pytest.approx(50)


@torch.no_grad()
def test_a_window_of_one_frame_owes_nothing_to_neighbours(use):
    network, still = lively(), torch.rand(1, 1, 3, 16, 16).expand(-1, 4, -1, -1, -1)
    for found in use.uses(network, still):
        assert found["neighbours"] == pytest.approx(0, abs=1e-3)
        assert found["frames"] == pytest.approx(0, abs=1e-3)
        assert found["context"] > 1
    moving = torch.rand(1, 4, 3, 16, 16)
    for found in use.uses(network, moving):
        assert found["neighbours"] > 0.1
        assert found["frames"] > 0.1
        assert 0 < found["flat A_s"] < 100
    assert set(next(iter(use.uses(lively("concat"), moving)))) == {"context", "neighbours"}


@torch.no_grad()
def test_maps_that_are_forced_flat_leave_a_constant(use):
    network = lively()
    network.fusion.attention.f_s.weight.zero_()
    network.fusion.attention.f_t.weight.zero_()
    found = next(iter(use.uses(network, torch.rand(1, 4, 3, 16, 16))))
    assert found["flat A_s"] == pytest.approx(100)
    assert found["elements"] == pytest.approx(0, abs=1e-3)
    assert found["pixels"] == pytest.approx(0, abs=1e-3)
    assert found["flat A_p"] < 99


def test_a_pull_is_what_the_loss_does_when_the_weights_follow_it(use):
    network = lively().double()
    clips = [torch.rand(2, 1, 3, 3, 16, 16, dtype=torch.float64)]
    attention, merge = network.fusion.attention, network.fusion.merge
    found = use.pulls(network, attention, merge, clips)
    for name, part in (("f_s", attention.f_s), ("f_p", attention.f_p), ("merge", merge)):
        before = use.LOSS(network(clips[0][0]), clips[0][1])
        (gradient,) = torch.autograd.grad(before, part.weight)
        kept, step = part.weight.data.clone(), 1e-6
        with torch.no_grad():
            part.weight -= step * kept.norm() * gradient / gradient.norm()
            after = use.LOSS(network(clips[0][0]), clips[0][1])
            part.weight.copy_(kept)
            fell = 100 * float((before - after) / before) * use.STEP / step
        assert fell == pytest.approx(found[f"pull {name}"], rel=1e-2)


@torch.no_grad()
def test_a_released_network_is_looked_into_like_the_others(use):
    released = awake()
    level = released.config.attention_levels[0]
    still = torch.rand(1, 1, 3, 16, 16).expand(-1, 4, -1, -1, -1)
    found = next(iter(use.released_uses(released, level, still, 3)))
    assert found["neighbours"] == pytest.approx(0, abs=1e-3)
    assert found["context"] > 0
    clip = torch.rand(1, 4, 3, 16, 16)
    by_window = {w: list(use.released_uses(released, level, clip, w)) for w in (3, 5, 9)}
    assert all(found["neighbours"] > 0 for rows in by_window.values() for found in rows)
    # Windows end with the clip: 5 frames around the second of four include all of them.
    assert by_window[3] != by_window[5] != by_window[9]
    assert by_window[5][1] == by_window[9][1]


def test_rows_of_released_networks_have_their_own_window(use, monkeypatch):
    monkeypatch.setattr(use, "released_uses", lambda *arguments: [{"context": arguments[-1]}])
    monkeypatch.setattr(use, "pulls", lambda *_: {})
    clips = [torch.rand(2, 1, 2, 3, 16, 16)]
    ((label, row),) = use.released_rows(use.load_model("lite"), clips)
    assert (label, row) == ("lite, level 2, window 7", {"context": 7})


def test_kept_networks_come_back_and_are_told_of(use, bench, tmp_path, monkeypatch, capsys):
    learner = bench.Learner.start(
        "factorised:level=0", partial(bench.FusionNetwork, small("factorised")), plan(3), CPU
    )
    untouched = copy.deepcopy(learner.average.state_dict())
    (tmp_path / "kept").mkdir()
    bench.keep(tmp_path / "kept", learner, "fresh")
    kept = use.load(tmp_path / "kept" / "factorised-level-0-3-fresh.safetensors")
    assert (kept.label, kept.seed, kept.when, kept.step) == ("factorised:level=0", 3, "fresh", 0)
    assert kept.network.config == learner.network.config
    for key, value in kept.network.state_dict().items():
        assert torch.equal(value, untouched[key])
    for folder in ("data", "record"):
        (tmp_path / folder).mkdir()
    for index in range(2):
        photograph = torch.rand(3, 10, 12).repeat_interleave(12, 1).repeat_interleave(12, 2)
        write_image(tmp_path / "data" / f"{index}.png", integer_from_unit(photograph))
    record_file = tmp_path / "record" / "r.json"  # not in the data
    options = ["--data", str(tmp_path / "data"), "--batches", "1", "--crop", "32", "--threads"]
    options += [str(torch.get_num_threads()), "--json", str(record_file)]
    monkeypatch.setattr(sys, "argv", ["attention_use.py", str(tmp_path / "kept"), *options])
    use.main()
    assert "| factorised:level=0 | fresh |" in capsys.readouterr().out
    record = json.loads(record_file.read_text())
    assert record["rows"][0]["seeds"] == 1
    assert record["origin"]["date"]
    assert record["settings"] == {"frames": 5, "windows": {}}
    released = ["--released", "lite", "lite"]  # their rows would be those of two seeds
    monkeypatch.setattr(sys, "argv", [*sys.argv, *released])
    with pytest.raises(ConfigError, match="more than one model is named 'lite'"):
        use.main()
