"""One optimiser step: restore, compare, differentiate, average over the team, update the weights.

A GPU executes most of a step's some thousand operations faster than the host launches them: a step
of an early `pro` took 81 ms on an H200, of which the GPU computed for 37 and the host was busy for
all. So on a CUDA GPU a step is recorded as CUDA graphs, once for each batch shape, and replayed.

A CPU gains nothing from large batches. There each shard is learned from separately and gradients
are added up in pairs, so that one process gets the same sums as two, bit for bit. (Muon takes full
steps even along tiny gradients, so rounding errors would grow. Four processes or more add up in an
order that we do not control, and agree up to rounding.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from unsmear.data.clips import Clips
from unsmear.data.generators import Generators
from unsmear.errors import UnsmearError
from unsmear.models.network import DeblurNetwork
from unsmear.train.config import CompileChoice, TrainConfig
from unsmear.train.distillation import teacher_results
from unsmear.train.drafts import draft_indices, with_drafts
from unsmear.train.interrupts import interrupts_deferred
from unsmear.train.losses import build_loss, restore_and_compare, trail_weight_of
from unsmear.train.state import TrainState
from unsmear.train.team import Team

_MOST_BAD_STEPS = 20
_BEFORE_RECORDING = 3  # steps in which libraries initialise and optimiser state is allocated


class Learned(NamedTuple):
    """Results of a step, on the device.

    Attributes:
        loss: a scalar.
        after: mean PSNR of the restored frames, dB.
        before: mean PSNR of the blurry frames, dB.
    """

    loss: Tensor
    after: Tensor
    before: Tensor


class Stepper:
    """Takes optimiser steps.

    Args:
        config: how to train.
        state: updated by each step.
        device: of the state.
        team: the processes whose gradients are averaged.
        teacher: the one that the configuration names, on the device.
        graphs: whether steps are recorded, see `wants_graphs`; the state must be made for it.
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
        self._teacher = teacher
        self._shards = team.share(range(config.shards))
        self._parts = len(self._shards) if device.type == "cpu" else 1
        if config.compile == "on":
            # In place, so that the keys of weights and checkpoints stay the same. Each stage has
            # one shape and is compiled separately.
            state.network.compile(dynamic=False)
            if teacher is not None:
                teacher.compile(dynamic=False)
        for module in (state.network, state.average):
            team.broadcast(list(module.state_dict().values()))
        self._loss = build_loss(config)
        self._trail_weight = trail_weight_of(state.network, config)
        self._autocast = half_precision(config, device)
        self._rates = [group for o in state.optimizers for group in o.param_groups]
        self._halves = (self._differentiate, self._move)
        if graphs:
            # Recorded steps read the learning rate from the device.
            for group in self._rates:
                group["lr"] = torch.tensor(config.learning_rate, device=device)
            recorder = Recorder(*self._halves, device)
            self._halves = (recorder.differentiate, recorder.move)
        self._bad = 0

    @interrupts_deferred()  # already the forward pass may change statistics of normalisation
    def step(self, clips: Clips) -> tuple[Tensor, Tensor, Tensor, int, bool]:
        """Learn from this process's part of the batch. The global random generators are seeded
        for the step: random layers, such as dropout, draw the same after a run is resumed.

        Returns:
            Loss, PSNR after and PSNR before, as tensors on the device; number of frames; whether
            the weights were updated, which they are not if the gradient is not finite.

        Raises:
            UnsmearError: the gradient was not finite for 20 consecutive steps.
        """
        state, config = self._state, self._config
        torch.manual_seed(self._random_seed())
        rate = config.learning_rate_at(state.step)
        for group in self._rates:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        places = draft_indices(config, config.stage_at(state.step), self._shards)
        if places:
            with self._autocast:
                clips = with_drafts(state.network, clips, places)
        differentiate, move = self._halves
        before = [value.clone() for value in state.network.buffers()]
        learned = differentiate(clips)
        gradients = self._gradients()
        self._team.average(gradients)
        if self._parts > 1:  # last: two processes with three shards each round as one with six
            torch._foreach_div_(gradients, self._parts)
        norm = torch.nn.utils.clip_grad_norm_(state.network.parameters(), config.clip_norm)
        finite = bool(torch.isfinite(norm))
        self._bad = 0 if finite else self._bad + 1
        if self._bad == _MOST_BAD_STEPS:
            raise UnsmearError(
                f"the gradient was not finite for {self._bad} consecutive steps: check the data, "
                f"or start a run with a lower --learning-rate than {config.learning_rate} in "
                "another --out, with the --weights that this one has saved"
            )
        if finite:
            move()
        else:  # batch normalisation may have seen what was not finite
            for value, was in zip(state.network.buffers(), before, strict=True):
                value.copy_(was)
        state.step += 1
        state.update_average(config.ema_decay)
        frames = clips.blurry.shape[0] * clips.blurry.shape[1]
        return learned.loss, learned.after, learned.before, frames, finite

    def _random_seed(self) -> int:
        """Seed of the present step, in this process: that of a shard beyond those of the data."""
        seed, beyond = self._config.seed, self._config.shards + self._team.rank
        random = Generators.of_shard(seed, self._state.step, beyond, torch.device("cpu"))
        return random.host.initial_seed()

    def _differentiate(self, clips: Clips) -> Learned:
        """Sum the gradients of the parts of this process's clips, left at the parameters; zero at
        those that the clips did not use. Results are means.
        """
        learned = self._learn(clips.parts(self._parts))
        # So that all processes average the same gradients, and one process moves what two would.
        # Here, since replayed graphs must set them to zero again: clipping may have made them NaN.
        for parameter in self._state.network.parameters():
            if parameter.grad is None and parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
        return Learned(*(value / self._parts for value in learned))

    def _learn(self, parts: Sequence[Clips]) -> Learned:
        """Sum the gradients of parts of a batch, left at the parameters, and their results. Even
        and odd parts are summed separately, as two processes would do it.
        """
        network = self._state.network
        if len(parts) > 1:
            one = self._learn(parts[::2])
            kept = [parameter.grad for parameter in network.parameters()]
            two = self._learn(parts[1::2])
            for parameter, gradient in zip(network.parameters(), kept, strict=True):
                if parameter.grad is None:  # such as that of a block that was skipped at random
                    parameter.grad = gradient
                elif gradient is not None:
                    parameter.grad.add_(gradient)
            return Learned(*(a + b for a, b in zip(one, two, strict=True)))
        (clips,) = parts
        blurry, sharp = clips.pair
        with self._autocast:
            # First, while no activations are kept for the backward pass.
            taught = None if self._teacher is None else teacher_results(self._teacher, clips)
            restored, loss = restore_and_compare(network, clips, self._loss, self._trail_weight)
            if taught is not None:
                loss = loss + self._config.teacher_weight * self._loss(restored, taught)
        network.zero_grad(set_to_none=True)
        loss.backward()
        with torch.no_grad():
            after, before = _batch_psnr(restored, sharp), _batch_psnr(blurry, sharp)
        return Learned(loss.detach(), after, before)

    def _gradients(self) -> list[Tensor]:
        """Gradients of the parameters that are trained."""
        parameters = self._state.network.parameters()
        return [parameter.grad for parameter in parameters if parameter.grad is not None]

    def _move(self) -> None:
        for optimizer in self._state.optimizers:
            optimizer.step()


class Recorder:
    """Records the two halves of a step as CUDA graphs and replays them. There are two, since the
    host checks the norm of the gradient in between.

    Graphs read and write fixed memory: batches are copied there, and results are valid until the
    next step.

    Args:
        differentiate: clips -> results of the step; leaves gradients at the parameters.
        move: updates the parameters from these.
        device: that they run on.
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
        """Run the first half of a step."""
        if clips.blurry.shape != self._shape:
            self._shape, self._moves = clips.blurry.shape, 0
            self._clips = self._learned = self._first = self._second = None
        if self._moves < _BEFORE_RECORDING:
            with self._aside():
                return self._differentiate(clips)
        if self._clips is None:
            self._clips = clips  # later batches are copied to its memory
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
        """Run the second half."""
        if self._first is None:
            with self._aside(), warnings.catch_warnings():
                # Adam warns that capturable steps are not being captured; they will be.
                warnings.simplefilter("ignore", UserWarning)
                self._move()
            self._moves += 1
            return
        if self._second is None:
            self._second = torch.cuda.CUDAGraph()
            with self._recording(self._second):
                self._move()
        self._replay(self._second)

    # Every thread has a current device and stream. The device is set here, or nothing would be
    # recorded on any GPU but the first.

    @contextmanager
    def _recording(self, graph: torch.cuda.CUDAGraph) -> Iterator[None]:
        # Other threads may go on: they copy batches to the device meanwhile.
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
        """Run in a side stream, synchronised with the current one: warm-up steps in the current
        stream would prevent their later capture.
        """
        usual = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            yield
        usual.wait_stream(self._stream)


def half_precision(config: TrainConfig, device: torch.device) -> torch.autocast:
    """Autocast context of training: convolutions in bfloat16, if the configuration wants it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wants_half(config, device))


def wants_half(config: TrainConfig, device: torch.device) -> bool:
    """Whether to train in bfloat16. `auto`: on a GPU that supports it."""
    if config.precision == "auto":
        if device.type != "cuda":
            return False
        with torch.cuda.device(device):  # older GPUs emulate it, slowly
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return config.precision == "bfloat16"


def wants_graphs(choice: CompileChoice, device: torch.device) -> bool:
    """Whether to record steps as CUDA graphs. `auto`: on a CUDA GPU."""
    return choice == "graph" or (choice == "auto" and device.type == "cuda")


def _batch_psnr(clips: Tensor, sharp: Tensor) -> Tensor:
    """Mean PSNR of the frames of (B, T, 3, H, W), dB, as a tensor; capped at 60 dB per frame.
    Channels beyond those are left out.
    """
    error = (clips[:, :, :3].clamp(0, 1) - sharp).square().flatten(2).mean(dim=-1)
    return -10 * torch.log10(error.clamp_min(1e-6)).mean()
