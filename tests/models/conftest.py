"""Random shapes of networks, an attention of one's own, and sampling one value at a time."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.conftest import SMALL
from unsmear.models.attention import ATTENTIONS, FactorizedAttention
from unsmear.models.config import NetworkConfig


class Tempered(FactorizedAttention):
    """One that the package lacks, with a parameter that has no channels."""

    def __init__(self, channels: int, spatial_maps: int, temporal_maps: int) -> None:
        super().__init__(channels, spatial_maps, temporal_maps)
        self.heat = nn.Parameter(torch.ones(()))

    def spatial_logits(self, features: Tensor) -> Tensor:
        return super().spatial_logits(features) * self.heat


@pytest.fixture
def tempered(monkeypatch: pytest.MonkeyPatch) -> NetworkConfig:
    """The shape of a small network with it."""
    monkeypatch.setitem(ATTENTIONS, "tempered", Tempered)
    return dataclasses.replace(SMALL, attention="tempered")


def shapes() -> st.SearchStrategy[NetworkConfig]:
    """Random networks of three levels."""

    def levels(most: int) -> st.SearchStrategy[tuple[int, ...]]:
        return st.sets(st.integers(0, most)).map(lambda chosen: tuple(sorted(chosen)))

    def made(attention, trails, aligned, **others) -> NetworkConfig:
        return dataclasses.replace(
            SMALL,
            attention_levels=attention,
            trail_levels=trails,
            aligned_levels=aligned if trails else (),
            **others,
        )

    three = st.tuples(*[st.integers(1, 3)] * 3)
    return st.builds(
        made,
        levels(2),
        levels(1),
        levels(1),
        widths=st.tuples(*[st.integers(4, 12)] * 3),
        encoder_blocks=three,
        decoder_blocks=three,
        trail_channels=st.integers(2, 5),
        aligned_channels=st.integers(2, 5),
    )


def naive_sample(plane: torch.Tensor, x: float, y: float) -> float:
    """Bilinear, with repeated edges, one value at a time."""
    height, width = plane.shape
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    across, down = x - left, y - top
    upper = (1 - across) * plane[top, left] + across * plane[top, right]
    lower = (1 - across) * plane[bottom, left] + across * plane[bottom, right]
    return float((1 - down) * upper + down * lower)
