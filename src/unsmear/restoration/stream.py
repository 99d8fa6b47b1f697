"""Restore a stream of frames: each one's descriptors serve every window that holds it, and
memory does not depend on the length of the stream.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from unsmear.engines.base import Engine, Runnable, as_engine
from unsmear.errors import ConfigError
from unsmear.models.flow import motion_between, shrunken_luma
from unsmear.models.network import (
    Contexts,
    Encoded,
    TemporalSums,
    pad_to_multiple,
)
from unsmear.restoration.scenes import MEMORY, split_scenes
from unsmear.restoration.store import FeatureStore
from unsmear.restoration.tiles import Tiler, Tiling
from unsmear.restoration.window import WindowSums, contexts_of, merge

Window = int | Literal["all"]

# Features are kept while their frame waits for what follows it, if all that wait need no more
# memory than this; else they are dropped and computed again, which is half as much work more.
# A window of 31 frames of 360p keeps 150 MB, one of 301 frames of 720p would keep 6 GB.
_MOST_KEPT = 256 << 20  # bytes
_ALWAYS_KEPT = 4  # frames
# Of larger features the finest level, more than half of all, is computed again: 349 MB for 4K.
_MOST_KEPT_WHOLE = 192 << 20  # bytes


def check_window(window: Window) -> Window:
    """Return a window that can be centred on a frame, or `all`.

    Raises:
        ConfigError: it is even or below 1.
    """
    if window != "all" and (window < 1 or window % 2 == 0):
        raise ConfigError(
            f"window is {window}: must be an odd number of frames, such as 1, 3 or 5, or all"
        )
    return window


def parse_window(text: str) -> Window:
    """An odd number of frames or `all`, as users type it.

    Raises:
        ConfigError: it is neither.
    """
    if text == "all":
        return "all"
    if not text.isascii() or not text.isdigit():
        raise ConfigError(f"window is '{text}': must be an odd number of frames, or all")
    return check_window(int(text))


@dataclass(frozen=True)
class Scene:
    """Frames between two cuts, and what all of them together contribute to each.

    Attributes:
        frames: how many.
        contexts: G_st over the whole scene.
    """

    frames: int
    contexts: Contexts


@torch.no_grad()
def describe_scenes(
    model: Runnable,
    frames: Iterable[Tensor],
    *,
    tiling: Tiling = "auto",
    store: FeatureStore | None = None,
) -> list[Scene]:
    """First pass over a video whose window is `all`: what stays of a frame is its sums and, where
    there is a store for them, its features.

    Args:
        model: an engine, or a network in evaluation mode, on the device of the work.
        frames: each (3, H, W), float, 0..1, all of one size, any device.
        tiling: see `unsmear.restoration.tiles.Tiler`.
        store: empty; for models on the CPU.

    Raises:
        ValueError: the frames differ in size.
    """
    tiler = Tiler(model, tiling)
    network = tiler.network
    scenes = []
    for scene in split_scenes(_of_one_size(frames)):
        sums: TemporalSums | None = None
        count = 0
        for frame in scene:
            encoded = tiler.encode(prepared(frame, tiler.engine))
            own = network.sum(network.squeeze(encoded))
            if store is not None:
                store.put(encoded.features)
            sums = own if sums is None else merge(sums, own)
            count += 1
        assert sums is not None  # a scene has at least one frame
        scenes.append(Scene(count, contexts_of(sums)))
    return scenes


def save_scenes(path: Path, scenes: Sequence[Scene]) -> None:
    """Write what a first pass found; the file is whole or not there."""
    tensors = {
        f"{number}.{level}": context.contiguous().cpu()
        for number, scene in enumerate(scenes)
        for level, context in enumerate(scene.contexts)
    }
    partial = path.with_suffix(".part")
    save_file(tensors, partial, {"frames": json.dumps([scene.frames for scene in scenes])})
    os.replace(partial, path)


def load_scenes(path: Path, device: torch.device) -> list[Scene]:
    """Read what `save_scenes` wrote."""
    with safe_open(path, framework="pt", device=str(device)) as file:
        counts = json.loads(file.metadata()["frames"])
        levels = len(file.keys()) // max(len(counts), 1)
        return [
            Scene(count, tuple(file.get_tensor(f"{number}.{level}") for level in range(levels)))
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
    first: int = 0,
    lead: int = 0,
) -> Generator[Tensor, None, None]:
    """Restore frames one after the other. Scenes are found and never mixed.

    A stream may begin in the middle of a clip: with `frames_before` more frames as a lead, what
    comes out is bit for bit what a run from the beginning gives.

    Args:
        model: an engine, or a network in evaluation mode, on the device of the work.
        frames: each (3, H, W), float, 0..1, all of one size, any device.
        window: frames that contribute to each one, centred on it, odd; at the ends of a scene
            it holds those that exist. `all`: the whole scene.
        scenes: `describe_scenes` of the whole clip, where the window is `all`.
        store: what `describe_scenes` kept there is not encoded again.
        tiling: see `unsmear.restoration.tiles.Tiler`.
        first: number of the first of `frames` in the clip.
        lead: so many of `frames`, at the beginning, are looked at and not restored.

    Yields:
        Restored frames, (3, H, W), float32, 0..1, on the model's device, as many as came in
        after the lead; the first after window // 2 more have come in (at least
        `NetworkConfig.neighbours`).

    Raises:
        ConfigError: window is even or below 1.
        ValueError: the frames differ in size, or in number from the scenes.
    """
    tiler = Tiler(model, tiling)
    checked = _of_one_size(frames)
    wanted = first + lead
    if check_window(window) != "all":
        assert not isinstance(window, str)
        for scene in split_scenes(checked):
            run = _SceneStream(tiler, window // 2, None, first)
            yield from run.restore(scene, wanted)
            first += run.taken
        return
    start = 0
    for known in scenes:
        start, ends = start + known.frames, start + known.frames
        if ends <= first:
            continue
        run = _SceneStream(tiler, 0, known.contexts, first, store)
        yield from run.restore(islice(checked, ends - first), wanted)
        if first + run.taken != ends:
            raise ValueError(f"a scene of {known.frames} frames ended after {run.taken}")
        first = ends
    if next(checked, None) is not None:
        raise ValueError("more frames follow than the scenes hold")


def frames_before(model: Runnable, window: Window) -> int:
    """How many frames before a frame decide what it becomes; see `restore_stream`."""
    side = as_engine(model).network.config.neighbours
    return side if window == "all" else max(window // 2, side) + MEMORY


def frames_after(model: Runnable, window: Window) -> int:
    """How many frames after a frame decide what it becomes."""
    side = as_engine(model).network.config.neighbours
    return side if window == "all" else max(window // 2, side)


def _of_one_size(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    size: tuple[int, ...] | None = None
    for frame in frames:
        if size is not None and frame.shape[-2:] != size:
            raise ValueError(
                f"frame of {tuple(frame.shape[-2:])} in a stream of {size}: sizes must agree"
            )
        size = tuple(frame.shape[-2:])
        yield frame


def prepared(frame: Tensor, engine: Engine) -> Tensor:
    """(3, H, W) anywhere -> (1, 3, H', W') as the engine takes it."""
    batch = frame.to(engine.device, torch.float32).unsqueeze(0)
    return pad_to_multiple(batch, engine.network.config.size_multiple)


def _size_of(encoded: Encoded) -> int:
    """Bytes of the features."""
    return sum(x.numel() * x.element_size() for x in encoded.features)


@dataclass
class _Held:
    """A frame on its way; what is not needed, or not any more, is None."""

    frame: Tensor | None
    encoded: Encoded | None = None
    coarser: tuple[Tensor, ...] = ()
    local: Tensor | None = None
    luma: np.ndarray | None = None


class _SceneStream:
    """Restores one scene.

    Args:
        tiler: runs the network.
        reach: frames of the window before and after the current one.
        contexts: of the window, where it is the same for all frames.
        first: number of the scene's first frame in the clip.
        store: features of the clip's first frames.
    """

    def __init__(
        self,
        tiler: Tiler,
        reach: int,
        contexts: Contexts | None,
        first: int,
        store: FeatureStore | None = None,
    ) -> None:
        self._store = store
        self._tiler, self._network = tiler, tiler.network
        self._reach, self._contexts = reach, contexts
        self._side = self._network.config.neighbours
        self._ahead = max(reach, self._side)
        self._held: deque[_Held] = deque()
        self._start = self._end = self._first = first  # scene; oldest frame that is held
        self._window = WindowSums(first)

    @property
    def taken(self) -> int:
        """Frames taken in so far."""
        return self._end - self._start

    def restore(self, frames: Iterable[Tensor], wanted: int) -> Iterator[Tensor]:
        """All frames of the scene from number `wanted` on, each as soon as enough is known of
        what follows.
        """
        current = self._start
        for frame in frames:
            self._take(frame)
            if self.taken > self._ahead:
                yield from self._done(current, wanted)
                current += 1
        for number in range(current, self._end):
            yield from self._done(number, wanted)

    def _done(self, current: int, wanted: int) -> Iterator[Tensor]:
        """The restored frame, if it is wanted. What only it needed is let go of first: a caller
        may take its time, and memory, with what it is given.
        """
        restored = [self._restored(current)] if current >= wanted else []
        self._let_go(current)
        if restored:
            yield restored.pop()

    def _take(self, frame: Tensor) -> None:
        held = _Held(frame)
        self._size = frame.shape[-2:]
        follows = bool(self._network.config.trail_levels)
        if follows or self._contexts is None:
            ready = prepared(frame, self._tiler.engine)
        if follows:
            held.luma = shrunken_luma(ready)[0]
        if self._contexts is None:
            encoded = self._tiler.encode(ready)
            self._window.push(self._network.sum(self._network.squeeze(encoded)))
            if self._ahead <= _ALWAYS_KEPT or self._ahead * _size_of(encoded) <= _MOST_KEPT:
                held.coarser, held.local = encoded.features[1:], encoded.local
                if self._ahead == 0 or _size_of(encoded) <= _MOST_KEPT_WHOLE:
                    held.encoded = encoded
        self._held.append(held)
        self._end += 1

    def _restored(self, current: int) -> Tensor:
        contexts = self._contexts
        if contexts is None:
            start = max(current - self._reach, self._start)
            end = min(current + self._reach + 1, self._end)
            contexts = contexts_of(self._window.total(start, end))
        neighbours = [
            self._local(min(max(current + offset, self._start), self._end - 1))
            for offset in range(-self._side, self._side + 1)
            if offset
        ]
        self._local(current)
        held = self._at(current)
        if held.encoded is None:
            assert held.frame is not None
            frame = prepared(held.frame, self._tiler.engine)
            held.encoded = Encoded(frame, (self._tiler.encode_finest(frame), *held.coarser))
        out = self._tiler.restore(held.encoded, contexts, neighbours, self._motion(current))
        height, width = self._size
        return out[0, :, :height, :width].clamp_(0, 1)

    def _motion(self, current: int) -> Tensor | None:
        """How the picture moves around a frame, where the network asks for it."""
        luma = self._at(current).luma
        if luma is None:
            return None
        before = self._at(current - 1).luma if current > self._start else None
        after = self._at(current + 1).luma if current + 1 < self._end else None
        motion = motion_between(before, luma, after)
        return motion.unsqueeze(0).to(self._tiler.engine.device)

    def _let_go(self, current: int) -> None:
        """What nothing after the current frame will ask for: its neighbours look at `local`."""
        held = self._at(current)
        held.encoded, held.coarser = None, ()
        if held.local is not None:
            held.frame = None
        self._window.forget(current + 1 - self._reach)
        while self._first < current + 1 - self._side:
            self._held.popleft()
            self._first += 1

    def _local(self, number: int) -> Tensor:
        held = self._at(number)
        if held.local is None:
            assert held.frame is not None
            frame = prepared(held.frame, self._tiler.engine)
            kept = self._store.get(number) if self._store is not None else None
            held.encoded = self._tiler.encode(frame) if kept is None else Encoded(frame, kept)
            held.coarser, held.local = held.encoded.features[1:], held.encoded.local
        return held.local

    def _at(self, number: int) -> _Held:
        return self._held[number - self._first]
