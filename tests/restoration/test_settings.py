"""Settings: stretches, times as users type them, and values that contradict each other.

For values of other types see `test_api.py`.
"""

from __future__ import annotations

from fractions import Fraction

import pytest

from unsmear.errors import ConfigError
from unsmear.restoration.settings import Settings, Span, parse_time


def test_a_stretch_holds_its_start_and_not_its_end():
    stretch = Span(start=Fraction(1), end=Fraction(2))
    moments = [Fraction(number, 4) for number in (3, 4, 7, 8)]
    assert [stretch.holds(moment) for moment in moments] == [False, True, True, False]
    assert Span().holds(Fraction(-1))
    assert [one.whole for one in (Span(), Span(start=0), Span(end=1))] == [True, False, False]


@pytest.mark.parametrize(("start", "end"), [(1, 1), (2, 1), (None, 0)])
def test_a_stretch_without_length_is_refused(start, end):
    with pytest.raises(ConfigError, match=f"end is {end} s: must be later than the start"):
        Span(start=start, end=end)


def test_a_stretch_from_before_the_clip_is_refused():
    with pytest.raises(ConfigError, match="start is -1 s: must be 0 or more"):
        Span(start=-1)


def test_times_as_users_type_them():
    for text, seconds in (
        ("90", 90), (".5", Fraction(1, 2)), ("1:30.25", Fraction(361, 4)), ("01:02:03", 3723),
        ("0:0:7.", 7),
    ):  # fmt: skip
        assert parse_time(text) == seconds
    for text in ("", ":", "1:", "-1", "1:2:3:4", "1e3", "\u0661"):
        with pytest.raises(ConfigError, match="is not a time"):
            parse_time(text)


def test_comparisons_of_another_kind_are_refused():
    with pytest.raises(ConfigError, match="compare is 'both': must be side or wipe"):
        Settings(compare="both")
