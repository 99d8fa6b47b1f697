"""Restore a stream of frames. The descriptors of a frame serve every window that holds it, and
memory usage does not depend on the length of the stream.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from unsmear.device import physical_memory
from unsmear.engines.base import Engine, Runnable, as_engine, to_device
from unsmear.errors import ConfigError, InputError
from unsmear.models.network import Contexts, TemporalSums
from unsmear.models.polish import PolishNetwork
from unsmear.models.zoo import load_polish
from unsmear.outputs import commit_file
from unsmear.restoration.burst import Corrections, accumulate_bursts
from unsmear.restoration.cuts import MEMORY, split_scenes
from unsmear.restoration.integers import as_integer
from unsmear.restoration.overlap import Workers
from unsmear.restoration.quality import NETWORK_ALONE, QualityOptions
from unsmear.restoration.scene import SceneStream, encode_frames
from unsmear.restoration.store import FeatureStore
from unsmear.restoration.tiles import Tiler, Tiling, convert_out_of_memory
from unsmear.restoration.views import mean_of, seen_in, views_of
from unsmear.restoration.window import contexts_of, merge

Window = int | Literal["all"]

NOT_REITERABLE = (
    "window 'all' reads the frames twice: give a list or another collection, not an iterator"
)


def check_window(window: Window) -> Window:
    """Return the window as a Python int, or `all`.

    Raises:
        ConfigError: it is even, below 1 or not an integer.
    """
    if isinstance(window, str) and window == "all":
        return "all"
    frames = as_integer(window)
    if frames is None or frames < 1 or frames % 2 == 0:
        raise ConfigError(
            f"window is {window!r}: must be an odd number of frames, such as 1, 3 or 5, or all"
        )
    return frames


_DIGITS = 9  # maximum; no clip has that many frames


def parse_window(text: str) -> Window:
    """Parse a window as users type it: an odd number of frames, or `all`.

    Raises:
        ConfigError: it is neither.
    """
    if text == "all":
        return "all"
    # `int` raises ValueError for numbers of more than some thousand digits.
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS:
        raise ConfigError(f"window is '{text}': must be an odd number of frames, or all")
    return check_window(int(text))


def check_memory(
    window: Window, width: int, height: int, frames: int | None = None, ensemble: int = 1
) -> None:
    """Check that the machine has enough memory for the frames, in float32, that wait for the rest
    of their window: half a window, or all frames of a shorter clip. Each view of an ensemble has
    its own.

    Args:
        window: number of frames that contribute to each frame; `all` buffers none.
        width, height: of a frame, pixels.
        frames: number of frames in the clip; None if unknown.
        ensemble: number of views.

    Raises:
        ConfigError: it does not.
    """
    room = physical_memory()
    if window == "all" or room is None:
        return
    waiting = window // 2 + 1 if frames is None else min(window // 2 + 1, frames)
    if (need := ensemble * waiting * width * height * 12) > room:
        raise ConfigError(
            f"window is {window}: buffering frames of {width}x{height} would take "
            f"{need / 2**30:,.1f} GiB of memory, but this machine has {room / 2**30:,.1f}: "
            "use a smaller window, or --window all, which buffers none"
        )


@dataclass(frozen=True)
class Scene:
    """Frames between two cuts, and what all of them together contribute to each.

    Attributes:
        frames: number of frames.
        contexts: G_st over the whole scene, for each view of the ensemble.
    """

    frames: int
    contexts: tuple[Contexts, ...]


@torch.no_grad()
def describe_scenes(
    model: Runnable,
    frames: Iterable[Tensor],
    *,
    tiling: Tiling = "auto",
    ensemble: int = 1,
    store: FeatureStore | None = None,
) -> list[Scene]:
    """First pass of the window `all`. Of each frame only its sums are kept and, if there is a
    store, its features.

    Args:
        model: an engine, or a network in evaluation mode, on the device to use.
        frames: each (3, H, W), float, 0..1, all of one size, any device.
        tiling: see `unsmear.restoration.tiles.Tiler`.
        ensemble: as in the `QualityOptions` of the second pass.
        store: empty; for models on the CPU. It receives the features of the first view, the frames
            as they are.

    Raises:
        ConfigError: the ensemble is not 1, 2, 4 or 8.
        DeviceMemoryError: a GPU runs out of memory.
        ValueError: the frames differ in size.
    """
    views = views_of(ensemble)
    engine = as_engine(model)
    scenes = []
    with convert_out_of_memory(), Workers(engine.workers) as workers:
        tilers = [Tiler(engine, tiling, workers) for _ in views]
        for scene in split_scenes(_of_one_size(frames)):
            sums: list[TemporalSums] = []
            count = 0
            streams = map(encode_frames, tilers, seen_in(views, scene))
            for seen in zip(*streams, strict=True):
                if store is not None:
                    store.put(seen[0].encoded.features)
                own = [view.sums for view in seen if view.sums is not None]
                sums = [merge(*two) for two in zip(sums, own, strict=True)] if sums else own
                count += 1
                del seen  # or its features would stay alive while the next ones are computed
            scenes.append(Scene(count, tuple(contexts_of(one) for one in sums)))
    return scenes


def save_scenes(path: Path, scenes: Sequence[Scene]) -> None:
    """Write the result of a first pass; the file appears only when it is complete.

    Raises:
        OSError: the disk is full, or permission is missing.
    """
    tensors = {
        f"{number}.{view}.{level}": context.contiguous().cpu()
        for number, scene in enumerate(scenes)
        for view, contexts in enumerate(scene.contexts)
        for level, context in enumerate(contexts)
    }
    partial = path.with_suffix(".part")
    counts = {
        "frames": json.dumps([scene.frames for scene in scenes]),
        "views": str(len(scenes[0].contexts) if scenes else 1),
    }
    try:
        save_file(tensors, partial, counts)
    except SafetensorError as error:
        raise OSError(str(error)) from None
    commit_file(partial, path)


def load_scenes(path: Path, device: torch.device) -> list[Scene]:
    """Read what `save_scenes` wrote, onto a device. The file is no longer in use then."""
    with safe_open(path, framework="pt", device=str(device)) as file:
        metadata = file.metadata()
        counts, views = json.loads(metadata["frames"]), int(metadata["views"])
        levels = len(file.keys()) // max(views * len(counts), 1)

        def contexts(number: int, view: int) -> Contexts:
            found = (file.get_tensor(f"{number}.{view}.{level}") for level in range(levels))
            return tuple(x.clone() for x in found)  # a mapped file cannot be deleted on Windows

        return [
            Scene(count, tuple(contexts(number, view) for view in range(views)))
            for number, count in enumerate(counts)
        ]


@torch.no_grad()
def restore_stream(
    model: Runnable,
    frames: Iterable[Tensor],
    window: Window,
    *,
    scenes: Sequence[Scene] = (),
    store: FeatureStore | None = None,
    tiling: Tiling = "auto",
    quality: QualityOptions = NETWORK_ALONE,
    polish: PolishNetwork | None = None,
    first: int = 0,
    lead: int = 0,
) -> Generator[Tensor, None, None]:
    """Restore frames in order. Scene cuts are detected, and scenes never mixed.

    A stream may begin in the middle of a clip: with `frames_before` additional frames as a lead,
    the result on a CPU is bit-exact with a run from the beginning.

    Args:
        model: an engine, or a network in evaluation mode, on the device to use.
        frames: each (3, H, W), float, 0..1, all of one size, any device.
        window: number of frames that contribute to each frame, centred on it, odd; at the ends of
            a scene, those that exist. `all`: the whole scene.
        scenes: result of `describe_scenes` for the whole clip, if the window is `all`.
        store: the one passed to `describe_scenes`; its features are not computed again.
        tiling: see `unsmear.restoration.tiles.Tiler`.
        quality: what runs around the network.
        polish: network to polish with, on the model's device (on the CPU if that is `mps`), if that
            is wanted; default: the released one, that for `quality.reblur` if frames are reblurred.
        first: number of the first of `frames` in the clip.
        lead: number of frames at the beginning that are encoded but not restored.

    Yields:
        Restored frames, (3, H, W), float32, 0..1, one for each input frame after the lead, on the
        model's device (on the CPU if that is `mps`). The delay is `frames_after`, plus up to
        3 + `quality.refine` frames for each worker of the engine beyond the first.

    Raises:
        ConfigError: the window is even or below 1, the network does not support refinement, or the
            polishing network must be told what reblurring finds, but frames are not reblurred.
        DeviceMemoryError: a GPU runs out of memory.
        InputError: the scenes hold more or fewer frames than came.
        ModelError: the weights of the polishing network are damaged.
        ValueError: the frames differ in size, or the scenes are of another ensemble.
    """
    window = check_window(window)
    quality.check(model)
    views, refine = quality.views, quality.refine
    if any(len(scene.contexts) != len(views) for scene in scenes):
        raise ValueError(f"scenes were described for another ensemble than one of {len(views)}")
    engine = as_engine(model)
    checked = _of_one_size(frames)
    wanted = first + lead
    if polish is not None and polish.config.told and not quality.reblur:
        raise ConfigError("this polishing network must be told what reblurring finds: set reblur")
    last: PolishNetwork | None = None
    if quality.polish:
        last = polish or to_device(load_polish(told=quality.reblur), _burst_device(engine))
    with convert_out_of_memory(), Workers(engine.workers) as workers:
        tilers = [Tiler(engine, tiling, workers) for _ in views]  # rotation changes the frame size
        if window != "all":
            for scene in split_scenes(checked):
                runs = [SceneStream(tiler, window // 2, None, first, refine) for tiler in tilers]
                yield from _restore_scene(runs, tilers[0], scene, wanted, quality, last)
                first += runs[0].taken
            return
        ends = 0
        for known in scenes:
            ends += known.frames
            if ends <= first:
                continue
            stores = chain((store,), repeat(None))  # it holds features of the first view only
            runs = [
                SceneStream(tiler, 0, contexts, first, refine, kept)
                for tiler, contexts, kept in zip(tilers, known.contexts, stores, strict=False)
            ]
            rest = islice(checked, ends - first)
            yield from _restore_scene(runs, tilers[0], rest, wanted, quality, last)
            if first + runs[0].taken != ends:
                raise InputError(
                    f"a scene of {known.frames} frames ended after {runs[0].taken}: "
                    f"{NOT_REITERABLE}"
                )
            first = ends
    if next(checked, None) is not None:
        raise InputError(f"more frames came than the first time: {NOT_REITERABLE}")


def _restore_scene(
    runs: Sequence[SceneStream],
    tiler: Tiler,
    frames: Iterable[Tensor],
    wanted: int,
    quality: QualityOptions,
    network: PolishNetwork | None,
) -> Iterator[Tensor]:
    """Restore the frames of one scene from number `wanted` on, by one run for each view, then by
    the burst step and what corrects its result.
    """
    views, burst = quality.views, quality.burst
    corrected = quality.reblur or quality.polish
    before = max(wanted - runs[0].first, 0)
    lend = min(before, burst)  # lead frames that the burst step needs
    # The last view is the frame as it came, kept until it is corrected.
    seen = seen_in((*views, views[0]) if corrected else views, frames)
    made = mean_of(
        views, [run.restore(one, wanted - lend) for run, one in zip(runs, seen, strict=False)]
    )
    if _burst_device(tiler.engine) != tiler.engine.device:
        made = (frame.cpu() for frame in made)
    one = next(made, None) if burst else None
    if one is not None:
        workers = tiler.workers_for(*one.shape[-2:])
        blurry = islice(seen[-1], before - lend, None)
        corrections = Corrections(blurry, network, quality.reblur) if corrected else None
        made = accumulate_bursts(chain((one,), made), burst, workers, lend, corrections)
    del one  # or it would stay alive for the whole scene
    yield from made


def _burst_device(engine: Engine) -> torch.device:
    """Where the burst step runs. Inverse FFTs have been wrong on Apple's GPUs, see
    pytorch/pytorch#126649. They share their memory with the CPU.
    """
    return torch.device("cpu") if engine.device.type == "mps" else engine.device


def frames_before(model: Runnable, window: Window, quality: QualityOptions) -> int:
    """Number of frames before a frame on which its result depends; see `restore_stream`."""
    return frames_after(model, window, quality) + (0 if window == "all" else MEMORY)


def frames_after(model: Runnable, window: Window, quality: QualityOptions) -> int:
    """Number of frames after a frame on which its result depends; for the window `all`, apart from
    the sums over the scene.
    """
    side = as_engine(model).network.config.neighbours
    return quality.burst + quality.refine + (side if window == "all" else max(window // 2, side))


def _of_one_size(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    size: tuple[int, ...] | None = None
    for frame in frames:
        if size is not None and frame.shape[-2:] != size:
            raise ValueError(
                f"frame of {tuple(frame.shape[-2:])} in a stream of {size}: sizes must agree"
            )
        size = tuple(frame.shape[-2:])
        yield frame
