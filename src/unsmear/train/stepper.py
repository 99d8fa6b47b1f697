"""One optimiser step: restore, compare, differentiate, average over the team, move the weights.

A GPU works out most of a step's some thousand operations faster than the host asks for them: of
the first `pro` in 37 ms of the 81 that a step took on an H200, whose host was busy for all of them.
So on a CUDA GPU a step is recorded once for each shape of batch as CUDA graphs, and replayed.

On a CPU, which has nothing to gain from large batches, each shard is learned from by itself, and
gradients are added up in pairs, so that one process comes to the sums of two to the last bit. (Muon
makes full steps along the smallest gradients: what starts as rounding does not stay it. Four
processes and more add up in an order that is not ours, and agree but for rounding.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from unsmear.data.clips import Clips
from unsmear.errors import UnsmearError
from unsmear.models.network import DeblurNetwork
from unsmear.train.config import CompileChoice, TrainConfig
from unsmear.train.drafts import redrafted_places, with_drafts
from unsmear.train.interrupts import held_back
from unsmear.train.losses import build_loss, restore_and_compare, trail_weight_of
from unsmear.train.state import TrainState
from unsmear.train.teaching import told
from unsmear.train.team import Team

_MOST_BAD_STEPS = 20
_BEFORE_RECORDING = 3  # steps in which libraries set themselves up and moments come to be


class Learned(NamedTuple):
    """What a step tells, on the device.

    Attributes:
        loss: a scalar.
        after: mean PSNR of the restored frames, dB.
        before: of the blurry ones.
    """

    loss: Tensor
    after: Tensor
    before: Tensor


class Stepper:
    """One optimiser step at a time.

    Args:
        config: how.
        state: what each step changes.
        device: where the state lies.
        team: whose gradients are averaged.
        teacher: that the configuration names, on the device.
        graphs: whether steps are recorded, as the state was made for it, see `wants_graphs`.

    Raises:
        ValueError: there is a teacher and the configuration names none, or the other way round.
    """

    def __init__(
        self,
        config: TrainConfig,
        state: TrainState,
        device: torch.device,
        team: Team,
        *,
        teacher: DeblurNetwork | None = None,
        graphs: bool = False,
    ) -> None:
        self._config, self._state, self._team = config, state, team
        if (teacher is None) != (not config.teacher):
            raise ValueError(
                f"the configuration's teacher is {config.teacher!r}: give it, no other"
            )
        self._teacher = teacher
        self._shards = team.share(range(config.shards))
        self._parts = len(self._shards) if device.type == "cpu" else 1
        if config.compile == "on":
            # In place, before it is wrapped: keys of weights and checkpoints stay as they are.
            # Each stage has one shape, and gets a program of its own.
            state.network.compile(dynamic=False)
            if teacher is not None:
                teacher.compile(dynamic=False)
        for module in (state.network, state.average):
            team.follow(list(module.state_dict().values()))
        self._loss = build_loss(config)
        self._trail_weight = trail_weight_of(state.network, config)
        self._autocast = half_precision(config, device)
        self._rates = [group for o in state.optimizers for group in o.param_groups]
        self._halves = (self._differentiate, self._move)
        if graphs:
            # What is recorded reads its rate from the device.
            for group in self._rates:
                group["lr"] = torch.tensor(config.learning_rate, device=device)
            recorder = Recorder(*self._halves, device)
            self._halves = (recorder.differentiate, recorder.move)
        self._bad = 0

    def step(self, clips: Clips) -> tuple[Tensor, Tensor, Tensor, int, bool]:
        """Learn from clips: this process's part of the batch.

        Returns:
            Loss, PSNR after and PSNR before, as tensors on the device; frames worked on; whether
            they were learned from, as they are not where the gradient is not finite.

        Raises:
            UnsmearError: the gradient was not finite for 20 steps on end.
        """
        state, config = self._state, self._config
        rate = config.learning_rate_at(state.step)
        for group in self._rates:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        places = redrafted_places(config, config.stage_at(state.step), self._shards)
        if places:
            with self._autocast:
                clips = with_drafts(state.network, clips, places)
        differentiate, move = self._halves
        learned = differentiate(clips)
        self._team.average(self._gradients())
        norm = torch.nn.utils.clip_grad_norm_(state.network.parameters(), config.clip_norm)
        finite = bool(torch.isfinite(norm))
        self._bad = 0 if finite else self._bad + 1
        if self._bad == _MOST_BAD_STEPS:
            raise UnsmearError(
                f"the gradient was not finite for {self._bad} consecutive steps: check the data, "
                f"or start a run with a lower --learning-rate than {config.learning_rate} in "
                "another --out, with the --weights that this one has saved"
            )
        with held_back():
            if finite:
                move()
            state.step += 1
            state.update_average(config.ema_decay)
        frames = clips.blurry.shape[0] * clips.blurry.shape[1]
        return learned.loss, learned.after, learned.before, frames, finite

    def _differentiate(self, clips: Clips) -> Learned:
        """Mean gradients of this process's clips, left at the parameters."""
        learned = self._learn(clips.parts(self._parts))
        if self._parts == 1:
            return learned
        for gradient in self._gradients():
            gradient.div_(self._parts)
        return Learned(*(value / self._parts for value in learned))

    def _learn(self, parts: Sequence[Clips]) -> Learned:
        """Sums of the gradients of parts of a batch, left at the parameters, and of what they tell.
        Every second part is summed up apart, as is what two processes share.
        """
        network = self._state.network
        if len(parts) > 1:
            one = self._learn(parts[::2])
            kept = [parameter.grad for parameter in network.parameters()]
            two = self._learn(parts[1::2])
            for parameter, gradient in zip(network.parameters(), kept, strict=True):
                if parameter.grad is not None and gradient is not None:
                    parameter.grad.add_(gradient)
            return Learned(*(a + b for a, b in zip(one, two, strict=True)))
        (clips,) = parts
        blurry, sharp = clips.pair
        with self._autocast:
            # First, while nothing is kept for the way back.
            taught = None if self._teacher is None else told(self._teacher, clips)
            restored, loss = restore_and_compare(network, clips, self._loss, self._trail_weight)
            if taught is not None:
                loss = loss + self._config.teacher_weight * self._loss(restored, taught)
        network.zero_grad(set_to_none=True)
        loss.backward()
        with torch.no_grad():
            after, before = _batch_psnr(restored, sharp), _batch_psnr(blurry, sharp)
        return Learned(loss.detach(), after, before)

    def _gradients(self) -> list[Tensor]:
        """Those that there are: what a loss does not reach has none."""
        parameters = self._state.network.parameters()
        return [parameter.grad for parameter in parameters if parameter.grad is not None]

    def _move(self) -> None:
        for optimizer in self._state.optimizers:
            optimizer.step()


class Recorder:
    """Has the two halves of a step recorded as CUDA graphs, and replays them. They are two since
    the host looks at the norm of the gradient between them.

    What they read and write lies where it lay when they were recorded: batches are copied there,
    and what is returned holds until the next step.

    Args:
        differentiate: clips -> what a step tells; leaves gradients at the parameters.
        move: the parameters, by these.
        device: that they work on.
    """

    def __init__(
        self,
        differentiate: Callable[[Clips], Learned],
        move: Callable[[], None],
        device: torch.device,
    ) -> None:
        self._differentiate, self._move = differentiate, move
        self._device = device
        self._shape: torch.Size | None = None
        self._moves = 0  # with this shape, before recording
        self._stream = torch.cuda.Stream(device)
        self._clips: Clips | None = None
        self._learned: Learned | None = None
        self._first: torch.cuda.CUDAGraph | None = None
        self._second: torch.cuda.CUDAGraph | None = None

    def differentiate(self, clips: Clips) -> Learned:
        """The first half of a step."""
        if clips.blurry.shape != self._shape:
            self._shape, self._moves = clips.blurry.shape, 0
            self._clips = self._learned = self._first = self._second = None
        if self._moves < _BEFORE_RECORDING:
            with self._aside():
                return self._differentiate(clips)
        if self._clips is None:
            self._clips = clips  # its memory is what later ones are copied to
        else:
            for kept, fresh in zip(self._clips.tensors, clips.tensors, strict=True):
                kept.copy_(fresh)
        if self._first is None:
            self._first = torch.cuda.CUDAGraph()
            with self._recording(self._first):
                self._learned = self._differentiate(self._clips)
        self._replay(self._first)
        assert self._learned is not None
        return self._learned

    def move(self) -> None:
        """The second half."""
        if self._first is None:
            with self._aside(), warnings.catch_warnings():
                # Adam wonders why it is not being recorded: it will be.
                warnings.simplefilter("ignore", UserWarning)
                self._move()
            self._moves += 1
            return
        if self._second is None:
            self._second = torch.cuda.CUDAGraph()
            with self._recording(self._second):
                self._move()
        self._replay(self._second)

    # All of these are about the streams of a device, of which each thread has a current one: on any
    # other GPU than the first, nothing would be recorded there.

    @contextmanager
    def _recording(self, graph: torch.cuda.CUDAGraph) -> Iterator[None]:
        # Other threads may go on: batches are copied to the device meanwhile.
        with (
            torch.cuda.device(self._device),
            torch.cuda.graph(graph, capture_error_mode="thread_local"),
        ):
            yield

    def _replay(self, graph: torch.cuda.CUDAGraph) -> None:
        with torch.cuda.device(self._device):
            graph.replay()

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Work in another stream than the usual one, in order with it: what was begun in the usual
        one cannot be recorded later.
        """
        usual = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            yield
        usual.wait_stream(self._stream)


def half_precision(config: TrainConfig, device: torch.device) -> torch.autocast:
    """Where a network learns: convolutions in bfloat16, if the configuration wants it there."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wants_half(config, device))


def wants_half(config: TrainConfig, device: torch.device) -> bool:
    """Whether that is wanted: `auto` is on a GPU that has such convolutions."""
    if config.precision == "auto":
        return device.type == "cuda" and _has_bfloat16(device)
    return config.precision == "bfloat16"


def _has_bfloat16(device: torch.device) -> bool:
    """Whether a GPU has convolutions in bfloat16; older ones imitate them, slowly."""
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def wants_graphs(choice: CompileChoice, device: torch.device) -> bool:
    """Whether steps are to be recorded: `auto` on a CUDA GPU."""
    return choice == "graph" or (choice == "auto" and device.type == "cuda")


def _batch_psnr(clips: Tensor, sharp: Tensor) -> Tensor:
    """Mean PSNR of the frames of (B, T, 3, H, W), dB, as a tensor; perfect frames count 60."""
    error = (clips.clamp(0, 1) - sharp).square().flatten(2).mean(dim=-1)
    return -10 * torch.log10(error.clamp_min(1e-6)).mean()
