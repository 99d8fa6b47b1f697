"""scripts/calibrate_blur.py: what the estimate is fitted to."""

from __future__ import annotations

import math

import pytest
import torch

from tests.conftest import load_script
from unsmear.data.shake import shutter_times


def test_blocks_have_the_blur_of_the_whole_exposure():
    shift = torch.eye(3).repeat(1, 7, 1, 1)
    shift[0, :, 0, 2] = 8 * shutter_times(7)
    lengths, angle = load_script("scripts/calibrate_blur.py").block_motion(shift)
    assert lengths.tolist() == pytest.approx([8] * 4, abs=1e-3)
    assert math.sin(angle) == pytest.approx(0, abs=1e-3)
