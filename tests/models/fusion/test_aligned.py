"""Each technique against a naive computation."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from unsmear.models.attention import FactorizedAttention
from unsmear.models.fusion.aligned import (
    DeformableFusion,
    FilterAdaptiveFusion,
    FlowFusion,
    adaptive_filter,
    deformable_convolution,
)
from unsmear.models.fusion.attentive import (
    FactorizedFusion,
    GatedFusion,
    NonLocalFusion,
    join_windows,
    split_windows,
)
from unsmear.models.fusion.base import pair_with_current
from unsmear.models.fusion.convolutional import (
    ConcatFusion,
    Conv3dFusion,
    NoFusion,
    RecurrentFusion,
)
from unsmear.models.fusion.shifted import ShiftFusion


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def awake(module):
    """Random weights everywhere, so that nothing that starts at zero hides a mistake."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return module


@pytest.mark.parametrize(("itself", "partners"), [(True, [0, 1, 2, 3]), (False, [0, 1, 3])])
def test_pairs_put_each_frame_before_the_current_one(itself, partners):
    features = torch.rand(2, 4, 3, 5, 6)
    frames, pairs = pair_with_current(features, 2, itself=itself)
    for batch in range(2):
        for place, frame in enumerate(partners):
            row = batch * len(partners) + place
            assert torch.equal(frames[row], features[batch, frame])
            assert torch.equal(pairs[row], torch.cat((features[batch, frame], features[batch, 2])))


def test_none_is_the_current_frame():
    features = torch.rand(1, 3, 4, 5, 5)
    assert torch.equal(NoFusion().fuse(features, 1), features[:, 1])


def test_concat_is_one_convolution_a_frame():
    fusion = awake(ConcatFusion(4, frames=3))
    features = torch.rand(2, 3, 4, 5, 6)
    expected = features[:, 1] + fusion.mix.bias[:, None, None]
    for t, weight in enumerate(fusion.mix.weight.split(4, dim=1)):
        expected = expected + functional.conv2d(features[:, t], weight, padding=1)
    close(fusion.fuse(features, 1), expected)


def test_conv3d_is_a_sum_of_plane_convolutions():
    fusion = awake(Conv3dFusion(4, frames=3, hidden=5))
    features = torch.rand(1, 3, 4, 5, 6)
    (layer,) = fusion.layers
    expected = features[:, 1] + layer.bias[:, None, None]
    for t in range(3):
        expected = expected + functional.conv2d(features[:, t], layer.weight[:, :, t], padding=1)
    close(fusion.fuse(features, 1), expected)
    assert len(Conv3dFusion(4, frames=7, hidden=5).layers) == 3


@pytest.mark.parametrize("fusion", [ConcatFusion(4, 3), Conv3dFusion(4, 3, 5), ShiftFusion(4, 3)])
def test_fixed_windows_refuse_others(fusion):
    with pytest.raises(ValueError, match="5 frames given: this fusion takes 3"):
        fusion.fuse(torch.rand(1, 5, 4, 6, 6), 2)


def test_recurrence_streams():
    """Frame by frame with a carried state equals computing from each frame's whole past."""
    fusion = awake(RecurrentFusion(4, hidden=3))
    features = torch.rand(2, 5, 4, 6, 7)
    state = fusion.start(features[:, 0])
    for t in range(5):
        state = fusion.step(features[:, t], state)
        close(fusion.give(features[:, t], state), fusion.fuse(features[:, : t + 1], t))


def test_recurrence_is_causal_and_bounded():
    fusion = awake(RecurrentFusion(4, hidden=3))
    features = torch.rand(1, 5, 4, 6, 7)
    later = features.clone()
    later[:, 3:] += 1
    assert torch.equal(fusion.fuse(features, 2), fusion.fuse(later, 2))
    state = fusion.start(features[:, 0])
    for _ in range(200):
        state = fusion.step(100 * features[:, 0], state)
    assert state.abs().max() <= 1


def test_iterations_are_the_cell_applied_again():
    twice = awake(RecurrentFusion(4, hidden=3, iterations=2))
    once = RecurrentFusion(4, hidden=3, iterations=1)
    once.load_state_dict(twice.state_dict())
    frame = torch.rand(1, 4, 6, 7)
    state = twice.start(frame)
    assert torch.equal(twice.step(frame, state), once.step(frame, once.step(frame, state)))


@pytest.mark.parametrize("size", [(6, 7), (1, 5)])
def test_deformable_convolution_without_offsets_is_a_convolution(size):
    x, weight, bias = torch.rand(2, 4, *size), torch.randn(3, 4, 3, 3), torch.randn(3)
    offsets, modulation = torch.zeros(2, 2, 9, 2, *size), torch.ones(2, 2, 9, *size)
    close(
        deformable_convolution(x, offsets, modulation, weight, bias),
        functional.conv2d(x, weight, bias, padding=1),
    )


def test_deformable_convolution_against_loops():
    x, weight, bias = torch.rand(1, 4, 5, 6), torch.randn(3, 4, 3, 3), torch.randn(3)
    offsets = torch.randint(-2, 3, (1, 2, 9, 2, 5, 6)).float()  # whole pixels: no interpolation
    modulation = torch.rand(1, 2, 9, 5, 6)
    expected = bias[:, None, None].repeat(1, 5, 6)
    for row in range(5):
        for column in range(6):
            for channel in range(4):
                for tap in range(9):
                    group = channel // 2
                    right, down = offsets[0, group, tap, :, row, column].int().tolist()
                    y, z = row + tap // 3 - 1 + down, column + tap % 3 - 1 + right
                    if 0 <= y < 5 and 0 <= z < 6:
                        value = x[0, channel, y, z] * modulation[0, group, tap, row, column]
                        expected[:, row, column] += weight[:, channel, tap // 3, tap % 3] * value
    close(deformable_convolution(x, offsets, modulation, weight, bias)[0], expected)


@pytest.mark.parametrize("build", [FlowFusion, DeformableFusion])
def test_alignment_is_as_precise_in_half_precision(build):
    """In bfloat16, positions from 32 to 64 pixels have steps of a quarter of a pixel."""
    features = (torch.arange(64) % 2).float().expand(1, 3, 4, 5, 64)  # stripes of one pixel
    fusion = build(4, frames=3, hidden=5)
    with torch.no_grad():
        (fusion.flow if build is FlowFusion else fusion.moves).bias.fill_(0.3)  # pixels
        fusion.merge.weight.fill_(0.25)
        expected = fusion.fuse(features, 1)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = fusion.fuse(features.bfloat16(), 1)
        half = fusion.bfloat16().fuse(features.bfloat16(), 1)
    for found in (mixed, half):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), expected, rtol=0.01, atol=0.01)


def test_delta_filters_change_nothing_and_others_shift():
    x = torch.rand(2, 3, 5, 6)
    filters = torch.zeros(2, 3, 9, 5, 6)
    filters[:, :, 4] = 1
    assert torch.equal(adaptive_filter(x, filters), x)
    left = torch.zeros_like(filters)
    left[:, :, 3] = 1  # the pixel to the left, the first column repeated
    assert torch.equal(adaptive_filter(x, left), x[..., [0, 0, 1, 2, 3, 4]])


def test_equal_filters_are_a_convolution_of_each_channel():
    x, kernel = torch.rand(2, 3, 5, 6), torch.randn(3, 1, 3, 3)
    filters = kernel.reshape(1, 3, 9, 1, 1).expand(2, 3, 9, 5, 6)
    padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    close(adaptive_filter(x, filters), functional.conv2d(padded, kernel, groups=3))


@pytest.mark.parametrize("kind", [FlowFusion, FilterAdaptiveFusion])
def test_alignment_starts_as_none_and_frames_keep_their_order(kind):
    fusion = kind(4, 3, 5)
    features = torch.rand(2, 3, 4, 6, 7)
    mixed = functional.conv2d(features.flatten(1, 2), fusion.merge.weight, fusion.merge.bias)
    close(fusion.fuse(features, 1), features[:, 1] + mixed)


def test_deformable_fusion_starts_as_a_convolution_of_each_neighbour():
    fusion = DeformableFusion(4, 3, 5)
    features = torch.rand(2, 3, 4, 6, 7)
    aligned = torch.cat(
        (fusion.align(features[:, 0]), features[:, 1], fusion.align(features[:, 2])), dim=1
    )
    close(fusion.fuse(features, 1), features[:, 1] + fusion.merge(aligned))


def test_flow_fusion_can_undo_a_shift():
    """With the right flow, the neighbours equal the current frame."""
    fusion = FlowFusion(4, 3, 5)
    torch.nn.init.constant_(fusion.flow.bias, 2.0)
    with torch.no_grad():
        fusion.merge.weight.zero_()[:, :4, 0, 0] = torch.eye(4)  # only the previous frame
        fusion.merge.bias.zero_()
    here = torch.rand(1, 4, 12, 12)
    before = here.roll((2, 2), dims=(-2, -1))
    fused = fusion.fuse(torch.stack((before, here, here), dim=1), 1)
    close((fused - here)[..., :10, :10], here[..., :10, :10])


@given(st.integers(1, 11), st.integers(1, 11), st.integers(1, 5))
def test_windows_split_and_join(height, width, side):
    x = torch.rand(2, 3, height, width)
    squares = split_windows(x, side)
    assert squares.shape == (2, -(-height // side) * -(-width // side), side * side, 3)
    assert torch.equal(join_windows(squares, side, height, width), x)


@pytest.mark.parametrize("size", [(4, 8), (5, 6)])  # without and with padding
def test_nonlocal_against_loops(size):
    side, (height, width) = 4, size
    fusion = awake(NonLocalFusion(3, hidden=2, side=side))
    features = torch.rand(1, 3, 3, height, width)
    query = fusion.query(features[:, 1])[0]
    key, value = fusion.key(features[0]), fusion.value(features[0])
    mixed = torch.zeros(2, height, width)
    for y in range(height):
        for x in range(width):
            rows = range(y // side * side, min((y // side + 1) * side, height))
            columns = range(x // side * side, min((x // side + 1) * side, width))
            seen = [(t, r, c) for t in range(3) for r in rows for c in columns]
            logits = torch.stack([query[:, y, x] @ key[t, :, r, c] for t, r, c in seen])
            weights = torch.softmax(logits / math.sqrt(2), dim=0)
            mixed[:, y, x] = sum(
                w * value[t, :, r, c] for w, (t, r, c) in zip(weights, seen, strict=True)
            )
    close(fusion.fuse(features, 1), features[:, 1] + fusion.out(mixed[None]))


def test_factorised_is_the_papers_attention():
    fusion = awake(FactorizedFusion(4, 3, 2))
    assert isinstance(fusion.attention, FactorizedAttention)
    features = torch.rand(2, 5, 4, 6, 7)
    y = fusion.attention.fuse(features[:, 1], fusion.attention.describe(features))
    close(fusion.fuse(features, 1), features[:, 1] + fusion.merge(y))


def gated_and_factorised():
    gated, plain = awake(GatedFusion(4, 5, 3, 2)), FactorizedFusion(4, 3, 2)
    plain.load_state_dict({k: v for k, v in gated.state_dict().items() if "gate" not in k})
    return gated, plain


def test_an_even_gate_changes_nothing():
    gated, plain = gated_and_factorised()
    torch.nn.init.zeros_(gated.gate[2].weight)
    features = torch.rand(2, 5, 4, 6, 7)
    close(gated.fuse(features, 2), plain.fuse(features, 2))


def test_gate_multiplies_the_squeeze_by_one_minus_the_mask():
    gated, _ = gated_and_factorised()
    features = torch.rand(1, 3, 4, 5, 6)
    attention, sharp = gated.attention, 1 - gated.blur_mask(features[0])
    squeezed = torch.zeros(3, 3, 4)
    for t in range(3):
        logits = attention.f_s(features[:, t])[0]
        for m in range(3):
            weights = torch.softmax(logits[m].flatten(), 0) * sharp[t].flatten()
            squeezed[t, m] = features[0, t].flatten(1) @ (weights / weights.sum())
    temporal = torch.softmax(attention.f_t(features.mean((-2, -1)).transpose(1, 2))[0], dim=1)
    temporal = temporal * sharp.mean((-3, -2, -1))
    temporal = temporal / temporal.sum(dim=1, keepdim=True)
    context = torch.einsum("tmc,nt->mnc", squeezed, temporal).flatten(0, 1)
    taken = torch.softmax(attention.f_p(features[:, 1]), dim=1).flatten(2)
    y = (context.T @ taken[0]).unflatten(-1, (5, 6))[None]
    close(gated.fuse(features, 1), features[:, 1] + gated.merge(y))


def test_a_frame_that_is_all_blur_gives_nothing():
    gated, _ = gated_and_factorised()
    features = torch.rand(1, 3, 4, 6, 7)

    class Gate(torch.nn.Module):
        def forward(self, x):  # bright frames count as blurred
            bright = x.mean(dim=(-3, -2, -1), keepdim=True) > 10
            return torch.where(bright, 300.0, -300.0) + 0 * x[:, :1]

    gated.gate = Gate()
    one, other = features.clone(), features.clone()
    one[:, 0] += 20
    other[:, 0] = other[:, 0] * 3 + 30
    close(gated.fuse(one, 1), gated.fuse(other, 1))
