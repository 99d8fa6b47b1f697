"""Several processes train exactly as one does. They are real processes, started by torchrun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from multiprocessing import Queue, get_context
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import distributed

from tests.conftest import picture
from unsmear.errors import ConfigError
from unsmear.models.checkpoint import load_weights
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import find_entry
from unsmear.train.config import Stage, TrainConfig
from unsmear.train.loop import train
from unsmear.train.state import TrainState
from unsmear.train.team import Team, join_team
from unsmear.video.images import write_image

CPU = torch.device("cpu")
STEPS = 20

# What `unsmear train` does, with a network small enough for a test.
PROGRAM = f"""
import os
import sys
import time
from pathlib import Path
import torch
from unsmear.data.pairs import find_pairs
from unsmear.data.sources import find_training_files
from unsmear.models import zoo
from unsmear.models.config import NetworkConfig
from unsmear.train.batches import Batches
from unsmear.train.config import Stage, TrainConfig
from unsmear.train.interrupts import termination_as_interrupt
from unsmear.train.loop import train
from unsmear.train.state import TrainState
from unsmear.train.team import join_team

data, out, halts = Path(sys.argv[1]), Path(sys.argv[2]), "halt" in sys.argv
network = NetworkConfig(
    widths=(8, 8, 8), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1), attention_levels=(1,),
    neighbours=1, trail_levels=(0,), trail_channels=4, aligned_levels=(0,), aligned_channels=4,
)
zoo.ZOO["tiny"] = zoo.Entry(name="tiny", summary="", config=network, window=3)
config = TrainConfig(
    model="tiny", stages=(Stage(steps={STEPS}, clips=6, frames=2, crop=32),), shards=6,
    optimizer="muon", learning_rate=1e-3, log_every=5, validate_every={STEPS}, checkpoint_every=4,
)
replace, saved = os.replace, []

def halt_in_third(source, target):
    # The state of step 12 is written, and not yet in its place.
    saved.extend(name for name in [Path(target).name] if name == "state.safetensors")
    if len(saved) == 3:
        print("halted", flush=True)
        time.sleep(600)
    replace(source, target)

if halts:
    os.replace = halt_in_third
sys.stdout.write("process " + str(os.getpid()) + "\\n")  # at once: two processes share the pipe
sys.stdout.flush()
torch.set_num_threads(1)
with termination_as_interrupt(), join_team(torch.device("cpu")) as (team, device):
    batches = Batches(config, find_training_files([data / "stills"]), [], device, 1)
    pairs = find_pairs(data / "val")

    def shown(line):
        measured = f"{{line.loss:.6f}} {{line.psnr:.6f}}"
        print(line.step, [s.name for s in line.scores], measured, flush=True)
        time.sleep(0.3 * ("slow" in sys.argv))

    train(config, batches, pairs, out, device, shown, team=team)
"""


def save(path: Path, index: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = picture(64, 80, index)
    write_image(path, torch.from_numpy(image.transpose(2, 0, 1).copy()))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder with the program and its data."""
    root = tmp_path_factory.mktemp("team")
    (root / "program.py").write_text(PROGRAM)
    for index in range(2):
        save(root / "data" / "stills" / f"{index}.png", index)
    for name in ("a", "b", "c"):
        for side in ("blur", "sharp"):
            save(root / "data" / "val" / name / side / "0.png", ord(name) + len(side))
    return root


def launch(root: Path, size: int, out: Path, *extra: str) -> subprocess.Popen[str]:
    """Start the program in one process or in several."""
    start = [sys.executable]
    if size > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
    return subprocess.Popen(
        [*start, str(root / "program.py"), str(root / "data"), str(out), *extra],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> list[str]:
    """Wait for the program; return its reports."""
    shown, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert "Warning" not in errors
    return [line for line in shown.splitlines() if not line.startswith("process")]


@pytest.fixture(scope="module")
def runs(root) -> dict[int, tuple[Path, list[str]]]:
    """Folder and reports of the same run in one process and in two."""
    outs = {size: root / f"run{size}" for size in (1, 2)}
    return {size: (out, finish(launch(root, size, out))) for size, out in outs.items()}


def kill_when_halted(process: subprocess.Popen[str]) -> list[str]:
    """In the middle of a checkpoint, send SIGKILL to torchrun and all its processes."""
    lines: list[str] = []
    workers: list[int] = []
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("process"):
            workers.append(int(line.split()[1]))
        elif line.startswith("halted"):
            break
        else:
            lines.append(line.strip())
    for worker in {process.pid, *workers}:
        os.kill(worker, signal.SIGKILL)
    process.communicate(timeout=60)
    return lines


def interrupt(process: subprocess.Popen[str], after: str) -> None:
    """End the job as a scheduler does: SIGTERM reaches all processes, and torchrun, which passes it
    on again.
    """
    workers: list[int] = []
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("process"):
            workers.append(int(line.split()[1]))
        elif line.startswith(after):
            break
    for one in {process.pid, *workers}:
        os.kill(one, signal.SIGTERM)
    process.communicate(timeout=60)


def unmeasured(lines: list[str]) -> list[str]:
    """Steps and sequences of reports, without the measurements."""
    return [line[: line.index("]") + 1] for line in lines]


def step_of(out: Path) -> int:
    """The step in the saved state of a run."""
    with safe_open(out / "state.safetensors", framework="pt") as file:
        return int(file.metadata()["step"])


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("size", [1, 2])
def test_a_killed_run_ends_bit_for_bit_like_an_undisturbed_one(root, runs, size):
    """With two processes it is interrupted too: both stop at the same step."""
    out = root / f"killed{size}"
    assert unmeasured(kill_when_halted(launch(root, size, out, "halt"))) == ["5 []", "10 []"]
    assert step_of(out) == 8  # the checkpoint of step 12 is incomplete
    with safe_open(out / "weights.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["provenance"])["steps"] == 8
    if size == 2:
        interrupt(launch(root, size, out, "slow"), after="10 ")
        assert 10 <= step_of(out) < STEPS
    whole, shown = runs[size]
    left = [line for line in shown if int(line.split()[0]) > step_of(out)]
    # The first line after resuming is a mean over fewer steps.
    again = finish(launch(root, size, out))
    assert unmeasured(again) == unmeasured(left)
    assert again[1:] == left[1:]
    for name in ("state.safetensors", "weights.safetensors"):
        one, two = (load_file(folder / name) for folder in (whole, out))
        assert one.keys() == two.keys()
        assert {key for key in one if not torch.equal(one[key], two[key])} == set()


def test_two_processes_train_as_one_does(runs):
    """Bit for bit: rounding errors would grow (see `unsmear.train.stepper`)."""
    one, two = (load_file(runs[size][0] / "state.safetensors") for size in (1, 2))
    assert one.keys() == two.keys()
    assert {key for key in one if not torch.equal(one[key], two[key])} == set()
    moved = [key for key in one if key.startswith("network.head") and one[key].abs().max() > 1e-3]
    assert moved  # the head starts at zero, so it has learned


def test_one_process_reports_for_all_and_validation_keeps_its_order(runs):
    shown = {size: lines for size, (_, lines) in runs.items()}
    assert unmeasured(shown[2]) == unmeasured(shown[1])
    assert unmeasured(shown[2])[-1] == f"{STEPS} ['a', 'b', 'c']"
    for one, two in zip(shown[1], shown[2], strict=True):
        measured = [[float(word) for word in line.split()[-2:]] for line in (one, two)]
        assert measured[1] == pytest.approx(measured[0], rel=1e-6, abs=2e-6)


def test_the_weights_remember_how_many_processes_there_were(runs):
    origins = {
        size: load_weights(out / "weights.safetensors")[1] for size, (out, _) in runs.items()
    }
    assert [origins[size].device for size in (1, 2)] == ["cpu", "2 x cpu"]
    for name, score in origins[1].scores.items():
        assert origins[2].scores[name] == pytest.approx(score, abs=2e-4)


def test_processes_with_folders_of_their_own_cannot_go_on(tmp_path, monkeypatch):
    """On two machines without a shared disk, one would resume and the other would start."""

    def other_begins(values, own):
        values[:] = [own, 0]

    monkeypatch.setattr(distributed, "all_gather_object", other_begins)
    stage = Stage(steps=STEPS, clips=2, frames=1, crop=16)
    config = TrainConfig(model="lite", stages=(stage,), shards=2)
    held = tmp_path / "state.safetensors"
    state = TrainState.start(partial(DeblurNetwork, find_entry("lite").config), config, CPU)
    state.step = 4
    state.save(held, config)
    before = held.read_bytes()
    with pytest.raises(ConfigError) as caught:
        train(config, None, [], tmp_path, CPU, print, team=Team(0, 2))  # type: ignore[arg-type]
    apart = f"disagree on the step to resume from in '{tmp_path}': 4 in process 0, 0 in process"
    assert apart in str(caught.value)
    assert "put --out on a disk that all processes share" in str(caught.value)
    assert list(tmp_path.iterdir()) == [held]
    assert held.read_bytes() == before


def test_alone_there_is_nothing_to_share():
    with join_team(CPU) as (team, device):
        assert (team, device) == (Team(), CPU)
        values = torch.rand(3)
        team.average([same := values.clone()])
        team.broadcast([same])
        assert torch.equal(same, values)
        assert list(team.share([1, 2, 3])) == team.gather([1, 2, 3]) == [1, 2, 3]
        assert team.mean(torch.tensor([3.0])).item() == 3
        team.check_same(1, "it", "share")


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_job_is_done_by_exactly_one(size):
    shares = [Team(rank, size).share(range(10)) for rank in range(size)]
    assert sorted(item for share in shares for item in share) == list(range(10))


def test_processes_that_cannot_share_evenly_are_refused(tmp_path):
    config = TrainConfig(
        model="lite", stages=(Stage(steps=1, clips=6, frames=1, crop=16),), shards=2
    )
    with pytest.raises(ConfigError, match="3 processes cannot share the 2 shards"):
        train(config, None, [], tmp_path / "run", CPU, print, team=Team(0, 3))  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def meet(rank: int, path: str, told: Queue) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    values = [torch.full((2, 3), float(rank)), torch.arange(4.0).view(2, 2).t() * (rank + 1)]
    followed = torch.tensor([7.0 + rank])
    Team(rank, 2).average(values)
    Team(rank, 2).average([])
    Team(rank, 2).broadcast([followed])
    Team(rank, 2).check_same("this", "it", "do not")
    try:
        Team(rank, 2).check_same(4 * rank, "the step", "share")
    except ConfigError as error:
        disagreed = str(error)
    own = torch.tensor([1.0 + rank, 5.0])
    mean = Team(rank, 2).mean(own)
    assert own.tolist() == [1.0 + rank, 5.0]
    all_of_it = Team(rank, 2).gather(Team(rank, 2).share("abcde"))
    shared = [mean.tolist(), all_of_it, Team(rank, 2).any(rank == 1), Team(rank, 2).any(False)]
    told.put([*(value.numpy() for value in values), followed.numpy(), disagreed, shared])
    distributed.destroy_process_group()


def test_processes_share_what_they_have_follow_the_leader_and_see_where_they_differ(tmp_path):
    context = get_context("spawn")
    told = context.Queue()
    crew = [
        context.Process(target=meet, args=(rank, str(tmp_path / "meet"), told)) for rank in (0, 1)
    ]
    for one in crew:
        one.start()
    for same, strided, followed, disagreed, shared in (told.get(timeout=120) for _ in crew):
        assert (same == 0.5).all()
        assert (strided == [[0, 3], [1.5, 4.5]]).all()  # another memory layout
        assert followed == 7
        told_both = "disagree on the step: 0 in process 0, 4 in process 1; share"
        assert told_both in disagreed
        assert shared == [[1.5, 5.0], list("abcde"), True, False]
    for one in crew:
        one.join(60)
        assert one.exitcode == 0
