"""A model on the CPU, for the tests of engines."""

from __future__ import annotations

import pytest

from unsmear.models.zoo import load_model


@pytest.fixture
def loaded(weights_file):
    return load_model(str(weights_file))
