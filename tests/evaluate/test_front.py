"""A network is on the front if no other one gains as much at a lower cost."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from unsmear.evaluate.front import FrontRow, front_lines, on_front


def row(name="a", *, macs=1_870_000_000, seconds=0.5, walks=1.9):
    return FrontRow(
        name=name, macs=macs, parameters=620_000, seconds=seconds, walks=walks, still=-0.25
    )


ROWS = st.lists(
    st.builds(
        row,
        macs=st.integers(1, 5),
        seconds=st.sampled_from([0.1, 0.2, 0.3]),
        walks=st.sampled_from([0.0, 1.0, 2.0]),
    ),
    min_size=1,
    max_size=6,
)


def test_less_for_more_time_is_behind_the_front():
    quick, good, bad = row(), row("b", seconds=1.0, walks=2.5), row("c", seconds=1.1, walks=2.4)
    rows = [quick, good, bad]
    assert [on_front(one, rows) for one in rows] == [True, True, False]
    # Dominated by the same gain in less time, but not by the same gain in the same time.
    assert not on_front(row("d", seconds=0.6), rows)
    assert on_front(row("d"), rows)


def test_where_time_is_lacking_arithmetic_tells():
    rows = [row(), row("b", macs=10**10, seconds=None, walks=1.0)]
    assert [on_front(one, rows) for one in rows] == [True, False]
    rows[1] = dataclasses.replace(rows[1], macs=10**9)
    assert all(on_front(one, rows) for one in rows)


@given(ROWS)
def test_something_is_always_on_the_front_and_what_is_not_is_beaten_by_what_is(rows):
    front = [one for one in rows if on_front(one, rows)]
    assert front
    for one in rows:
        if one not in front:
            assert any(other.walks >= one.walks and other.seconds < one.seconds for other in front)


def test_the_table_has_the_cheapest_first_and_says_what_was_not_timed():
    lines = front_lines([row("b", macs=10**10, seconds=None, walks=1.0), row()])
    assert lines[2] == "| `a` | 1.87 | 0.62 | 2.00 | +1.90 | -0.25 | yes |"
    assert lines[3] == "| `b` | 10.00 | 0.62 | not timed | +1.00 | -0.25 | no |"
