"""Short versions of the long runs: damaged files, and killed runs."""

from __future__ import annotations

import os

import pytest

from tests.torture.fuzz import fuzz
from tests.torture.kills import torture

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked"),
]


def test_damaged_files_are_refused_or_restored():
    counts, findings = fuzz(24, seed=7)
    assert findings == []
    assert counts["refused"] > 5
    assert counts["restored"] > 5


def test_killed_runs_end_in_the_same_result():
    tally = torture(2, frames=24, part=4)
    assert tally.kills == 2
    assert tally.resumed > 0
    assert (tally.different, tally.left) == (0, 0)
