"""Speed of engines on this machine: compared in one run, relative to the processor's peak, and with
decoding and encoding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from unsmear.clip import ClipInfo, ColorTags
from unsmear.deploy.records import EndToEnd, EngineTime
from unsmear.engines import EngineName
from unsmear.engines.base import Engine, threads_for
from unsmear.engines.choice import open_engine
from unsmear.errors import UnsmearError
from unsmear.models.count import count_macs
from unsmear.models.zoo import LoadedModel
from unsmear.restoration.files import restore_file
from unsmear.restoration.quality import NETWORK_ALONE, QualityOptions
from unsmear.restoration.settings import Settings
from unsmear.restoration.stream import restore_stream
from unsmear.video.color import planes_from_rgb
from unsmear.video.writer import VideoWriter

_TAGS = ColorTags(matrix=1, primaries=1, transfer=1, full_range=False)
_RUN = 12  # frames per measured run: enough that the ends of a scene have little weight


def panning_frames(count: int, width: int, height: int) -> list[Tensor]:
    """Views that pan over a smooth random image, (3, H, W) each, sharing its memory."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, max(height // 16, 1), max(width // 8, 1), generator=generator)
    scene = nn.functional.interpolate(coarse, (height, 2 * width), mode="bicubic")[0].clamp(0, 1)
    lefts = [index * width // count for index in range(count)]
    return [scene[..., left : left + width] for left in lefts]


def write_panning_clip(path: Path, count: int, width: int, height: int) -> None:
    """Write these frames as a video of 30 frames per second."""
    info = ClipInfo(
        width=width, height=height, frames=count, rate=Fraction(30), time_base=Fraction(1, 30),
        tags=_TAGS,
    )  # fmt: skip
    with VideoWriter(path, info) as writer:
        for index, frame in enumerate(panning_frames(count, width, height)):
            writer.write(planes_from_rgb(frame, _TAGS), Fraction(index, 30))
        writer.commit()


def convolution_peak(device: torch.device, seconds: float = 1.0) -> float:
    """The best rate of 3x3 convolutions in float32, in 10**9 multiply-accumulates per second."""
    best = 0.0
    with torch.no_grad():
        for channels, height, width in ((64, 180, 320), (96, 90, 160), (128, 90, 160)):
            convolution = nn.Conv2d(channels, channels, 3, padding=1, device=device)
            convolution = convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            x = torch.rand(1, channels, height, width, device=device)
            x = x.contiguous(memory_format=torch.channels_last)
            macs = 9 * channels**2 * height * width
            ends = time.perf_counter() + seconds / 3
            while time.perf_counter() < ends:
                best = max(best, macs / _seconds(lambda: convolution(x), device) / 1e9)  # noqa: B023
    return best


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    _wait_for(device)
    began = time.perf_counter()
    work()
    _wait_for(device)
    return time.perf_counter() - began


def _wait_for(device: torch.device) -> None:
    """Wait until a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds_each(
    engine: Engine, window: int, frames: Sequence[Tensor], quality: QualityOptions = NETWORK_ALONE
) -> float:
    """Seconds per frame of a stream; see `restore_stream`."""

    def work() -> None:
        for _ in restore_stream(engine, frames, window, quality=quality):
            pass

    with threads_for(engine):
        return _seconds(work, engine.device) / len(frames)


def time_engines(
    model: LoadedModel,
    names: Sequence[EngineName],
    width: int,
    height: int,
    *,
    rounds: int,
    peak: float,
    on_round: Callable[[int], None] = lambda _: None,
) -> tuple[tuple[EngineTime, ...], dict[EngineName, Engine]]:
    """Time engines in turn, round by round, so that load on the machine affects all alike. An
    engine that fails on its first run, as torch-compile does without a compiler, gets a row with
    the reason.

    Args:
        model: on its device.
        names: of the engines.
        width: of the frames in pixels.
        height: of the frames in pixels.
        rounds: at least 1. Before the first, each engine runs once without being timed.
        peak: see `convolution_peak`.
        on_round: called with the number of rounds done.
    """
    frames = panning_frames(_RUN, width, height)
    engines: dict[EngineName, Engine] = {}
    reasons: dict[EngineName, str] = {}
    for name in names:
        try:
            engine = open_engine(model, name, side_by_side=True)
            seconds_each(engine, model.window, frames)
        except UnsmearError as error:
            reasons[name] = str(error)
        else:
            engines[name] = engine
    on_round(0)
    taken: dict[EngineName, list[float]] = {name: [] for name in engines}
    for number in range(1, rounds + 1):
        for name, engine in engines.items():
            taken[name].append(seconds_each(engine, model.window, frames))
        on_round(number)
    config = model.network.config
    multiple = config.size_multiple
    macs = count_macs(config, -(-height // multiple) * multiple, -(-width // multiple) * multiple)
    rows = []
    for name in names:
        if name in reasons:
            rows.append(EngineTime(name, why_not=reasons[name]))
            continue
        seconds = median(taken[name])
        speed = macs / seconds / 1e9
        rows.append(EngineTime(name, seconds, speed, speed / peak))
    return tuple(rows), engines


def time_end_to_end(
    engine: Engine,
    window: int,
    width: int,
    height: int,
    *,
    frames: int,
    rounds: int,
    quality: QualityOptions,
) -> EndToEnd:
    """Time restoration from file to file, alternately with restoration alone on as many frames: if
    two frames are worked on at a time, the last one has no other beside it in both.
    """
    settings = Settings(quality=quality, overwrite=True)
    pictures = panning_frames(frames, width, height)
    whole, alone = [], []
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "clip.mp4", Path(folder) / "sharp.mp4"
        write_panning_clip(source, frames, width, height)
        for _ in range(rounds):
            alone.append(seconds_each(engine, window, pictures, quality))
            with threads_for(engine):
                seconds = _seconds(
                    lambda: restore_file(source, target, engine, window, settings), engine.device
                )
            whole.append(seconds / frames)
    return EndToEnd(
        engine.name,
        frames,
        median(whole),
        median(alone),
        quality.burst,
        quality.refine,
        quality.polish,
        quality.reblur,
    )
