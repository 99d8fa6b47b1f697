"""What is spent on a frame beyond one run of the network, and what it brings, in one value."""

from __future__ import annotations

from dataclasses import dataclass

from unsmear.engines.base import Runnable, as_engine
from unsmear.errors import ConfigError
from unsmear.restoration import DEFAULT_BURST
from unsmear.restoration.burst import check_burst
from unsmear.restoration.views import View, views_of
from unsmear.restoration.whole import check_count

MOST_REFINE = 3
"""Times that a network goes over its own results; already the second brings nothing more."""


def check_refine(refine: int) -> int:
    """Return how often a network can go over its own results.

    Raises:
        ConfigError: it cannot, or that is no whole number.
    """
    none = "a single pass"
    return check_count("refine", refine, MOST_REFINE, none=none, unit="additional passes")


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Made as by default: one run of the network, then restored frames lend.

    Attributes:
        ensemble: views of a frame whose mean is taken: 1 (each is restored once), 2, 4 or 8, see
            `unsmear.restoration.views`. Each takes as long again.
        refine: times that the network goes over its own results: each frame is made again, of the
            same features, with its neighbours as they were made before and with the motion between
            these, and the mean of both is taken; for networks that align neighbours. Each takes
            more than half as long again.
        burst: restored frames on each side that lend a frame what they show sharper, see
            `unsmear.restoration.burst`; 0: frames as the network makes them.

    Raises:
        ConfigError: one is out of bounds, or no whole number.
    """

    ensemble: int = 1
    refine: int = 0
    burst: int = DEFAULT_BURST

    def __post_init__(self) -> None:
        checked = {
            "ensemble": len(views_of(self.ensemble)),
            "refine": check_refine(self.refine),
            "burst": check_burst(self.burst),
        }
        for name, number in checked.items():
            object.__setattr__(self, name, number)  # numpy's become Python's

    @property
    def views(self) -> tuple[View, ...]:
        """Of the ensemble."""
        return views_of(self.ensemble)

    def check(self, model: Runnable) -> None:
        """Raise ConfigError where a network cannot do it."""
        if self.refine and not as_engine(model).network.config.aligned_levels:
            raise ConfigError(
                f"refine is {self.refine}, but needs a model that aligns neighbours: use 0, or "
                "another model, such as core"
            )


NETWORK_ALONE = Effort(burst=0)
"""One run of the network, and nothing else."""
