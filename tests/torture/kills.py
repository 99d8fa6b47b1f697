"""Kill the command (SIGKILL) at random moments, run it again, compare the results.

python -m tests.torture.kills --kills 50
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import SMALL, mild, write_video
from tests.torture.sandbox import run
from unsmear.models.checkpoint import Provenance, save_weights
from unsmear.restoration.work import work_path

# These cover windows, passes, containers, folders and comparisons.
JOBS = (
    ("out.mp4", []),
    ("out.mkv", ["--window", "9", "--codec", "hevc"]),
    ("out.mp4", ["--window", "all"]),
    ("out.mp4", ["--compare", "side"]),
    ("out", []),
    ("out.mkv", ["--start", "2", "--end", "12", "--codec", "av1"]),
)


@dataclass(frozen=True)
class Tally:
    """Outcome of the kills.

    Attributes:
        kills: runs that were killed before they ended.
        resumed: of these, runs that resumed earlier work.
        different: of these, runs with another result.
        left: of these, runs that left hidden files behind.
    """

    kills: int = 0
    resumed: int = 0
    different: int = 0
    left: int = 0


def digest(target: Path) -> str:
    """Hash of a result and everything beside it, such as its comparison."""
    total = hashlib.sha256()
    for path in sorted(target.parent.rglob("*")):
        if path.is_file():
            total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()


def parts_of(target: Path) -> int:
    """Number of complete parts of an unfinished result."""
    kinds = ("sharp-*.spool", "sharp-*.done")
    return sum(1 for kind in kinds for _ in work_path(target).glob(kind))


def torture(kills: int, seed: int = 0, frames: int = 420, part: int = 32) -> Tally:
    """Kill runs at random moments, and run each again to its end. A moment is a number of complete
    parts plus a time. By time alone, most kills on a busy machine would come before the first part
    or after the last.

    Args:
        kills: number of kills, each of the next job.
        seed: of the moments.
        frames: of the clip.
        part: frames in a part.
    """
    dice = random.Random(seed)
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        weights, source = base / "w.safetensors", base / "in.mp4"
        origin = Provenance(model="s", steps=0, seed=0, hours=0.0, device="cpu", version="t")
        save_weights(weights, SMALL, mild().state_dict(), origin)
        write_video(source, frames=frames, audio=True)
        wanted: dict[int, tuple[str, float]] = {}
        for _ in range(5 * kills):
            if tally.kills == kills:
                break
            number = tally.kills % len(JOBS)
            name, options = JOBS[number]
            where = base / "work"
            arguments = [str(source), "-o", str(where / name), "-m", str(weights), *options]
            if number not in wanted:
                where.mkdir()
                ended = run([*arguments, "--json"], base / "log", limit=300, part=part)
                assert ended.code == 0, ended.shown
                wanted[number] = digest(where / name), ended.seconds
                shutil.rmtree(where)
            where.mkdir()
            right, seconds = wanted[number]
            whole = dice.randrange(frames // part)
            when = dice.uniform(0, seconds * part / frames if whole else seconds)

            def ripe(target: Path = where / name, whole: int = whole) -> bool:
                return parts_of(target) >= whole

            ended = run(arguments, base / "log", limit=300, kill_after=when, ripe=ripe, part=part)
            if ended.code == 0:
                shutil.rmtree(where)
                continue  # the run ended before the kill
            ended = run([*arguments, "--json"], base / "log", limit=300, part=part)
            assert ended.code == 0, ended.shown
            result = json.loads(ended.shown.splitlines()[-1])
            hidden = [path for path in where.iterdir() if path.name.startswith(".")]
            tally = Tally(
                tally.kills + 1,
                tally.resumed + (result["resumed"] > 0),
                tally.different + (digest(where / name) != right),
                tally.left + bool(hidden),
            )
            shutil.rmtree(where)
    return tally


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tally = torture(arguments.kills, arguments.seed)
    print(tally)
    short = tally.kills < arguments.kills  # most runs ended before the kill
    raise SystemExit(bool(tally.different or tally.left or short))


if __name__ == "__main__":
    main()
