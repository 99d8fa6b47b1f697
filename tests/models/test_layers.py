from __future__ import annotations

import torch

from unsmear.models.layers import DenseBlock, ResidualBlock, Upsample


def test_blocks_keep_shape_and_start_near_identity():
    x = torch.randn(1, 8, 6, 10)
    for block in (ResidualBlock(8), DenseBlock(8, growth=4, layers=3)):
        y = block(x)
        assert y.shape == x.shape
        assert (y - x).abs().mean() < 0.2 * x.abs().mean()


def test_dense_block_connects_each_layer_to_all_before():
    block = DenseBlock(8, growth=4, layers=3)
    assert [layer.in_channels for layer in block.layers] == [8, 12, 16]
    assert block.fusion.in_channels == 8 + 3 * 4


def test_upsample_doubles_and_stays_local():
    up = Upsample(6, 4)
    x = torch.zeros(1, 6, 3, 3)
    base = up(x)
    x[..., 1, 1] = 1
    changed = (up(x) - base).abs().sum(dim=1)[0] > 0
    assert base.shape == (1, 4, 6, 6)
    assert changed[2:4, 2:4].all()
    assert changed.sum() == 4
