"""Views, refinement and burst: the quality options beyond one run of the network, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from unsmear.engines.base import Runnable, as_engine
from unsmear.errors import ConfigError
from unsmear.restoration import DEFAULT_BURST
from unsmear.restoration.burst import check_burst
from unsmear.restoration.views import View, views_of
from unsmear.restoration.whole import check_count

MOST_REFINE = 3
"""Maximum number of additional passes; already the second brings no further gain."""


def check_refine(refine: int) -> int:
    """Return `refine` as a Python int.

    Raises:
        ConfigError: it is not an integer from 0 to `MOST_REFINE`.
    """
    none = "a single pass"
    return check_count("refine", refine, MOST_REFINE, none=none, unit="additional passes")


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Quality options. Default: one run of the network, then the burst step.

    Attributes:
        ensemble: number of views to average: 1, 2, 4 or 8, see `unsmear.restoration.views`. The
            time grows in proportion.
        refine: number of additional passes, for networks that align neighbours. Each computes
            every frame again from the same features, with its restored neighbours and the motion
            between restored frames, and averages the result with that of the pass before. It adds
            over 50 % to the time.
        burst: number of restored neighbours on each side from which a frame takes sharper detail,
            see `unsmear.restoration.burst`; 0: output of the network as it is.

    Raises:
        ConfigError: a value is out of range or not an integer.
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
            object.__setattr__(self, name, number)  # numpy integers become Python's

    @property
    def views(self) -> tuple[View, ...]:
        """The views of the ensemble."""
        return views_of(self.ensemble)

    def check(self, model: Runnable) -> None:
        """Raise ConfigError if the network does not support refinement and `refine` is not 0."""
        if self.refine and not as_engine(model).network.config.aligned_levels:
            raise ConfigError(
                f"refine is {self.refine}, but needs a model that aligns neighbours: use 0, or "
                "another model, such as core"
            )


NETWORK_ALONE = Effort(burst=0)
"""One run of the network, nothing else."""
