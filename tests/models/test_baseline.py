"""The recurrent baseline: as large as published, and causal except for its window."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import one_scene
from unsmear.errors import ConfigError
from unsmear.models.baseline import RecurrentConfig, RecurrentNetwork, count_recurrent_macs
from unsmear.models.count import count_parameters

TINY = RecurrentConfig(width=4, blocks=2, past=1, future=2)


def awake(config=TINY):
    network = RecurrentNetwork(config).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.copy_(0.15 * torch.randn_like(parameter))
    return network


def test_it_is_as_large_as_published():
    """ESTRNN: 2.2 M parameters, 10.5 GMAC at 256x256."""
    config = RecurrentConfig()
    with torch.device("meta"):
        network = RecurrentNetwork(config)
    assert count_parameters(network) == pytest.approx(2.2e6, rel=0.1)
    assert count_recurrent_macs(config) == pytest.approx(10.5e9, rel=0.1)


def test_macs_grow_with_the_frame_alone():
    assert count_recurrent_macs(TINY, 64, 64) * 4 == pytest.approx(
        count_recurrent_macs(TINY, 128, 128), rel=1e-3
    )


@pytest.mark.parametrize("size", [(16, 24), (17, 22)])
def test_untrained_it_returns_its_input_at_any_size(size):
    clip = torch.rand(2, 3, 3, *size)
    with torch.no_grad():
        assert torch.equal(RecurrentNetwork(TINY)(clip), clip)
        assert awake()(clip).shape == clip.shape


def test_features_know_the_past_alone_and_results_the_window_after_it():
    network, clip = awake(), one_scene(7, 16, 16)[None]
    features, restored = network.encode(clip), network(clip)
    changed = clip.clone()
    changed[:, 4] += 0.3
    other, result = network.encode(changed), network(changed)
    differs = [not torch.equal(features[:, t], other[:, t]) for t in range(7)]
    assert differs == [False] * 4 + [True] * 3  # the state goes forward in time only
    differs = [not torch.equal(restored[:, t], result[:, t]) for t in range(7)]
    assert differs == [False] * 2 + [True] * 5  # two future frames are fused


def test_frame_by_frame_is_the_whole_clip():
    network, clip = awake(), one_scene(4, 18, 20)[None]
    features = network.encode(clip)
    for frame in range(4):
        one = network.restore(clip, features, frame)
        torch.testing.assert_close(one, network(clip)[:, frame], rtol=0, atol=1e-6)


def test_beyond_the_ends_stand_the_first_and_the_last_frame():
    network, clip = awake(), one_scene(2, 16, 16)[None]
    features = network.encode(clip)
    window = features[:, [0, 0, 1, 1]]  # one past frame, itself, two future frames
    expected = clip[:, 0] + network.head(network.up(network.fusion(window, 1)))
    torch.testing.assert_close(network(clip)[:, 0], expected)


def test_fusion_weighs_pairs_by_their_mean_against_a_loop():
    network = awake()
    window = torch.rand(1, 4, TINY.channels, 5, 6)
    fusion, here, parts = network.fusion, window[:, 1], []
    for place in (0, 2, 3):
        pair = torch.cat((window[:, place], here), dim=1)
        weight = fusion.weigh(pair.mean(dim=(2, 3)))[:, :, None, None]
        parts.append(fusion.condense(fusion.relate(pair) * weight))
    expected = fusion.join(torch.cat((*parts, here), dim=1))
    torch.testing.assert_close(fusion(window, 1), expected)


def test_every_parameter_learns():
    network = RecurrentNetwork(TINY)
    torch.nn.init.normal_(network.head.weight, std=0.1)
    network(torch.rand(1, 3, 3, 16, 16)).square().mean().backward()
    still = [name for name, p in network.named_parameters() if not p.grad.abs().max() > 0]
    assert still == []


@pytest.mark.parametrize(
    ("change", "message"),
    [({"width": 3}, "width"), ({"blocks": 0}, "blocks"), ({"past": 0, "future": 0}, "not both")],
)
def test_contradictions_raise_when_made(change, message):
    with pytest.raises(ConfigError, match=message):
        RecurrentConfig(**change)
