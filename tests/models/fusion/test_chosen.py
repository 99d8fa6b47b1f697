"""The choice of frames, soft and hard, and how the attention uses it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.models.fusion.conftest import awake, close
from unsmear.errors import ConfigError
from unsmear.models.fusion.attentive import FactorizedFusion
from unsmear.models.fusion.chosen import (
    ChosenFusion,
    hard_choice,
    likeness,
    relaxed_choice,
    threshold,
)

SCORES = st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=9)


def chosen_and_factorised(keep, window=5):
    chosen, plain = awake(ChosenFusion(4, 5, 3, 2, keep)), FactorizedFusion(4, 3, 2)
    plain.load_state_dict({k: v for k, v in chosen.state_dict().items() if "scorer" not in k})
    return chosen, plain, torch.rand(2, window, 4, 6, 7)


@given(SCORES, st.integers(1, 8), st.sampled_from([0.01, 0.1, 1.0]))
def test_weights_lie_in_0_to_1_sum_to_the_count_and_rise_with_the_scores(values, count, soft):
    scores = torch.tensor(values, dtype=torch.float64)
    count = min(count, len(values) - 1)
    weights = relaxed_choice(scores, count, soft).exp()
    assert ((weights >= 0) & (weights <= 1)).all()
    assert weights.sum().item() == pytest.approx(count, abs=1e-9)
    assert (weights[scores.argsort()].diff() >= -1e-12).all()


def test_float32_is_enough_and_half_precision_is_not_used():
    scores = torch.randn(64, 8)
    close(relaxed_choice(scores, 3).exp().sum(-1), torch.full((64,), 3.0))
    assert relaxed_choice(scores.bfloat16(), 3).dtype == torch.float32
    assert hard_choice(scores.bfloat16(), 3).dtype == torch.float32


def test_the_colder_the_harder():
    scores = torch.tensor([0.3, -1.0, 0.9, 0.1, -0.2], dtype=torch.float64)
    hard = hard_choice(scores, 2).exp()
    assert hard.tolist() == [1, 0, 1, 0, 0]
    apart = [
        (relaxed_choice(scores, 2, soft).exp() - hard).abs().max().item()
        for soft in (10, 1, 0.1, 0.01, 0.001)
    ]
    assert apart == sorted(apart, reverse=True)
    assert apart[0] > 0.5
    assert apart[-1] < 1e-9


def test_equal_scores_share_evenly_at_any_temperature():
    for soft in (1.0, 1e-3):
        close(relaxed_choice(torch.full((4,), 2.5), 3, soft).exp(), torch.full((4,), 0.75))


def test_gradients_are_those_of_the_implicit_function():
    scores = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    for count in (1, 2, 4):
        assert torch.autograd.gradcheck(lambda s, k=count: threshold(s, k, 0.5), scores)
        assert torch.autograd.gradcheck(lambda s, k=count: relaxed_choice(s, k, 0.5), scores)
        assert torch.autograd.gradcheck(lambda s, k=count: relaxed_choice(s, k, 0.5).exp(), scores)


def test_a_choice_that_is_hard_already_has_a_finite_gradient():
    scores = torch.tensor([[5.0, -5.0, 4.0, -4.0]], requires_grad=True)
    (relaxed_choice(scores, 2, 1e-3).exp() * torch.arange(4.0)).sum().backward()
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("choose", [relaxed_choice, hard_choice])
def test_all_and_none(choose):
    scores = torch.randn(2, 4)
    for count in (4, 7):
        assert torch.equal(choose(scores, count), torch.zeros(2, 4))
    for count in (0, -1):
        assert torch.equal(choose(scores, count), torch.full((2, 4), -math.inf))
    assert choose(torch.empty(2, 0), 1).shape == (2, 0)


def test_likeness_against_loops_and_without_scale():
    features = torch.rand(2, 3, 4, 5, 6)
    like = likeness(features, 1)
    for batch in range(2):
        for t in range(3):
            for c in range(4):
                there, here = features[batch, t, c], features[batch, 1, c]
                wide, narrow = there.std(correction=0), here.std(correction=0)
                apart = (there.mean() - here.mean()) / (wide + narrow)
                close(like[batch, t, c], apart)
                close(like[batch, t, 4 + c], torch.log(wide / narrow))
    assert torch.equal(like[:, 1], torch.zeros(2, 8))
    close(likeness(100 * features, 1), like)
    flat = torch.zeros(1, 3, 4, 5, 6, requires_grad=True)
    likeness(flat, 1).sum().backward()
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("keep", [5, 8])
def test_who_keeps_all_frames_is_the_factorised_fusion(training, keep):
    chosen, plain, features = chosen_and_factorised(keep)
    assert torch.equal(chosen.train(training).fuse(features, 2), plain.fuse(features, 2))


@pytest.mark.parametrize("training", [True, False])
def test_a_window_of_one_frame_is_that_frame(training):
    chosen, plain, features = chosen_and_factorised(2, window=1)
    assert torch.equal(chosen.train(training).fuse(features, 0), plain.fuse(features, 0))


@pytest.mark.parametrize("current", [0, 2, 4])
@pytest.mark.parametrize("keep", [1, 2, 3, 4])
def test_a_hard_choice_is_the_factorised_fusion_of_the_frames_chosen(current, keep):
    chosen, plain, features = chosen_and_factorised(keep)
    fused = chosen.eval().fuse(features, current)
    scores = chosen.scores(features, current)
    for row in range(2):
        ranked = sorted(set(range(5)) - {current}, key=lambda t: -scores[row, t].item())
        frames = sorted([current, *ranked[: keep - 1]])
        subset = features[row : row + 1, frames]
        close(fused[row : row + 1], plain.fuse(subset, frames.index(current)))


@pytest.mark.parametrize("training", [True, False])
def test_the_current_frame_keeps_all_of_its_weight(training):
    chosen, _, features = chosen_and_factorised(3)
    weights = chosen.train(training).log_weights(features, 4).exp()
    assert torch.equal(weights[:, 4], torch.ones(2))
    close(weights.sum(dim=1), torch.full((2,), 3.0))


def test_soft_weights_multiply_those_over_time():
    chosen, _, features = chosen_and_factorised(3)
    attention, weights = chosen.attention, chosen.log_weights(features, 2).exp()
    window = attention.describe(features)
    temporal = torch.softmax(attention.temporal_logits(window.pooled), dim=-1) * weights[:, None]
    temporal = temporal / temporal.sum(dim=-1, keepdim=True)
    context = torch.einsum("btmc,bnt->bmnc", window.squeezed, temporal).flatten(1, 2)
    taken = chosen.merge(attention.distribute(features[:, 2], context))
    close(chosen.fuse(features, 2), features[:, 2] + taken)


def test_gradients_reach_the_scorer_in_training():
    chosen, _, features = chosen_and_factorised(3)
    chosen.fuse(features, 2).square().sum().backward()
    for key, parameter in chosen.scorer.named_parameters():
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


def test_the_scorer_learns_which_frames_help():
    """In turn, other frames help; they can be told by their larger variance."""
    torch.manual_seed(0)
    chosen = ChosenFusion(4, 5, 3, 2, keep=3)
    for parameter in (*chosen.attention.parameters(), *chosen.merge.parameters()):
        parameter.requires_grad_(False)
    optimizer = torch.optim.Adam(chosen.scorer.parameters(), lr=0.01)
    for step in range(60):
        features = torch.rand(4, 5, 4, 6, 7)
        good = torch.tensor([[0, 1], [3, 4]][step % 2])
        features[:, good] = 2 * features[:, good] - 0.5  # larger variance, same mean
        weights = chosen.log_weights(features, 2).exp()
        optimizer.zero_grad()
        (2 - weights[:, good].sum(dim=1)).mean().backward()
        optimizer.step()
    features = torch.rand(8, 5, 4, 6, 7)
    features[:, [0, 4]] = 2 * features[:, [0, 4]] - 0.5
    picked = chosen.eval().log_weights(features, 2).exp()
    assert picked.mean(dim=0).tolist() == [1, 0, 1, 0, 1]


def test_more_or_fewer_frames_can_be_asked_for_after_training():
    chosen, plain, features = chosen_and_factorised(2)
    chosen.eval().keep = 4
    assert torch.equal((chosen.log_weights(features, 2) == 0).sum(dim=1), torch.tensor([4, 4]))
    chosen.keep = 1
    close(chosen.fuse(features, 2), plain.fuse(features[:, 2:3], 0))


@pytest.mark.parametrize("keep", [0, -2, 1.5])
def test_what_is_no_number_of_frames_is_refused(keep):
    chosen = ChosenFusion(4, 5, 3, 2, keep=3)
    with pytest.raises(ConfigError, match=f"keep is {keep}: a whole number of frames, at least 1"):
        chosen.keep = keep
    with pytest.raises(ConfigError, match="keep is"):
        ChosenFusion(4, 5, 3, 2, keep=keep)
    assert chosen.keep == 3


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_without_sense_is_refused(temperature):
    with pytest.raises(ConfigError, match="temperature is"):
        ChosenFusion(4, 5, 3, 2, keep=3, temperature=temperature)
