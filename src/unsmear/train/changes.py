"""Changes of a preset's training. Without torch: the command line imports it for its help."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from unsmear.errors import ConfigError, Mistakes

if TYPE_CHECKING:
    from unsmear.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class ScheduleChanges:
    """One optional change for each field of `unsmear.train.config.TrainConfig` about optimiser,
    schedule and reports.

    Attributes:
        optimizer: Optimiser: adam, or muon for hidden convolutions and Adam for the rest.
        schedule: Learning rate over time: cosine (to 1 % at the end), constant, or halving, which
            needs --halve-every.
        halve_every: Steps after which the learning rate halves, not scaled by --steps.
        warmup: Steps in which the learning rate rises from 0 to its peak, not scaled by --steps.
        ema_decay: Decay of the moving average of the weights, which is validated and saved.
        clip_norm: Maximum norm of the gradient; inf: no limit.
        trail_weight: Weight of the loss on blur trails, for networks that follow them.
        shards: Parts of a batch, each with random numbers of its own; the number of processes must
            divide it, and it must divide --clips.
        log_every: Steps between lines of the log.
        validate_every: Steps between validations.
        checkpoint_every: Steps between checkpoints.
    """

    optimizer: Literal["adam", "muon"] | None = None
    schedule: Literal["cosine", "halving", "constant"] | None = None
    halve_every: int | None = None
    warmup: int | None = None
    ema_decay: float | None = None
    clip_norm: float | None = None
    trail_weight: float | None = None
    shards: int | None = None
    log_every: int | None = None
    validate_every: int | None = None
    checkpoint_every: int | None = None

    def applied_to(self, config: TrainConfig) -> TrainConfig:
        """The configuration with every value that is not None replaced.

        Raises:
            ConfigError: a value is out of its range, or contradicts another (CombinedError: both).
        """
        mistakes = Mistakes()
        schedule = self.schedule or config.schedule
        if self.halve_every is not None and schedule != "halving":
            mistakes.add(
                ConfigError(
                    f"halve_every is {self.halve_every}, but the schedule is '{schedule}': add "
                    "--schedule halving, or leave it out"
                )
            )
        wanted = {name: value for name, value in vars(self).items() if value is not None}
        changed = mistakes.attempt(lambda: dataclasses.replace(config, **wanted))
        mistakes.tell()
        assert changed is not None
        return changed


AS_SCHEDULED = ScheduleChanges()
