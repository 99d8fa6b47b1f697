"""Options of quality: which values they take, and with which networks."""

from __future__ import annotations

import pytest

from tests.conftest import ALIGNED, SMALL, awake, one_scene
from tests.restoration.test_scene import alone
from unsmear.errors import ConfigError
from unsmear.restoration.quality import MOST_REFINE, QualityOptions
from unsmear.restoration.stream import restore_stream


@pytest.mark.parametrize("burst", [-1, 5, 1.5, None])
def test_how_many_may_lend(burst):
    with pytest.raises(ConfigError, match=f"burst is {burst}: must be from 0"):
        QualityOptions(burst=burst)


def test_what_cannot_be_asked_for():
    for refine in (-1, MOST_REFINE + 1, 1.0, "1", True):
        with pytest.raises(ConfigError, match=f"refine is {refine!r}: must be from 0"):
            QualityOptions(refine=refine)
    with pytest.raises(ConfigError, match="needs a model that aligns neighbours"):
        list(restore_stream(awake(SMALL), one_scene(3, 16, 16), 1, quality=alone(1)))
    QualityOptions(refine=1).check(awake(ALIGNED))


@pytest.mark.parametrize("name", ["polish", "reblur"])
def test_corrections_need_something_fused(name):
    with pytest.raises(ConfigError, match=f"burst is 0 \\(off\\): leave out {name}"):
        QualityOptions(**{name: True}, burst=0)
    with pytest.raises(ConfigError, match=f"{name} is 'yes': must be True or False"):
        QualityOptions(**{name: "yes"})


def test_corrections_are_told_in_order():
    assert QualityOptions(polish=True).in_words() == "burst 2, polished"
    assert QualityOptions(reblur=True).in_words() == "burst 2, reblurred"
    both = QualityOptions(polish=True, reblur=True)
    assert both.in_words() == "burst 2, polished, reblurred"
