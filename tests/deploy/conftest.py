"""A small network, as read from its file."""

from __future__ import annotations

import pytest

from unsmear.models.zoo import load_model


@pytest.fixture
def loaded(one_level_file):
    return load_model(str(one_level_file))
