"""Shared by the tests of all techniques."""

from __future__ import annotations

import torch


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def awake(module):
    """Random weights everywhere, so that nothing that starts at zero hides a mistake."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return module
