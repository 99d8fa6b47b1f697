"""Fusion of selected frames: a scorer chooses key frames, the factorised attention fuses them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from unsmear.errors import ConfigError
from unsmear.models.attention import FactorizedAttention, temporal_squeeze
from unsmear.models.fusion.attentive import focused
from unsmear.models.fusion.base import Fusion
from unsmear.models.precision import at_least_float32

TEMPERATURE = 0.02  # initial scores differ by about 0.005: at first every frame gets some weight
_FLAT = 1e-8  # added to variances, which are 0 for a uniform frame
_HALVINGS = 60  # of the interval in the bisection: more than float32 resolves


def threshold(scores: Tensor, count: int, temperature: float) -> Tensor:
    """Threshold for a soft choice of `count` scores: the tau for which the sum of
    sigmoid((s - tau) / temperature) is `count`.

    Found by bisection. Its gradient comes from the implicit function theorem:
    dtau = sum(w (1 - w) ds) / sum(w (1 - w)), where w are the sigmoids.

    Args:
        scores: (..., T), float.
        count: 1 to T - 1.
        temperature: above 0, in units of the scores.

    Returns:
        (..., 1).
    """
    with torch.no_grad():
        # If all scores were equal, the threshold would be this far below them.
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
    tiny = torch.finfo(scores.dtype).tiny  # if all sigmoids are saturated, the gradient is 0
    excess = weights.sum(dim=-1, keepdim=True)
    # The difference is exactly 0 and only carries the gradient: no rounding error is divided by a
    # steepness near 0.
    return tau + (excess - excess.detach()) / steepness.clamp_min(tiny)


def relaxed_choice(scores: Tensor, count: int, temperature: float = TEMPERATURE) -> Tensor:
    """Differentiable choice of the `count` highest scores: weights in 0..1 that sum to `count` and
    increase with the scores. The lower the temperature, the closer they are to 0 and 1.

    Args:
        scores: (..., T), float.
        count: how many; 0 or less chooses none, T or more all.
        temperature: above 0, in units of the scores.

    Returns:
        Logarithms of the weights, to be added to the logits of a softmax; (..., T), float32 or
        better.
    """
    scores = scores.to(at_least_float32(scores))
    if not 0 < count < scores.shape[-1]:
        return torch.full_like(scores, -math.inf if count <= 0 else 0.0)
    return functional.logsigmoid((scores - threshold(scores, count, temperature)) / temperature)


def hard_choice(scores: Tensor, count: int) -> Tensor:
    """`relaxed_choice` in the limit of temperature 0, for inference: weight 1 for the `count`
    highest scores, 0 for all others. Ties are broken arbitrarily.

    Args:
        scores: (..., T), float.
        count: how many; 0 or less chooses none, T or more all.

    Returns:
        Logarithms of the weights: 0 if chosen, else minus infinity; (..., T), float32 or better.
    """
    none = torch.full_like(scores, -math.inf, dtype=at_least_float32(scores))
    chosen = scores.topk(min(max(count, 0), scores.shape[-1]), dim=-1).indices
    return none.scatter(-1, chosen, 0.0)


def likeness(features: Tensor, current: int) -> Tensor:
    """Statistics of each frame of a window relative to the current one, from the mean and the
    standard deviation of each channel over H*W: the difference of the means over the sum of the
    deviations, and the logarithm of the ratio of the deviations.

    Both are invariant to the scale of the features, which grows in training. Blurred frames have
    smaller deviations.

    Args:
        features: (B, T, C, H, W).
        current: index of the current frame.

    Returns:
        (B, T, 2C), float32 or better; zeros for the current frame.
    """
    features = features.to(at_least_float32(features))
    mean = features.mean(dim=(-2, -1))  # (B, T, C)
    spread = (features.var(dim=(-2, -1), correction=0) + _FLAT).sqrt()
    mean_here, spread_here = (x[:, current : current + 1] for x in (mean, spread))
    apart = (mean - mean_here) / (spread + spread_here)
    return torch.cat((apart, torch.log(spread / spread_here)), dim=-1)


class ChosenFusion(Fusion):
    """The factorised attention over selected frames of the window: a scorer compares each frame
    with the current one, and the best ones are fused with it.

    Source: GSTA (Suin and Rajagopalan, CVPR 2021, "Gated Spatio-Temporal Attention-Guided Video
    Deblurring"), its second idea: key frames, chosen from the neighbourhood by their contribution.
    Reproduces: the context comes from the chosen frames only, and their number can be changed after
    training. Simplifies: instead of reinforcement learning, a scorer of two layers is trained
    end-to-end, with a choice that is soft in training (`relaxed_choice`) and hard in evaluation
    (`hard_choice`). The logarithm of a frame's weight is added to its temporal logits, so a hard
    choice is eq. 3-4 over the chosen frames. Leaves out: its gate (`GatedFusion` has it).

    The scorer gets the mean and standard deviation over H*W of each frame's features, and nothing
    of single pixels. So a descriptor would grow by C numbers, and tiles would stay exact. Sums over
    a moving window would not merge, because each frame makes its own choice. No time is saved: the
    descriptors of all frames are computed anyway.

    At the ends of a clip, its first or last frame is in the window more than once, and may be
    chosen more than once.

    Args:
        channels: C.
        hidden: hidden channels of the scorer.
        spatial_maps: M.
        temporal_maps: N.
        keep: k, frames that are fused, the current one included; see the property.
        focus: factor on the initial weights of f_s and f_p.
        temperature: of the soft choice, in units of the scores.

    Raises:
        ConfigError: `keep` is below 1 or not an integer, or `temperature` is not above 0.
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
        # No bias at the end: a constant added to all scores changes no choice.
        self.scorer = nn.Sequential(
            nn.Linear(2 * channels, hidden), nn.ReLU(), nn.Linear(hidden, 1, bias=False)
        )
        self.merge = nn.Conv2d(channels, channels, kernel_size=1)

    @property
    def keep(self) -> int:
        """k, frames that are fused, the current one included; all if it is T or more. It may be
        changed at any time, also after training.

        Raises:
            ConfigError: set to less than 1, or to a number that is not an integer.
        """
        return self._keep

    @keep.setter
    def keep(self, keep: int) -> None:
        if keep < 1 or keep % 1:
            raise ConfigError(f"keep is {keep}: a whole number of frames, at least 1")
        self._keep = keep

    def scores(self, features: Tensor, current: int) -> Tensor:
        """Window (B, T, C, H, W) -> score of each frame for its frame `current`, (B, T)."""
        scores: Tensor = self.scorer(likeness(features, current))
        return scores.squeeze(-1)

    def log_weights(self, features: Tensor, current: int) -> Tensor:
        """Window (B, T, C, H, W) -> logarithm of each frame's weight, (B, T): soft in training,
        hard in evaluation; 0 (weight 1) for the current frame.
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
        taken: Tensor = self.merge(self.attention.distribute(here, context))
        return here + taken
