"""The training loop: draw, restore, compare, step; report, validate, save, resume."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unsmear import __version__
from unsmear.data.pairs import PairedSequence
from unsmear.errors import MissingExtraError, UnsmearError
from unsmear.evaluate.validation import SequenceScore, measure
from unsmear.models.checkpoint import Provenance, save_weights
from unsmear.models.zoo import LoadedModel, find_entry
from unsmear.train.batches import Batches
from unsmear.train.config import TrainConfig
from unsmear.train.losses import LOSSES
from unsmear.train.state import TrainState

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

STATE_FILE = "state.safetensors"
WEIGHTS_FILE = "weights.safetensors"
_MOST_BAD_STEPS = 20


@dataclass(frozen=True)
class Report:
    """How training goes, averaged since the report before.

    Attributes:
        step: steps taken.
        steps: of the whole run.
        loss: as configured.
        psnr: of restored crops, dB.
        gain: PSNR over that of the blurry crops, dB.
        frames_per_second: restored and learned from.
        seconds_left: at this speed.
        scores: validation, where this step had one.
    """

    step: int
    steps: int
    loss: float
    psnr: float
    gain: float
    frames_per_second: float
    seconds_left: float
    scores: tuple[SequenceScore, ...] = ()


def train(
    config: TrainConfig,
    batches: Batches,
    validation: Sequence[PairedSequence],
    out: Path,
    device: torch.device,
    report: Callable[[Report], None],
    *,
    initial: LoadedModel | None = None,
    stop_after: int | None = None,
) -> Path:
    """Train, or go on where `out` left off.

    Args:
        config: what to do.
        batches: where data comes from.
        validation: paired sequences to measure on, may be empty.
        out: folder for the state, the weights and the TensorBoard log.
        device: where to train.
        report: called every `log_every` steps.
        initial: weights to start from rather than random ones.
        stop_after: leave off at this step as if interrupted, for runs in several sittings.

    Returns:
        The weights file: the moving average.

    Raises:
        UnsmearError: the loss is not finite for 20 steps on end, `out` holds another run, or
            the initial weights are of another network.
    """
    out.mkdir(parents=True, exist_ok=True)
    entry = find_entry(config.model)
    state = TrainState.start(entry.config, config, device)
    if initial is not None:
        state.take_weights(initial)
    if (out / STATE_FILE).exists():
        state.load(out / STATE_FILE, config)
    stepper = _Stepper(config, state, device)
    writer = _open_log(out)
    meter = _Meter(device)
    began = time.monotonic() - state.seconds
    scores: list[SequenceScore] = []
    last = min(config.steps, stop_after or config.steps)
    try:
        while state.step < last:
            meter.add(*stepper.step(batches))
            state.seconds = time.monotonic() - began
            step = state.step
            done = step == last
            if validation and (step % config.validate_every == 0 or done):
                scores = measure(state.average, validation, entry.window, with_ssim=done)
                _log_scores(writer, step, scores)
            if step % config.log_every == 0 or done:
                fresh = tuple(scores) if step % config.validate_every == 0 or done else ()
                line = meter.report(step, config.steps, fresh)
                _log(writer, line, config.learning_rate_at(step - 1))
                report(line)
            if step % config.checkpoint_every == 0 or done:
                state.save(out / STATE_FILE, config)
    except KeyboardInterrupt:
        state.save(out / STATE_FILE, config)
        raise
    finally:
        writer.close()
    weights = out / WEIGHTS_FILE
    save_weights(
        weights,
        entry.config,
        state.average.state_dict(),
        _provenance(config, state, device, scores, initial),
    )
    return weights


class _Stepper:
    """One optimiser step at a time."""

    def __init__(self, config: TrainConfig, state: TrainState, device: torch.device) -> None:
        self._config, self._state, self._device = config, state, device
        self._loss = LOSSES[config.loss]
        half = config.precision == "bfloat16" or (
            config.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
        )
        self._autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)
        self._bad = 0

    def step(self, batches: Batches) -> tuple[Tensor, Tensor, Tensor, int]:
        """Loss and PSNR after and before, as tensors on the device; frames learned from."""
        state, config = self._state, self._config
        blurry, sharp = batches.draw(config.stage_at(state.step), state.random)
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate_at(state.step)
        with self._autocast:
            restored = state.network(blurry)
        restored = restored.float()
        loss = self._loss(restored, sharp)
        state.network.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(state.network.parameters(), config.clip_norm)
        if torch.isfinite(norm):
            for optimizer in state.optimizers:
                optimizer.step()
            self._bad = 0
        else:
            self._bad += 1
            if self._bad == _MOST_BAD_STEPS:
                raise UnsmearError(
                    f"the gradient was not finite for {self._bad} steps on end: lower the "
                    f"learning rate ({config.learning_rate}) or check the data"
                )
        state.step += 1
        state.update_average(config.ema_decay)
        with torch.no_grad():
            after, before = _batch_psnr(restored, sharp), _batch_psnr(blurry, sharp)
        return loss.detach(), after, before, blurry.shape[0] * blurry.shape[1]


def _batch_psnr(clips: Tensor, sharp: Tensor) -> Tensor:
    """Mean PSNR of the frames of (B, T, 3, H, W), dB, as a tensor; perfect frames count 60."""
    error = (clips.clamp(0, 1) - sharp).square().flatten(2).mean(dim=-1)
    return -10 * torch.log10(error.clamp_min(1e-6)).mean()


class _Meter:
    """Averages between reports, kept on the device so that no step waits for the host."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._reset()

    def _reset(self) -> None:
        self._sum = torch.zeros(3, device=self._device)
        self._count = self._frames = 0
        self._since = time.monotonic()

    def add(self, loss: Tensor, after: Tensor, before: Tensor, frames: int) -> None:
        self._sum += torch.stack((loss, after, before))
        self._count += 1
        self._frames += frames

    def report(self, step: int, steps: int, scores: tuple[SequenceScore, ...]) -> Report:
        loss, after, before = (self._sum / self._count).tolist()
        seconds = max(time.monotonic() - self._since, 1e-9)
        line = Report(
            step,
            steps,
            loss,
            after,
            after - before,
            self._frames / seconds,
            (steps - step) * seconds / self._count,
            scores,
        )
        self._reset()
        return line


def _open_log(out: Path) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtraError("tensorboard", "train", "the training log") from None
    return SummaryWriter(str(out))


def _log(writer: SummaryWriter, line: Report, learning_rate: float) -> None:
    values = {
        "train/loss": line.loss,
        "train/psnr": line.psnr,
        "train/gain": line.gain,
        "train/learning_rate": learning_rate,
        "speed/frames_per_second": line.frames_per_second,
    }
    for name, value in values.items():
        writer.add_scalar(name, value, line.step)


def _log_scores(writer: SummaryWriter, step: int, scores: Sequence[SequenceScore]) -> None:
    for score in scores:
        gain = score.psnr_after - score.psnr_before
        writer.add_scalar(f"val/{score.name}", score.psnr_after, step)
        writer.add_scalar(f"val_gain/{score.name}", gain, step)
    mean = fmean(score.psnr_after for score in scores)
    writer.add_scalar("val/mean", mean, step)


def _provenance(
    config: TrainConfig,
    state: TrainState,
    device: torch.device,
    scores: Sequence[SequenceScore],
    initial: LoadedModel | None,
) -> Provenance:
    values: dict[str, dict[str, float]] = {}
    for score in scores:
        fields: dict[str, Any] = {k: v for k, v in vars(score).items() if k != "name"}
        values[score.name] = {k: round(float(v), 4) for k, v in fields.items() if v is not None}
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Provenance(
        model=config.model,
        steps=state.step,
        seed=config.seed,
        hours=round(state.seconds / 3600, 2),
        device=named,
        version=__version__,
        config=config.to_json(),
        scores=values,
        parent=dataclasses.asdict(initial.provenance) if initial else None,
    )
