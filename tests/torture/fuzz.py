"""Feed the command line files that were damaged at random; count what comes of it.

    python -m tests.torture.fuzz --files 5000 --seed 1

A finding is: a traceback, a crash, more than 30 s, more than 2 GiB, an exit code other than 0
and 2, a result under the output name that does not decode, or anything left behind.
"""

from __future__ import annotations

import argparse
import random
import shutil
import struct
import tempfile
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from tests.conftest import SMALL, image, mild, write_video
from tests.torture.sandbox import run
from unsmear.errors import InputError
from unsmear.models.checkpoint import Provenance, save_weights
from unsmear.video.images import write_image
from unsmear.video.reader import VideoReader

SECONDS, MEMORY = 30.0, 2 << 30
_NASTY = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def make_corpus(folder: Path) -> list[Path]:
    """Small clips of many containers and codecs, images, and weights."""
    kinds = [
        ("a.mp4", "libx264", "yuv420p", "aac"), ("b.mkv", "libx264", "yuv420p", "flac"),
        ("c.webm", "libvpx-vp9", "yuv420p", "libopus"), ("d.avi", "mpeg4", "yuv420p", "mp3"),
        ("e.mov", "prores_ks", "yuv422p10le", "pcm_s16le"), ("f.ts", "libx264", "yuv420p", "aac"),
        ("g.mkv", "ffv1", "bgr0", None), ("h.mp4", "libx265", "yuv420p10le", None),
        ("i.mp4", "libsvtav1", "yuv420p", None), ("j.avi", "mjpeg", "yuvj420p", "pcm_s16le"),
        ("k.avi", "huffyuv", "yuv422p", None), ("l.flv", "flv", "yuv420p", "mp3"),
    ]  # fmt: skip
    files = []
    for name, codec, form, sound in kinds:
        base = Fraction(1, 25) if name.endswith((".avi", ".flv")) else Fraction(1, 30_000)
        pts = list(range(6)) if base == Fraction(1, 25) else None
        options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        files.append(
            write_video(folder / name, frames=6, pts=pts, codec=codec, pixel_format=form,
                        time_base=base, sound=(sound, "stereo") if sound else None,
                        options=options)
        )  # fmt: skip
    for suffix in (".png", ".jpg", ".webp", ".tif"):
        write_image(folder / f"m{suffix}", image(48, 64))
        files.append(folder / f"m{suffix}")
    weights = folder / "w.safetensors"
    origin = Provenance(model="s", steps=0, seed=0, hours=0.0, device="cpu", version="t")
    save_weights(weights, SMALL, mild().state_dict(), origin)
    return [*files, weights]


def _flip(data: bytearray, dice: random.Random) -> None:
    for _ in range(dice.choice([1, 3, 10, 100])):
        data[_place(data, dice)] ^= 1 << dice.randrange(8)


def _number(data: bytearray, dice: random.Random) -> None:
    """Overwrite numbers with values that programs often mishandle."""
    for _ in range(dice.choice([1, 2, 4])):
        value, size = dice.choice(_NASTY), dice.choice([1, 2, 4])
        at = max(min(_place(data, dice), len(data) - size), 0)
        packed = struct.pack(dice.choice("<>") + "I", value)
        data[at : at + size] = packed[:size]


def _cut(data: bytearray, dice: random.Random) -> None:
    del data[_place(data, dice) :]


def _remove(data: bytearray, dice: random.Random) -> None:
    at = _place(data, dice)
    del data[at : at + dice.choice([1, 4, 50, 1000])]


def _repeat(data: bytearray, dice: random.Random) -> None:
    at = _place(data, dice)
    data[at:at] = data[at : at + dice.choice([1, 8, 200])] * dice.choice([1, 2, 20])


def _noise(data: bytearray, dice: random.Random) -> None:
    at = _place(data, dice)
    data[at : at + 64] = dice.randbytes(dice.choice([4, 64, 500]))


_WAYS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _number, _number, _cut, _remove, _repeat, _noise,
)  # fmt: skip


def _place(data: bytearray, dice: random.Random) -> int:
    """A random offset, as often in headers as elsewhere."""
    if not data:
        data.append(0)
    near = min(len(data), dice.choice([64, 1024, len(data), len(data)]))
    at = dice.randrange(near)
    return at if dice.random() < 0.8 else len(data) - 1 - at  # MP4 often has its headers at the end


def mutate(original: bytes, dice: random.Random) -> bytes:
    """Return a damaged copy."""
    data = bytearray(original)
    for _ in range(dice.choice([1, 1, 2, 5])):
        dice.choice(_WAYS)(data, dice)
    return bytes(data)


def attempt(corpus: list[Path], work: Path, dice: random.Random) -> tuple[str, str]:
    """Run on one damaged file. Return the outcome, and a finding or an empty string."""
    victim = dice.choice(corpus)
    weights, clip = corpus[-1], corpus[0]
    damaged = mutate(victim.read_bytes(), dice)
    target = work / ("out.mkv" if dice.random() < 0.5 else "out.mp4")
    if victim == weights:
        weights = work / "bad.safetensors"
        weights.write_bytes(damaged)
        source = clip
    elif victim.suffix in (".png", ".jpg", ".webp", ".tif"):
        source = work / "frames"
        source.mkdir()
        (source / f"0{victim.suffix}").write_bytes(damaged)
        target = work / "out"
    else:
        source = work / f"bad{victim.suffix}"
        source.write_bytes(damaged)
    before = set(work.iterdir())
    extra = [[], ["--window", "all"], ["--start", "0.1"], ["--deinterlace"]][dice.randrange(4)]
    if source.is_dir():
        extra = []
    arguments = [str(source), "-o", str(target), "-m", str(weights), *extra]
    ended = run(arguments, work.parent / "log", limit=SECONDS)
    after = set(work.iterdir()) - before - {target}
    finding = ""
    if ended.seconds > SECONDS:
        finding = "hangs"
    elif ended.code not in (0, 2):
        finding = f"exit {ended.code}"
    elif "Traceback" in ended.shown:
        finding = "traceback"
    elif ended.peak > MEMORY:
        finding = f"{ended.peak >> 20} MiB"
    elif after:
        finding = f"left {sorted(path.name for path in after)}"
    elif ended.code == 2 and target.exists():
        finding = "a result in spite of an error"
    elif ended.code == 0 and not _whole(target):
        finding = "a result that does not decode"
    what = "restored" if ended.code == 0 else "refused"
    return what, f"{finding}: {victim.name} {extra}\n{ended.shown[-1500:]}" if finding else ""


def _whole(target: Path) -> bool:
    if target.is_dir():
        return any(target.iterdir())
    try:
        with VideoReader(target) as reader:
            return sum(1 for _ in reader) > 0 and not reader.damage.notes()
    except InputError:
        return False


def fuzz(files: int, seed: int, keep: Path | None = None) -> tuple[Counter[str], list[str]]:
    """Run on many damaged files. Return the counts of outcomes, and the findings.

    Args:
        files: number of runs.
        seed: of all random numbers.
        keep: folder for damaged files that cause a finding.
    """
    counts: Counter[str] = Counter()
    findings = []
    with tempfile.TemporaryDirectory() as folder:
        corpus_folder, work = Path(folder) / "corpus", Path(folder) / "work"
        corpus_folder.mkdir()
        corpus = make_corpus(corpus_folder)
        for number in range(files):
            dice = random.Random(seed * 1_000_003 + number)
            work.mkdir()
            what, finding = attempt(corpus, work, dice)
            counts[what] += 1
            if finding:
                counts["findings"] += 1
                findings.append(f"number {number}, seed {seed}: {finding}")
                if keep is not None:
                    shutil.copytree(work, keep / f"{seed}-{number}", dirs_exist_ok=True)
            shutil.rmtree(work)
    return counts, findings


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    counts, findings = fuzz(arguments.files, arguments.seed, arguments.keep)
    print(*findings, sep="\n")
    print(dict(counts))
    raise SystemExit(bool(findings))


if __name__ == "__main__":
    main()
