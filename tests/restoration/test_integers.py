from __future__ import annotations

import numpy as np
import pytest

from unsmear.restoration.integers import as_integer


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers_become_pythons(value):
    assert as_integer(value) == 3
    assert type(as_integer(value)) is int


@pytest.mark.parametrize("value", [True, np.True_, 2.0, np.float32(2), "2", None, [2]])
def test_anything_else_is_none(value):
    assert as_integer(value) is None
