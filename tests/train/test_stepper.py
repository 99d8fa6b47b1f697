"""Steps in two halves, recorded as CUDA graphs on a GPU."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from functools import partial

import pytest
import torch

from tests.conftest import TWO_ALIGNED
from unsmear.data.clips import Clips, join_clips
from unsmear.data.trails import Trails
from unsmear.errors import UnsmearError
from unsmear.models import zoo
from unsmear.models.flow import clip_motion
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import Entry
from unsmear.train import stepper
from unsmear.train.config import Stage, TrainConfig
from unsmear.train.state import TrainState
from unsmear.train.stepper import Learned, Recorder, Stepper, wants_graphs
from unsmear.train.team import Team

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CONFIG = TrainConfig(
    model="finder",
    stages=(Stage(steps=99, clips=2, frames=3, crop=32),),
    optimizer="muon",
    learning_rate=1e-3,
    warmup=2,
    precision="float32",
)


@pytest.fixture(autouse=True)
def _row(monkeypatch):
    entry = Entry(name="finder", summary="", config=TWO_ALIGNED, window=3)
    monkeypatch.setitem(zoo.ZOO, "finder", entry)


def clips_like(value, size=32, device=CPU):
    blurry = torch.rand(2, 3, 3, size, size, generator=torch.Generator().manual_seed(value))
    trails = Trails(torch.ones(2, 3, 2, size // 8, size // 8), torch.ones(2, 3, 1, 4, 4))
    clips = Clips(blurry, blurry.flip(-1), trails, clip_motion(blurry))
    return clips.to(device)


def test_graphs_are_for_gpus():
    assert wants_graphs("auto", CUDA)
    assert not wants_graphs("auto", CPU)
    assert not wants_graphs("off", CUDA)
    assert not wants_graphs("on", CUDA)
    assert wants_graphs("graph", CUDA)


current = []


@contextlib.contextmanager
def on_device(device):
    current.append(device)
    yield
    current.pop()


class FakeGraph:
    """Counts recordings and replays."""

    def __init__(self):
        self.replays, self.recordings = 0, 0

    def replay(self):
        assert self.recordings == 1
        assert current == [SECOND]  # on another device, nothing would happen
        self.replays += 1


@contextlib.contextmanager
def recorded(graph, capture_error_mode):
    assert capture_error_mode == "thread_local"
    assert current == [SECOND]
    graph.recordings += 1
    yield


class FakeStream:
    def __init__(self, device):
        assert device == SECOND

    def wait_stream(self, other):
        pass


SECOND = torch.device("cuda", 1)


def test_a_recorder_records_once_for_each_shape_and_copies_batches_in(monkeypatch):
    monkeypatch.setattr(stepper.torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(stepper.torch.cuda, "current_stream", FakeStream)
    monkeypatch.setattr(stepper.torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(stepper.torch.cuda, "graph", recorded)
    monkeypatch.setattr(stepper.torch.cuda, "device", on_device)
    seen, moves, made = [], [], []

    def make():
        made.append(FakeGraph())
        return made[-1]

    monkeypatch.setattr(stepper.torch.cuda, "CUDAGraph", make)

    def differentiate(clips):
        seen.append(clips)
        return Learned(*torch.zeros(3))

    recorder = Recorder(differentiate, lambda: moves.append(1), SECOND)
    for value in range(6):
        recorder.differentiate(clips_like(value))
        recorder.move()
    assert len(seen) == len(moves) == 3 + 1  # warm-up, and recording
    first, second = made
    assert (first.replays, second.replays) == (3, 3)
    for kept, last in zip(seen[-1].tensors, clips_like(5).tensors, strict=True):
        assert torch.equal(kept, last)  # the tensors that the graph reads
    recorder.differentiate(clips_like(0, size=40))
    recorder.move()
    assert len(seen) == len(moves) == 5
    assert (first.replays, second.replays) == (3, 3)
    for value in range(4):  # without moves, no moments exist yet: nothing is recorded
        recorder.differentiate(clips_like(value, size=48))
    assert len(made) == 2


def test_gpus_that_imitate_bfloat16_learn_in_float32(monkeypatch):
    """On Volta and Turing, torch reports support for bfloat16 even though it is emulated."""
    config = dataclasses.replace(CONFIG, precision="auto")
    monkeypatch.setattr(stepper.torch.cuda, "device", lambda _: contextlib.nullcontext())
    for real in (False, True):

        def has(including_emulation=True, real=real):
            return including_emulation or real

        monkeypatch.setattr(stepper.torch.cuda, "is_bf16_supported", has)
        assert stepper.wants_half(config, CUDA) is real
    assert not stepper.wants_half(CONFIG, CUDA)
    assert not stepper.wants_half(config, CPU)
    assert stepper.wants_half(dataclasses.replace(config, precision="bfloat16"), CPU)


def test_a_gradient_that_is_not_finite_moves_nothing(monkeypatch):
    monkeypatch.setattr(stepper, "_MOST_BAD_STEPS", 2)
    state = TrainState.start(partial(DeblurNetwork, TWO_ALIGNED), CONFIG, CPU)
    own = Stepper(CONFIG, state, CPU, Team())
    own.step(clips_like(0))
    before = [parameter.detach().clone() for parameter in state.network.parameters()]
    broken = clips_like(1)
    broken = broken._replace(sharp=broken.sharp / 0)
    own.step(broken)
    for parameter, was in zip(state.network.parameters(), before, strict=True):
        assert torch.equal(parameter, was)
    assert state.step == 2
    own.step(clips_like(2))
    assert any(
        not torch.equal(parameter, was)
        for parameter, was in zip(state.network.parameters(), before, strict=True)
    )
    own.step(broken)  # only consecutive ones count
    with pytest.raises(UnsmearError, match="not finite for 2 consecutive steps"):
        own.step(broken)


class Statistics(torch.nn.BatchNorm3d):
    """Updates some in place, as usual, and puts a new tensor in place of another."""

    def forward(self, x):
        out = super().forward(x)
        self.running_var = self.running_var.clone()
        return out


def test_statistics_forget_a_step_that_is_not_finite():
    config = dataclasses.replace(CONFIG, model="own", optimizer="adam")
    state = TrainState.start(partial(Statistics, 3), config, CPU)
    own = Stepper(config, state, CPU, Team())
    clips = clips_like(0)._replace(motion=None)
    broken = clips._replace(blurry=clips.blurry / 0)
    for given, tracked in ((clips, 1), (broken, 1), (clips, 2)):
        own.step(given)
        assert state.network.num_batches_tracked == tracked
        for statistics in (state.network.running_mean, state.average.running_var):
            assert torch.isfinite(statistics).all()


class Follower(Team):
    """A team whose first process has weights of zero."""

    def broadcast(self, tensors):
        for tensor in tensors:
            tensor.zero_()


def test_all_processes_start_from_the_weights_of_the_first():
    state = TrainState.start(partial(DeblurNetwork, TWO_ALIGNED), CONFIG, CPU)
    Stepper(CONFIG, state, CPU, Follower())
    for module in (state.network, state.average):
        assert not any(value.any() for value in module.state_dict().values())


class Mate(Team):
    """A team whose other process has a gradient that is not finite."""

    def average(self, tensors):
        assert all(torch.isfinite(tensor).all() for tensor in tensors)
        tensors[0].fill_(float("inf"))


def test_a_gradient_that_is_not_finite_in_another_process_moves_nothing_here():
    state = TrainState.start(partial(DeblurNetwork, TWO_ALIGNED), CONFIG, CPU)
    before = [parameter.detach().clone() for parameter in state.network.parameters()]
    Stepper(CONFIG, state, CPU, Mate()).step(clips_like(0))
    for parameter, was in zip(state.network.parameters(), before, strict=True):
        assert torch.equal(parameter, was)
    assert state.step == 1


def test_shards_are_learned_from_by_themselves_and_add_up_to_the_batch(monkeypatch):
    """On a CPU there is one pass per shard; the mean of their gradients is that of the batch."""
    config = dataclasses.replace(
        CONFIG, stages=(Stage(steps=9, clips=6, frames=3, crop=32),), shards=3, clip_norm=1e6
    )
    clips = join_clips([clips_like(value) for value in range(3)])
    original, sizes, found = stepper.restore_and_compare, [], []

    def watched(network, part, *rest):
        sizes.append(len(part.blurry))
        return original(network, part, *rest)

    monkeypatch.setattr(stepper, "restore_and_compare", watched)
    for parts in (3, 1):
        state = TrainState.start(partial(DeblurNetwork, TWO_ALIGNED), config, CPU)
        own = Stepper(config, state, CPU, Team())
        own._parts = parts
        told = own.step(clips)
        gradients = [parameter.grad for parameter in state.network.parameters()]
        found.append((told[:3], [g for g in gradients if g is not None]))
    assert sizes == [2, 2, 2, 6]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
    assert sum(float(gradient.norm()) for gradient in found[0][1]) > 1e-3


class Skipping(torch.nn.Module):
    """Uses one of its parameters only for the first clips that it gets."""

    def __init__(self):
        super().__init__()
        self.always, self.once = (torch.nn.Parameter(torch.ones(())) for _ in range(2))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, clips):
        self.calls += 1
        return clips * self.always * (self.once if self.calls == 1 else 1)


def test_gradients_of_parameters_that_not_every_shard_uses_count():
    config = dataclasses.replace(CONFIG, model="own", shards=2, clip_norm=1e6)
    state = TrainState.start(Skipping, config, CPU)
    Stepper(config, state, CPU, Team()).step(clips_like(0)._replace(motion=None))
    assert state.network.calls == 2
    assert state.network.once.grad is not None
    assert state.network.once != 1
    own = Stepper(config, state, CPU, Team())
    for _ in range(2):  # a recorded step writes all gradients anew, whatever became of them
        own._differentiate(clips_like(0)._replace(motion=None))
        assert state.network.once.grad == 0
        state.network.once.grad.fill_(math.nan)
    Stepper(config, state, CPU, Sender(0, 2)).step(clips_like(0)._replace(motion=None))


def test_the_average_follows_by_its_decay_and_faster_at_the_start():
    for decay, share in ((0.0, 1.0), (0.1, 0.9), (0.999, 9 / 11)):
        config = dataclasses.replace(CONFIG, model="own", ema_decay=decay)
        state = TrainState.start(Skipping, config, CPU)
        Stepper(config, state, CPU, Team()).step(clips_like(0)._replace(motion=None))
        moved, followed = (float(one.always.detach()) - 1 for one in (state.network, state.average))
        assert abs(moved) > 1e-4
        assert followed / moved == pytest.approx(share, rel=0.01)


def test_gradients_are_clipped_to_the_norm_and_right_frames_count_as_60_db():
    norms = []
    for most in (math.inf, 1e-3):
        config = dataclasses.replace(CONFIG, clip_norm=most)
        state = TrainState.start(partial(DeblurNetwork, TWO_ALIGNED), config, CPU)
        own = Stepper(config, state, CPU, Team())
        own.step(clips_like(0))
        gradients = [p.grad.flatten() for p in state.network.parameters() if p.grad is not None]
        norms.append(float(torch.cat(gradients).norm()))
    assert norms[0] > 2e-3
    assert norms[1] == pytest.approx(1e-3, rel=1e-2)
    clips = clips_like(0)
    assert own.step(clips._replace(sharp=clips.blurry))[2] == pytest.approx(60)


class Sender(Team):
    """A team whose other process waits for the gradients of both parameters of `Skipping`."""

    def broadcast(self, tensors):
        pass

    def average(self, tensors):
        assert len(tensors) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_recorded_steps_are_plain_steps_but_for_rounding():
    def after(choice):
        config = dataclasses.replace(CONFIG, compile=choice)
        graphs = wants_graphs(choice, CUDA)
        state = TrainState.start(partial(DeblurNetwork, TWO_ALIGNED), config, CUDA, recorded=graphs)
        own = Stepper(config, state, CUDA, Team(), graphs=graphs)
        return [float(own.step(clips_like(value, device=CUDA))[1]) for value in range(8)]

    # Weights cannot be compared: both optimisers make full steps even for the smallest gradients,
    # so rounding errors (1e-7 of the weights) grow to a whole step within two steps. The PSNR
    # agrees to 0.001 dB; after learning from one batch over and over, it would be 0.02 dB off.
    assert after("graph") == pytest.approx(after("off"), abs=5e-3)
