"""Counts of parameters and multiply-accumulates against calculations by hand."""

from __future__ import annotations

import dataclasses

from tests.conftest import SMALL
from unsmear.models.count import count_macs, count_parameters
from unsmear.models.network import DeblurNetwork


def test_counts_agree_with_hand_calculation():
    config = dataclasses.replace(
        SMALL, widths=(4,), encoder_blocks=(0,), decoder_blocks=(0,), attention_levels=(),
        neighbours=0,
    )  # fmt: skip
    # Stem 12 -> 4 and head 4 -> 12, 3x3, at half resolution.
    assert count_parameters(DeblurNetwork(config)) == (12 * 4 + 4 * 12) * 9 + 4 + 12
    assert count_macs(config, 32, 64) == (12 * 4 + 4 * 12) * 9 * 16 * 32


def test_looking_along_trails_is_counted_in_full():
    plain = dataclasses.replace(SMALL, widths=(8, 12, 16), encoder_blocks=(0, 0, 0), stem=2)
    plain = dataclasses.replace(plain, decoder_blocks=(0, 0, 0), attention_levels=(2,))
    assert plain.neighbours
    along = dataclasses.replace(plain, trail_levels=(1,), trail_channels=6)
    pixels, cells = 16 * 16, 8 * 8  # of a frame of 64x64 at 1/4 and 1/8
    head = (16 + 10) * 64 * 9 + 6 * 64 * 64 * 9 + 64 * 2 * 9
    looked_along = 12 * 6 + (12 + 5 * 6) * 24 + 24 * 12 * 9
    more = count_macs(along, 64, 64) - count_macs(plain, 64, 64)
    assert more == head * cells + looked_along * pixels
