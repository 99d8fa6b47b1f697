"""Fusion of the frames that are worth it: a scorer chooses, the factorised attention takes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from unsmear.errors import ConfigError
from unsmear.models.attention import FactorizedAttention, temporal_squeeze
from unsmear.models.fusion.attentive import focused
from unsmear.models.fusion.base import Fusion

TEMPERATURE = 0.02  # fresh scores of one window lie some 0.005 apart: all have a say at first
_FLAT = 1e-8  # added to variances: a frame of one colour has none
_HALVINGS = 60  # of the interval that holds a threshold: beyond what float32 tells apart


def threshold(scores: Tensor, count: int, temperature: float) -> Tensor:
    """What scores must exceed for `count` of them to be chosen, softly: the tau for which the sum
    of sigmoid((s - tau) / temperature) is `count`. Found by bisection; its gradient is that of the
    implicit function theorem, dtau = sum(w (1 - w) ds) / sum(w (1 - w)) with w the sigmoids.

    Args:
        scores: (..., T), float.
        count: 1 to T - 1.
        temperature: above 0, in units of the scores.

    Returns:
        (..., 1).
    """
    with torch.no_grad():
        # If all scores were the least or the greatest one, the threshold would be this far below.
        share = count / scores.shape[-1]
        below = temperature * math.log(share / (1 - share))
        low = scores.amin(dim=-1, keepdim=True) - below
        high = scores.amax(dim=-1, keepdim=True) - below
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            weight = torch.sigmoid((scores - middle) / temperature).sum(dim=-1, keepdim=True)
            low = torch.where(weight > count, middle, low)
            high = torch.where(weight > count, high, middle)
        tau = (low + high) / 2
    weights = torch.sigmoid((scores - tau) / temperature)
    steepness = (weights * (1 - weights)).detach().sum(dim=-1, keepdim=True) / temperature
    tiny = torch.finfo(scores.dtype).tiny  # where all is hard nothing has a gradient
    excess = weights.sum(dim=-1, keepdim=True)
    # Zero in value, so that rounding is not divided by a steepness near zero.
    return tau + (excess - excess.detach()) / steepness.clamp_min(tiny)


def relaxed_choice(scores: Tensor, count: int, temperature: float = TEMPERATURE) -> Tensor:
    """Choose the `count` greatest scores softly, so that a scorer can learn: weights in 0..1 that
    sum to `count` and rise with the scores; the lower the temperature, the closer to 0 and 1.

    Args:
        scores: (..., T), float.
        count: how many; 0 or fewer chooses none, T or more all.
        temperature: above 0, in units of the scores.

    Returns:
        Logarithms of the weights, (..., T), float32 or better: what a softmax adds to its logits.
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if not 0 < count < scores.shape[-1]:
        return torch.full_like(scores, -math.inf if count <= 0 else 0.0)
    return functional.logsigmoid((scores - threshold(scores, count, temperature)) / temperature)


def hard_choice(scores: Tensor, count: int) -> Tensor:
    """`relaxed_choice` in the limit of no temperature, for use after training: logarithms of
    weights that are 1 for the `count` greatest scores and 0 for all others. Of equal scores any.

    Args:
        scores: (..., T), float.
        count: how many; 0 or fewer chooses none, T or more all.

    Returns:
        0 for what is chosen, minus infinity for the rest, (..., T), float32 or better.
    """
    none = torch.full_like(
        scores, -math.inf, dtype=torch.promote_types(scores.dtype, torch.float32)
    )
    chosen = scores.topk(min(max(count, 0), scores.shape[-1]), dim=-1).indices
    return none.scatter(-1, chosen, 0.0)


def likeness(features: Tensor, current: int) -> Tensor:
    """What each frame of a window is like beside the current one, from the mean and the spread of
    each channel over H*W: how far the means lie apart, in spreads, and the logarithm of how many
    times wider it spreads. Neither depends on the scale of the features, which grows in training;
    a frame that is smeared spreads less.

    Args:
        features: (B, T, C, H, W).
        current: which frame.

    Returns:
        (B, T, 2C), float32 or better; zeros for the current frame.
    """
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    mean = features.mean(dim=(-2, -1))  # (B, T, C)
    spread = (features.var(dim=(-2, -1), correction=0) + _FLAT).sqrt()
    mean_here, spread_here = (x[:, current : current + 1] for x in (mean, spread))
    apart = (mean - mean_here) / (spread + spread_here)
    return torch.cat((apart, torch.log(spread / spread_here)), dim=-1)


class ChosenFusion(Fusion):
    """The factorised attention over the frames of the window that are worth it: a scorer looks at
    what each is like beside the current one, and the best few are taken, with the current one.

    Source: GSTA (Suin and Rajagopalan, CVPR 2021, "Gated Spatio-Temporal Attention-Guided Video
    Deblurring"), its second idea: key frames chosen from the neighbourhood by what they
    contribute. Reproduces: the context comes from the frames chosen alone, and how many these are
    can be changed after training. Simplifies: in place of reinforcement learning a scorer of two
    layers learns with the rest, through a choice that is soft in training (`relaxed_choice`) and
    hard in evaluation (`hard_choice`); the logarithm of a frame's weight joins its temporal
    logits, so that a hard choice is eq. 3-4 over the frames chosen. It is told the mean and the
    spread over H*W of each frame's features, nothing of single pixels, so a frame's descriptor
    would be longer by C numbers and tiles would stay exact; sums over a window that moves would
    not merge, the choice being each frame's own. Leaves out: its gate (`GatedFusion` has it). No
    time is saved: the descriptors of all frames are there anyway.

    At the ends of a clip its first or last frame stands in the window more than once, and may be
    chosen as often.

    Args:
        channels: C.
        hidden: channels inside the scorer.
        spatial_maps: M.
        temporal_maps: N.
        keep: k, frames that are fused, the current one included; see the property.
        focus: factor on fresh weights of f_s and f_p.
        temperature: of the soft choice, in units of the scores.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        spatial_maps: int,
        temporal_maps: int,
        keep: int,
        focus: float = 1.0,
        temperature: float = TEMPERATURE,
    ) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ConfigError(f"temperature is {temperature}: above 0")
        self.keep, self.temperature = keep, temperature
        self.attention = focused(FactorizedAttention(channels, spatial_maps, temporal_maps), focus)
        # No bias at the end: what is added to all scores chooses nothing.
        self.scorer = nn.Sequential(
            nn.Linear(2 * channels, hidden), nn.ReLU(), nn.Linear(hidden, 1, bias=False)
        )
        self.merge = nn.Conv2d(channels, channels, kernel_size=1)

    @property
    def keep(self) -> int:
        """k, frames that are fused, the current one included; where it is not below T, all. It may
        be set at any time, also to another number than training had.

        Raises:
            ConfigError: set to less than 1, or to a number that is not whole.
        """
        return self._keep

    @keep.setter
    def keep(self, keep: int) -> None:
        if keep < 1 or keep % 1:
            raise ConfigError(f"keep is {keep}: a whole number of frames, at least 1")
        self._keep = keep

    def scores(self, features: Tensor, current: int) -> Tensor:
        """Window (B, T, C, H, W) -> what each frame is worth to its frame `current`, (B, T)."""
        scores: Tensor = self.scorer(likeness(features, current))
        return scores.squeeze(-1)

    def log_weights(self, features: Tensor, current: int) -> Tensor:
        """Window (B, T, C, H, W) -> logarithm of each frame's weight, (B, T): soft in training,
        hard in evaluation; 0, all of its weight, for the current frame.
        """
        scores = self.scores(features, current)
        others = torch.cat((scores[:, :current], scores[:, current + 1 :]), dim=1)
        if self.training:
            weights = relaxed_choice(others, self.keep - 1, self.temperature)
        else:
            weights = hard_choice(others, self.keep - 1)
        itself = weights.new_zeros(weights.shape[0], 1)
        return torch.cat((weights[:, :current], itself, weights[:, current:]), dim=1)

    def fuse(self, features: Tensor, current: int) -> Tensor:
        """Window (B, T, C, H, W) -> (B, C, H, W)."""
        here = features[:, current]
        window = self.attention.describe(features)
        temporal = self.attention.temporal_logits(window.pooled)  # (B, N, T)
        temporal = temporal + self.log_weights(features, current).unsqueeze(1)
        context = temporal_squeeze(window.squeezed, temporal).flatten(1, 2)
        taken: Tensor = self.merge(self.attention.take(here, context))
        return here + taken
