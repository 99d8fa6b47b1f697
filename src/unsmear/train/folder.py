"""The folder of a run: its state, its weights, those that validated best, and its logs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from unsmear import __version__
from unsmear.data.clips import Clips
from unsmear.data.pairs import PairedSequence
from unsmear.evaluate.validation import SequenceScore
from unsmear.models.checkpoint import Provenance
from unsmear.train.config import TrainConfig
from unsmear.train.interrupts import interrupts_deferred
from unsmear.train.journal import Journal
from unsmear.train.meter import Report
from unsmear.train.pictures import Sample, picture, training_samples, validation_samples
from unsmear.train.state import BEST_FILE, STATE_FILE, WEIGHTS_FILE, TrainState
from unsmear.train.team import Team
from unsmear.train.trainable import Trainable


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Validates a run and writes what is kept of it. Every process of the team calls the methods;
    the main process writes.

    Attributes:
        path: of the folder.
        config: of the run.
        kind: of the network.
        state: of the run; each training step changes it.
        device: of the state.
        team: the processes that train together.
        validation: paired sequences to measure on, may be empty.
        shown: clips to show in the log if there is no validation set, whose frames are shown
            otherwise.
        journal: the logs, in the main process.
    """

    path: Path
    config: TrainConfig
    kind: Trainable
    state: TrainState
    device: torch.device
    team: Team
    validation: Sequence[PairedSequence]
    shown: Clips | None
    journal: Journal | None

    @property
    def lacks_validation(self) -> bool:
        """Whether the run was stopped just before a validation that was due."""
        step = self.state.step
        due = bool(self.validation) and step > 0 and step % self.config.validate_every == 0
        return due and self.state.validated != step

    def save_state(self) -> None:
        """Write the state."""
        if self.team.is_main:
            self.state.save(self.path / STATE_FILE, self.config)

    def save_weights(self, scores: Sequence[SequenceScore] = (), name: str = WEIGHTS_FILE) -> None:
        """Write the moving average of the weights, with their scores."""
        if self.team.is_main:
            origin = _provenance(self.config, self.state, self.device, self.team, scores)
            self.kind.save(self.path / name, self.state.average, origin)

    def after_step(self, *, done: bool) -> list[SequenceScore]:
        """Save and validate if it is time to. Returns the scores; none if the step has none.

        Args:
            done: whether it was the last step.
        """
        step, config = self.state.step, self.config
        # Saved before anything can fail: a validation frame may be unreadable.
        if step % config.checkpoint_every == 0 or done:
            self.save_state()
            if not done:  # so that another run can start from here if this one fails
                self.save_weights()
        if step % config.validate_every == 0 or done:
            if self.validation:
                return self.validate(done=done)
            self._show()
        return []

    def validate(self, *, done: bool) -> list[SequenceScore]:
        """Measure the weights, keep them if they are the best so far, and show what they do.

        Args:
            done: whether the run has taken its last step: SSIM is measured then too.

        Raises:
            InputError: a frame cannot be read, or sizes differ.
            OutputError: a file cannot be written.
        """
        # Statistics of batch normalisation: what is measured is what the main process saves.
        self.team.broadcast(list(self.state.average.buffers()))
        share = self.team.share(self.validation)
        own = self.kind.measure(self.state.average, share, with_ssim=done)
        scores = self.team.gather(own)
        with interrupts_deferred():  # the best weights and their score belong together
            if self.state.judge(scores):
                self.save_weights(scores, BEST_FILE)
            self.save_state()
        self._show()
        return scores

    def catch_up(self, *, done: bool) -> list[SequenceScore]:
        """Validate after a run was stopped just before it, without the report of a step."""
        scores = self.validate(done=done)
        if self.journal is not None:
            self.journal.add_scores(self.state.step, scores)
        return scores

    def note(self, line: Report) -> None:
        """Log a report of the last step and those before it."""
        if self.journal is not None:
            self.journal.add(line, self.config.learning_rate_at(line.step - 1))

    def close(self) -> None:
        """Write what the logs still buffer."""
        if self.journal is not None:
            self.journal.close()

    def _show(self) -> None:
        """Log pictures of what the weights do."""
        if self.journal is None:
            return
        samples: Iterator[Sample] = iter(())
        if self.validation:
            samples = validation_samples(self.validation, self.kind.window)
        elif self.shown is not None:
            samples = training_samples(self.shown)
        restore = partial(self.kind.restored, self.state.average)
        images = {each.name: picture(restore, each) for each in samples}
        self.journal.add_pictures(self.state.step, images)


def _provenance(
    config: TrainConfig,
    state: TrainState,
    device: torch.device,
    team: Team,
    scores: Sequence[SequenceScore],
) -> Provenance:
    """How the weights of a state were trained."""
    values = {
        score.name: {
            key: round(float(value), 4)
            for key, value in vars(score).items()
            if key != "name" and value is not None
        }
        for score in scores
    }
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Provenance(
        model=config.model,
        steps=state.step,
        seed=config.seed,
        hours=round(state.seconds / 3600, 2),
        device=named if team.size == 1 else f"{team.size} x {named}",
        version=__version__,
        config=config.to_json(),
        scores=values,
        parent=state.parent,
        data=None if state.data is None else dataclasses.asdict(state.data),
    )
