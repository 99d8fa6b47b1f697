"""A neighbourhood has exactly what the network takes."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import ALIGNED, TRAILS, awake
from unsmear.models.neighbourhood import Neighbourhood


def test_motion_goes_with_networks_that_follow_trails_only():
    for network, motion in ((awake(TRAILS), None), (awake(), torch.zeros(1, 4, 2, 2))):
        encoded = network.encode(torch.rand(1, 3, 16, 16))
        contexts = network.mix(network.squeeze(encoded))
        with pytest.raises(ValueError, match="motion"):
            network.restore(encoded, contexts, Neighbourhood((encoded.local,) * 2, motion))


def test_triplets_go_with_networks_that_align_neighbours_only():
    frame, still = torch.rand(1, 3, 16, 16), torch.zeros(1, 4, 2, 2)
    for network, triplet in ((awake(ALIGNED), None), (awake(TRAILS), torch.rand(1, 9, 16, 16))):
        encoded = network.encode(frame)
        contexts = network.mix(network.squeeze(encoded))
        with pytest.raises(ValueError, match="triplet"):
            around = Neighbourhood((encoded.local,) * 2, still, triplet)
            network.restore(encoded, contexts, around)
