"""What the techniques have in common: pairs of frames, and windows of a fixed length."""

from __future__ import annotations

import pytest
import torch

from unsmear.models.fusion.base import pair_with_current
from unsmear.models.fusion.convolutional import ConcatFusion, Conv3dFusion
from unsmear.models.fusion.shifted import ShiftFusion


@pytest.mark.parametrize(("itself", "partners"), [(True, [0, 1, 2, 3]), (False, [0, 1, 3])])
def test_pairs_put_each_frame_before_the_current_one(itself, partners):
    features = torch.rand(2, 4, 3, 5, 6)
    frames, pairs = pair_with_current(features, 2, itself=itself)
    for batch in range(2):
        for place, frame in enumerate(partners):
            row = batch * len(partners) + place
            assert torch.equal(frames[row], features[batch, frame])
            assert torch.equal(pairs[row], torch.cat((features[batch, frame], features[batch, 2])))


@pytest.mark.parametrize("fusion", [ConcatFusion(4, 3), Conv3dFusion(4, 3, 5), ShiftFusion(4, 3)])
def test_fixed_windows_refuse_others(fusion):
    with pytest.raises(ValueError, match="5 frames given: this fusion takes 3"):
        fusion.fuse(torch.rand(1, 5, 4, 6, 6), 2)
