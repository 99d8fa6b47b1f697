"""Options that improve the result beyond one run of the network: views, refinement, burst, polish
and reblur.
"""

from __future__ import annotations

from dataclasses import dataclass

from unsmear.engines.base import Runnable, as_engine
from unsmear.errors import ConfigError
from unsmear.restoration import DEFAULT_BURST
from unsmear.restoration.burst import MOST_BURST
from unsmear.restoration.integers import as_integer
from unsmear.restoration.views import View, views_of

MOST_REFINE = 3
"""Maximum number of additional passes; already the second brings no further gain."""


@dataclass(frozen=True, kw_only=True)
class QualityOptions:
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
        polish: whether a small second network corrects what the burst step fused, see
            `unsmear.models.polish`.
        reblur: whether each frame is corrected at the end so that, blurred again along the camera's
            path, it looks like the input, see `unsmear.restoration.reblur`. With `polish`, the
            second network is one that is told what this finds.

    Raises:
        ConfigError: a value is out of range or not an integer, or `polish` or `reblur` is used
            without burst.
    """

    ensemble: int = 1
    refine: int = 0
    burst: int = DEFAULT_BURST
    polish: bool = False
    reblur: bool = False

    def __post_init__(self) -> None:
        checked = {
            "ensemble": len(views_of(self.ensemble)),
            "refine": _count(
                "refine", self.refine, MOST_REFINE, "a single pass", "additional passes"
            ),
            "burst": _count("burst", self.burst, MOST_BURST, "off", "restored frames on each side"),
        }
        for name, number in checked.items():
            object.__setattr__(self, name, number)  # numpy integers become Python's
        for name, wanted in (("polish", self.polish), ("reblur", self.reblur)):
            if not isinstance(wanted, bool):
                raise ConfigError(f"{name} is {wanted!r}: must be True or False")
            if wanted and not self.burst:
                raise ConfigError(
                    f"{name} corrects what the burst step fused, and burst is 0 (off): leave out "
                    f"{name}, or use a burst of 1 to {MOST_BURST}"
                )

    @property
    def views(self) -> tuple[View, ...]:
        """The views of the ensemble."""
        return views_of(self.ensemble)

    def in_words(self) -> str:
        """What runs around the network, for titles. Burst is always named: it is on by default, and
        gains something whatever the network is worth.
        """
        if self == NETWORK_ALONE:
            return "network alone"
        steps = [f"ensemble of {self.ensemble}"] if self.ensemble > 1 else []
        steps += [f"refined {self.refine}x"] if self.refine else []
        steps += [f"burst {self.burst}"]
        steps += ["polished"] if self.polish else []
        steps += ["reblurred"] if self.reblur else []
        return ", ".join(steps)

    def check(self, model: Runnable) -> None:
        """Raise ConfigError if the network does not support refinement and `refine` is not 0."""
        if self.refine and not as_engine(model).network.config.aligned_levels:
            raise ConfigError(
                f"refine is {self.refine}, but needs a model that aligns neighbours: use 0, or "
                "another model, such as core"
            )


def _count(name: str, value: object, most: int, none: str, unit: str) -> int:
    """The value of an option as a Python int, 0 to `most`; `none` says what 0 means."""
    count = as_integer(value)
    if count is None or not 0 <= count <= most:
        raise ConfigError(f"{name} is {value!r}: must be from 0 ({none}) to {most} {unit}")
    return count


NETWORK_ALONE = QualityOptions(burst=0)
"""One run of the network, nothing else."""
