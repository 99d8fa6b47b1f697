from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from tests.conftest import ALIGNED, SMALL, TRAILS, awake, mild
from unsmear.models.flow import clip_motion
from unsmear.models.neighbourhood import Neighbourhood
from unsmear.models.network import DeblurNetwork, join_frames, pad_to_multiple


def test_untrained_network_returns_its_input():
    clip = torch.rand(1, 3, 3, 20, 28)
    torch.testing.assert_close(DeblurNetwork(SMALL)(clip), clip)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4))
def test_any_size_and_length_keep_their_shape(height, width, frames):
    clip = torch.rand(1, frames, 3, height, width)
    assert awake()(clip).shape == clip.shape


@given(st.integers(1, 33), st.integers(1, 33), st.sampled_from([1, 2, 8]))
def test_padding_repeats_the_edge_and_keeps_the_frame(height, width, multiple):
    frames = torch.rand(2, 3, height, width)
    padded = pad_to_multiple(frames, multiple)
    assert padded.shape[-2] % multiple == padded.shape[-1] % multiple == 0
    assert padded.shape[-2] < height + multiple
    assert torch.equal(padded[..., :height, :width], frames)
    assert torch.equal(padded[..., -1, -1], frames[..., -1, -1])


def test_clip_equals_frame_by_frame(either):
    clip = torch.rand(2, 4, 3, 16, 24)
    encoded = [either.encode(clip[:, t]) for t in range(4)]
    window = join_frames([either.squeeze(one) for one in encoded])
    whole = either(clip)
    motion = clip_motion(clip).unflatten(0, (2, 4)) if either.config.trail_levels else None
    for t in range(4):
        local = (encoded[max(t - 1, 0)].local, encoded[min(t + 1, 3)].local)
        frames = clip[:, t - 1] if t else None, clip[:, t], clip[:, t + 1] if t < 3 else None
        moving = None if motion is None else motion[:, t]
        around = Neighbourhood.gathered(either.config, frames, local, moving)
        alone = either.restore(encoded[t], either.mix(window), around)
        torch.testing.assert_close(alone, whole[:, t], rtol=1e-4, atol=1e-5)


def test_batch_rows_do_not_mix(either):
    clips = torch.rand(3, 2, 3, 16, 16)
    for index in range(3):
        torch.testing.assert_close(
            either(clips)[index], either(clips[index : index + 1])[0], rtol=1e-4, atol=1e-5
        )


def test_encoder_sees_a_limited_surrounding_only(network):
    """The encoder has no global or temporal operation: far pixels have no influence."""
    frame = torch.rand(1, 3, 8, 512)
    other = frame.clone()
    other[..., :8] = 1 - other[..., :8]
    for one, two in zip(
        network.encode(frame).features, network.encode(other).features, strict=True
    ):
        assert torch.equal(one[..., -2:], two[..., -2:])
        assert not torch.equal(one[..., :2], two[..., :2])


def test_a_far_pixel_reaches_a_frame_through_the_attention(network):
    clip = torch.rand(1, 5, 3, 8, 512)
    other = clip.clone()
    other[:, 0, :, :, :64] = 1 - other[:, 0, :, :, :64]  # four frames and 448 pixels away
    assert not torch.equal(network(clip)[:, 4, ..., -8:], network(other)[:, 4, ..., -8:])


def test_without_local_path_frames_meet_only_in_descriptors():
    network = awake(dataclasses.replace(SMALL, neighbours=0))
    clip = torch.rand(1, 3, 3, 16, 16)
    swapped = clip[:, [2, 1, 0]]
    # The temporal squeeze is a weighted mean: the order of the others does not matter.
    torch.testing.assert_close(network(clip)[:, 1], network(swapped)[:, 1], rtol=1e-4, atol=1e-5)


def test_wrong_size_and_wrong_number_of_neighbours_are_refused(network):
    for size in ((12, 16), (16, 12)):
        with pytest.raises(ValueError, match="multiples of 8"):
            network.encode(torch.rand(1, 3, *size))
    encoded = network.encode(torch.rand(1, 3, 16, 16))
    with pytest.raises(ValueError, match="takes 2"):
        network.restore(encoded, network.mix(network.squeeze(encoded)), Neighbourhood())
    with pytest.raises(ValueError, match=r"\(3, 3, 16, 16\): must be \(B, T, 3, H, W\)"):
        network(torch.rand(3, 3, 16, 16))


def test_a_network_in_half_precision_restores_as_in_full(either):
    clip, network = torch.rand(1, 3, 3, 16, 24), mild(either.config)
    with torch.no_grad():
        full, half = network(clip), copy.deepcopy(network).bfloat16()(clip.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), full, rtol=0, atol=0.05)


def test_trails_come_with_the_clip_where_they_are_asked_for():
    network, clip = awake(TRAILS), torch.rand(2, 3, 3, 20, 28)
    restored, trails = network(clip, with_trails=True)
    assert trails.shape == (2, 3, 2, 3, 4)
    torch.testing.assert_close(restored, network(clip))
    network.trail_head.leave.weight.zero_()
    network.trail_head.leave.bias.copy_(torch.tensor([1.0, -2.0]))  # in cells of 8 pixels
    _, trails = network(clip, motion=torch.zeros(6, 4, 3, 4), with_trails=True)
    wanted = torch.tensor([8.0, -16.0]).view(2, 1, 1).expand_as(trails)
    torch.testing.assert_close(trails, wanted)
    with pytest.raises(ValueError, match="follows no trails"):
        awake()(clip, with_trails=True)


def test_a_neighbour_is_seen_where_the_current_frame_shows_the_same():
    """Half of the next frame, which has moved by 16 pixels, is replaced. Nothing else connects the
    frames, so the result changes 16 pixels away.
    """
    network = awake(dataclasses.replace(ALIGNED, attention_levels=()))
    network.local_fusion.weight.zero_()
    picture = functional.interpolate(torch.rand(1, 3, 24, 40), scale_factor=8, mode="bicubic")
    after = picture[..., 16:]
    spoiled = after.clone()
    spoiled[..., 160:] = 0.5
    motion = torch.tensor([16.0, 0, -16, 0]).view(1, 4, 1, 1).expand(1, 4, 24, 38)
    current = picture[..., :-16]
    encoded = network.encode(current)
    local = (encoded.local,) * 2
    one, other = (
        network.restore(
            encoded,
            (),
            Neighbourhood.gathered(network.config, (None, current, neighbour), local, motion),
        )
        for neighbour in (after, spoiled)
    )
    changed = (one - other).abs().amax(dim=(0, 1, 2)).nonzero().flatten()
    reach = sum(network.decode_reach(level) for level in (0, 1))
    assert 176 - reach <= int(changed.min()) <= 176


def test_a_network_that_follows_no_trails_yet_is_the_plain_one():
    """New modules are the identity, so `trail` can start from trained weights of `plain`."""
    plain, following = awake(), DeblurNetwork(TRAILS).eval()
    missing, unexpected = following.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {name.split(".")[0] for name in missing} == {"trail_head", "trails"}
    clip = torch.rand(1, 3, 3, 16, 24)
    torch.testing.assert_close(following(clip), plain(clip))


def test_a_network_that_aligns_no_neighbours_yet_is_the_one_without():
    following, aligning = awake(TRAILS), DeblurNetwork(ALIGNED).eval()
    missing, unexpected = aligning.load_state_dict(following.state_dict(), strict=False)
    assert not unexpected
    assert {name.split(".")[0] for name in missing} == {"aligned"}
    clip = torch.rand(1, 3, 3, 16, 24)
    torch.testing.assert_close(aligning(clip), following(clip))
    assert ALIGNED.can_grow_from(TRAILS)
    assert ALIGNED.can_grow_from(SMALL)
    assert not TRAILS.can_grow_from(ALIGNED)


def waves(pitch: float, *shape: int) -> torch.Tensor:
    """Numbers that are the same everywhere, as those of torch's generators need not be."""
    places = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)
    return torch.sin(pitch * places).float().view(shape)


def test_weights_compute_in_every_version_what_they_were_trained_to():
    """The order of neighbours, motions and channels is part of what released weights rely on. The
    numbers were recorded with the code that they were released for.
    """
    clip, motion = 0.5 + 0.4 * waves(0.37, 1, 3, 3, 16, 24), 8 * waves(1.9, 3, 4, 2, 3)
    dense = DeblurNetwork(dataclasses.replace(SMALL, block="dense", dense_layers=2, neighbours=0))
    aligning = DeblurNetwork(ALIGNED)
    for network in (dense, aligning):
        for number, (_, parameter) in enumerate(sorted(network.named_parameters()), 1):
            parameter.requires_grad_(False).copy_(0.2 * waves(0.7 * number, *parameter.shape))
    aligning.trail_head.leave.weight.mul_(0.3)
    restored, trails = aligning(clip, motion=motion, with_trails=True)
    for found, wanted in (
        (dense(clip)[0, 1, :, 5, 7], [-0.23267, -2.03046, 2.01846]),
        (restored[0, 1, :, 5, 7], [0.74432, 0.63724, 0.62505]),
        (trails[0, 1, :, 1, 2], [-21.54498, -13.89715]),
    ):
        torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-3, atol=1e-3)
