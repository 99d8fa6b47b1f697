"""Several processes train exactly as one does. They are real processes, started by torchrun."""

from __future__ import annotations

import io
import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import distributed

from tests.conftest import picture
from unsmear.errors import ConfigError
from unsmear.models import zoo
from unsmear.models.checkpoint import Provenance, read_provenance
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import find_entry
from unsmear.train.config import Stage, TrainConfig
from unsmear.train.loop import train
from unsmear.train.state import TrainState
from unsmear.train.team import Team, join_team
from unsmear.video.images import write_image

CPU = torch.device("cpu")
STEPS = 27
LATE = 24  # two processes are interrupted here, after 22 steps

# What `unsmear train` does, with a network small enough for a test.
PROGRAM = f"""
import json
import os
import sys
import time
from pathlib import Path
import torch
from unsmear.data.pairs import find_pairs
from unsmear.data.sources import find_training_files
from unsmear.errors import ConfigError
from unsmear.models import zoo
from unsmear.models.config import NetworkConfig
from unsmear.train.batches import Batches
from unsmear.train.config import Stage, TrainConfig
from unsmear.train.interrupts import termination_as_interrupt
from unsmear.train.loop import train
from unsmear.train.state import TrainState
from unsmear.train.team import join_team

data, out, halts, waits = *map(Path, sys.argv[1:3]), "halt" in sys.argv, "wait" in sys.argv
network = NetworkConfig(
    widths=(8, 8, 8), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1), attention_levels=(1,),
    neighbours=1, trail_levels=(0,), trail_channels=4, aligned_levels=(0,), aligned_channels=4,
)
zoo.ZOO["tiny"] = zoo.Entry(name="tiny", summary="", config=network, window=3)
config = TrainConfig(
    model="tiny", stages=(Stage(steps={STEPS}, clips=4, frames=2, crop=32),), shards=4,
    optimizer="muon", learning_rate=1e-3, log_every=3, validate_every=12, checkpoint_every=2,
)
replace, saved = os.replace, []

def halt_in_second(source, target):
    # The state of step 4 is written, and not yet in its place.
    saved.extend(name for name in [Path(target).name] if name == "state.safetensors")
    if len(saved) == 2:
        print("halted", flush=True)
        time.sleep(600)
    replace(source, target)

if halts:
    os.replace = halt_in_second
sys.stdout.write("process " + str(os.getpid()) + "\\n")  # at once: two processes share the pipe
sys.stdout.flush()
torch.set_num_threads(1)
with termination_as_interrupt(), join_team(torch.device("cpu")) as (team, device):
    batches = Batches(config, find_training_files([data / "stills"]), [], device, 1)
    pairs = find_pairs(data / "val")

    def shown(line):
        measured = [line.loss, line.psnr, *(s.psnr_after for s in line.scores)]
        words = [f"{{value:.6f}}" for value in measured]
        print(line.step, [s.name for s in line.scores], *words, flush=True)
        while waits and line.step == {LATE} and not out.with_suffix(".signalled").exists():
            time.sleep(0.01)

    if team.size > 1:  # what each has of values that differ between them
        rank = team.rank
        means = [torch.full((2, 3), float(rank)), torch.arange(4.0).view(2, 2).t() * (rank + 1)]
        team.average(means)
        team.average([])
        followed, own = torch.tensor([7.0 + rank]), torch.tensor([1.0 + rank, 5.0])
        team.broadcast([followed])
        team.check_same("this", "it", "do not")
        try:
            team.check_same(4 * rank, "the step", "share")
        except ConfigError as error:
            apart = str(error)
        met = dict(means=[mean.tolist() for mean in means], followed=followed.item(), apart=apart,
                   mean=team.mean(own).tolist(), own=own.tolist(), rank=rank,
                   all=team.gather(team.share("abcde")), any=[team.any(rank == 1), team.any(False)])
        sys.stdout.write("met " + json.dumps(met) + "\\n")
        sys.stdout.flush()
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


def reports(lines: Iterable[str]) -> list[str]:
    """Those of the lines that report steps."""
    return [line.strip() for line in lines if line[:1].isdigit()]


def run_here(root: Path, out: Path) -> list[str]:
    """Run the program in this process. Return its reports."""
    shown, threads = io.StringIO(), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(shown):
        patched.setattr(zoo, "ZOO", dict(zoo.ZOO))
        patched.setattr(sys, "argv", ["program.py", str(root / "data"), str(out)])
        runpy.run_path(str(root / "program.py"))
    torch.set_num_threads(threads)
    return reports(shown.getvalue().splitlines())


@pytest.fixture(scope="module")
def undisturbed(root) -> tuple[Path, list[str]]:
    """Folder and reports of the run in this process."""
    return root / "undisturbed", run_here(root, root / "undisturbed")


@dataclass(frozen=True)
class Disturbed:
    """The same run, begun by one process that is killed, continued by two that are interrupted, and
    ended by one again.

    Attributes:
        out: its folder.
        killed: reports until it was killed.
        steps: of the state that was saved, and of the weights, when it was killed and when it was
            interrupted.
        shown: reports of the two processes.
        ended: reports from when they were interrupted to the end.
        met: what the two processes told of each other.
        origin: of the weights, when they were interrupted.
    """

    out: Path
    killed: list[str]
    steps: list[tuple[int, int]]
    shown: list[str]
    ended: list[str]
    met: list[dict[str, Any]]
    origin: Provenance


@pytest.fixture(scope="module")
def disturbed(root) -> Disturbed:
    if sys.platform == "win32":
        pytest.skip("no SIGKILL")
    out = root / "disturbed"
    killed = kill_when_halted(launch(root, 1, out, "halt"))
    steps = [steps_in(out)]
    told = interrupt(launch(root, 2, out, "wait"), out.with_suffix(".signalled"))
    steps.append(steps_in(out))
    met = [json.loads(line[4:]) for line in told if line.startswith("met ")]
    origin = read_provenance(out / "weights.safetensors")
    return Disturbed(out, killed, steps, reports(told), run_here(root, out), met, origin)


def kill_when_halted(process: subprocess.Popen[str]) -> list[str]:
    """In the middle of a checkpoint, send SIGKILL. Return the reports so far."""
    assert process.stdout is not None
    lines = list(takewhile(lambda line: not line.startswith("halted"), process.stdout))
    process.kill()
    process.communicate(timeout=60)
    return reports(lines)


def interrupt(process: subprocess.Popen[str], signalled: Path) -> list[str]:
    """At a late step, end the job as a scheduler does: SIGTERM reaches all processes, and torchrun,
    which passes it on again. Return what was shown.

    Args:
        process: torchrun.
        signalled: file for which the program waits.
    """
    workers: list[int] = []
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if line.startswith("process"):
            workers.append(int(line.split()[1]))
        elif line.startswith(f"{LATE} "):
            break
    for one in {process.pid, *workers}:
        os.kill(one, signal.SIGTERM)
    signalled.touch()
    _, errors = process.communicate(timeout=60)
    assert "Warning" not in errors
    return lines


def unmeasured(lines: list[str]) -> list[str]:
    """Steps and sequences of reports, without the measurements."""
    return [line[: line.index("]") + 1] for line in lines]


def steps_in(out: Path) -> tuple[int, int]:
    """The step of the saved state of a run, and that of its weights."""
    with safe_open(out / "state.safetensors", framework="pt") as file:
        state = int(file.metadata()["step"])
    with safe_open(out / "weights.safetensors", framework="pt") as file:
        return state, json.loads(file.metadata()["provenance"])["steps"]


def test_a_killed_run_and_one_of_two_processes_end_bit_for_bit_like_an_undisturbed_one(
    undisturbed, disturbed
):
    """Rounding errors would grow (see `unsmear.train.stepper`)."""
    assert unmeasured(disturbed.killed) == ["3 []"]
    when_killed, (interrupted, saved) = disturbed.steps
    assert when_killed == (2, 2)  # the checkpoint of step 4 is incomplete
    assert LATE <= interrupted < STEPS  # both processes stopped at the same step
    assert saved == interrupted
    for name in ("state.safetensors", "weights.safetensors"):
        one, two = (load_file(folder / name) for folder in (undisturbed[0], disturbed.out))
        assert one.keys() == two.keys()
        assert {key for key in one if not torch.equal(one[key], two[key])} == set()
    state = load_file(undisturbed[0] / "state.safetensors")
    moved = [k for k in state if k.startswith("network.head") and state[k].abs().max() > 1e-3]
    assert moved  # the head starts at zero, so it has learned


def test_one_process_reports_for_all_and_validation_keeps_its_order(undisturbed, disturbed):
    _, lines = undisturbed
    assert disturbed.killed == lines[:1]  # in one process to the last digit
    assert unmeasured([*disturbed.shown, *disturbed.ended]) == unmeasured(lines)
    validated = [line for line in unmeasured(lines) if not line.endswith("[]")]
    assert validated == [f"{step} ['a', 'b', 'c']" for step in (12, LATE, STEPS)]
    # The first line after resuming is a mean over fewer steps.
    for one, two in zip(lines[1:-1], disturbed.shown[1:], strict=True):
        measured = [[float(word) for word in line.split("]")[1].split()] for line in (one, two)]
        assert measured[1] == pytest.approx(measured[0], rel=1e-6, abs=2e-6)


def test_the_weights_remember_how_many_processes_there_were(undisturbed, disturbed):
    alone = read_provenance(undisturbed[0] / "weights.safetensors")
    assert [one.device for one in (alone, disturbed.origin)] == ["cpu", "2 x cpu"]


def test_processes_share_what_they_have_follow_the_leader_and_see_where_they_differ(disturbed):
    assert sorted(told["rank"] for told in disturbed.met) == [0, 1]
    for told in disturbed.met:
        same, strided = told["means"]
        assert same == [[0.5] * 3] * 2
        assert strided == [[0, 3], [1.5, 4.5]]  # another memory layout
        assert told["followed"] == 7
        assert "disagree on the step: 0 in process 0, 4 in process 1; share" in told["apart"]
        assert told["own"] == [1.0 + told["rank"], 5.0]
        assert (told["mean"], told["all"]) == ([1.5, 5.0], list("abcde"))
        assert told["any"] == [True, False]


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
