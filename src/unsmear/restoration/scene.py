"""Restore the frames of one scene, each as soon as the frames that it depends on have arrived.

Each frame is first encoded, and its contribution to other frames summed (`encode_frame`).
Once its whole window is encoded, it is restored. Each refinement pass restores it again with its
restored neighbours, and averages the result with that of the pass before.
Workers process several frames in parallel. What is kept, dropped and summed is decided here, in
frame order, so the result does not depend on their timing, to the last bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from torch import Tensor

from unsmear.models.flow import motion_between, shrunken_luma
from unsmear.models.neighbourhood import Neighbourhood
from unsmear.models.network import Contexts, Encoded, TemporalSums
from unsmear.models.precision import no_autocast
from unsmear.restoration.store import FeatureStore
from unsmear.restoration.tiles import Tiler, prepared
from unsmear.restoration.window import WindowSums, contexts_of

# Features of waiting frames are kept if all of them fit into this. Otherwise they are dropped and
# computed again, which adds half of the work.
# With `core` a window of 31 frames of 360p keeps 166 MB, one of 301 of 720p would keep 6.6 GB.
MOST_KEPT = 256 << 20  # bytes
ALWAYS_KEPT = 4  # frames: if a frame waits for no more than these, its features are always kept
# Of larger features (4K with `core`: 398 MB), the finest level, more than half of the bytes, is
# computed again.
MOST_KEPT_WHOLE = 192 << 20  # bytes a frame


class EncodedFrame(NamedTuple):
    """Result of `encode_frame`; None is what was not requested or what the network does not use."""

    encoded: Encoded
    sums: TemporalSums | None = None
    luma: np.ndarray | None = None


def encode_frame(
    tiler: Tiler, frame: Tensor, kept: tuple[Tensor, ...] | None = None, *, summed: bool = True
) -> EncodedFrame:
    """Encode a frame, and compute its contribution to other frames.

    Args:
        tiler: runs the network.
        frame: (3, H, W), float, 0..1, any device.
        kept: its features, if an earlier pass stored them; otherwise they are computed.
        summed: whether to compute the temporal sums.
    """
    network = tiler.network
    with no_autocast(tiler.engine.device):  # of the caller, whose thread this may be
        ready = prepared(frame, tiler.engine)
        encoded = tiler.encode(ready) if kept is None else Encoded(ready, kept)
        sums = network.sum(network.squeeze(encoded)) if summed else None
        luma = shrunken_luma(ready)[0] if network.config.trail_levels else None
    return EncodedFrame(encoded, sums, luma)


def encode_frames(tiler: Tiler, frames: Iterable[Tensor]) -> Iterator[EncodedFrame]:
    """`encode_frame` for every frame, all of one size, several in parallel."""
    frames = iter(frames)
    first = next(frames, None)
    if first is not None:
        workers = tiler.workers_for(*first.shape[-2:])
        yield from workers.map(lambda frame: encode_frame(tiler, frame), chain((first,), frames))


class _Inputs(NamedTuple):
    """Inputs to restore a frame that stay the same in every pass.

    Attributes:
        number: of the frame in the clip.
        frame: (3, H, W).
        encoded: of the frame; None if its finest features have to be computed again.
        coarser: features of all levels but the finest.
        contexts: of its window.
        local: coarsest features of the neighbours, see `Neighbourhood`.
    """

    number: int
    frame: Tensor
    encoded: Encoded | None
    coarser: tuple[Tensor, ...]
    contexts: Contexts
    local: tuple[Tensor, ...]


class _Pixels(NamedTuple):
    """Pixels of a frame as its neighbours and itself see them: blurry, or restored before.

    Attributes:
        frame: (3, H, W); None beyond the ends of the scene. It may also be None if the network does
            not align neighbours.
        luma: `shrunken_luma` of the frame; None beyond the ends, or if the network has no trails.
    """

    frame: Tensor | None = None
    luma: np.ndarray | None = None


_BEYOND = _Pixels()
_Triplet = tuple[_Pixels, _Pixels, _Pixels]
"""Previous, current and next frame."""


class _Draft(NamedTuple):
    """Result of one pass for a frame.

    Attributes:
        number: of the frame in the clip.
        restored: (3, H, W), 0..1.
        luma: `shrunken_luma` of the result; None after the last pass.
        inputs: inputs for the next pass; None after the last one.
    """

    number: int
    restored: Tensor
    luma: np.ndarray | None = None
    inputs: _Inputs | None = None

    @property
    def pixels(self) -> _Pixels:
        return _Pixels(self.restored, self.luma)


@dataclass
class _FrameState:
    """State of a frame in flight; a field is None before it is computed and after it is dropped."""

    frame: Tensor | None
    coming: Future[EncodedFrame] | None = None
    encoded: Encoded | None = None
    coarser: tuple[Tensor, ...] = ()
    local: Tensor | None = None
    luma: np.ndarray | None = None

    def keep(self, encoded: Encoded, *, whole: bool) -> None:
        self.coarser, self.local = encoded.features[1:], encoded.local
        self.encoded = encoded if whole else None


class SceneStream:
    """Restores one scene.

    Args:
        tiler: runs the network, and holds the workers.
        reach: number of frames in the window on each side of the current one.
        contexts: of the window, if it is the same for all frames (the whole scene).
        first: number of the scene's first frame in the clip.
        refine: number of refinement passes.
        store: features from the first pass; it may hold only the first frames of the clip.

    Attributes:
        first: as given.
    """

    def __init__(
        self,
        tiler: Tiler,
        reach: int,
        contexts: Contexts | None,
        first: int,
        refine: int,
        store: FeatureStore | None = None,
    ) -> None:
        self._store, self._refine = store, refine
        self._tiler, self._network = tiler, tiler.network
        self._reach, self._contexts = reach, contexts
        self._side = self._network.config.neighbours
        self._ahead = max(reach, self._side)
        self._states: deque[_FrameState] = deque()
        self.first = first
        # End of the frames taken in, oldest frame of `_states`, first frame not collected.
        self._end = self._oldest = self._collected = first
        self._window = WindowSums(first)

    @property
    def taken(self) -> int:
        """Number of frames taken in so far."""
        return self._end - self.first

    def restore(self, frames: Iterable[Tensor], wanted: int) -> Iterator[Tensor]:
        """Restore all frames of the scene, (3, H, W), float, 0..1, from number `wanted` on."""
        drafts = self._first_pass(frames, wanted - self._refine)
        for further in reversed(range(self._refine)):
            drafts = self._refinement_pass(drafts, further)
        for draft in drafts:
            restored = draft.restored if draft.number >= wanted else None
            del draft
            if restored is not None:
                yield restored

    def _first_pass(self, frames: Iterable[Tensor], wanted: int) -> Iterator[_Draft]:
        """First pass over all frames of the scene from number `wanted` on."""
        current = self.first
        pending: deque[Future[_Draft]] = deque()
        for frame in frames:
            self._append(frame)
            if self.taken > self._ahead + self._spare:
                yield from self._advance(current, wanted, pending)
                current += 1
        for number in range(current, self._end):
            yield from self._advance(number, wanted, pending)
        while pending:
            yield pending.popleft().result()

    def _refinement_pass(self, drafts: Iterator[_Draft], further: int) -> Iterator[_Draft]:
        """One refinement pass, with neighbours from `drafts`; `further` passes follow it. The first
        draft is dropped if its predecessor exists in the scene but not in `drafts`.
        """
        pending: deque[Future[_Draft]] = deque()
        before: _Pixels | None = None
        current: _Draft | None = None
        for draft in chain(drafts, (None,)):
            if current is not None and current.inputs is not None:
                if before is not None or current.number == self.first:
                    after = _BEYOND if draft is None else draft.pixels
                    triplet = (before or _BEYOND, current.pixels, after)
                    pending.append(
                        self._workers.submit(self._run_pass, current.inputs, triplet, further)
                    )
                before = current.pixels
            current = draft
            del draft
            if len(pending) > self._spare:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def _advance(
        self, current: int, wanted: int, pending: deque[Future[_Draft]]
    ) -> Iterator[_Draft]:
        """Submit a frame if it is wanted, and yield the oldest result if enough are in flight. What
        only this frame needed is dropped before the yield, as the consumer may hold results long.
        """
        if current >= wanted:
            pending.append(self._submit(current))
        self._release(current)
        if len(pending) > self._spare:
            yield pending.popleft().result()

    def _append(self, frame: Tensor) -> None:
        if self.taken == 0:
            self._size = frame.shape[-2:]
            self._workers = self._tiler.workers_for(*self._size)
            self._spare = self._workers.count - 1  # additional frames in flight
        kept = None if self._store is None else self._store.get(self._end)
        summed = self._contexts is None
        coming = self._workers.submit(encode_frame, self._tiler, frame, kept, summed=summed)
        self._states.append(_FrameState(frame, coming))
        self._end += 1
        self._collect(self._end - self._spare)

    def _collect(self, end: int) -> None:
        """Wait for the encoding of frames before `end`, add them to the sums, and keep as much of
        their features as fits.
        """
        for number in range(self._collected, end):
            state = self._state(number)
            assert state.coming is not None
            encoded, sums, state.luma = state.coming.result()
            state.coming = None
            waiting = self._ahead + self._spare
            size = sum(x.numel() * x.element_size() for x in encoded.features)
            if sums is None:
                state.keep(encoded, whole=True)
            else:
                self._window.push(sums)
                if self._ahead <= ALWAYS_KEPT or waiting * size <= MOST_KEPT:
                    state.keep(encoded, whole=self._ahead == 0 or size <= MOST_KEPT_WHOLE)
        self._collected = max(self._collected, end)

    def _submit(self, current: int) -> Future[_Draft]:
        """Submit the first pass of a frame; its whole window has been taken in."""
        self._collect(min(current + self._ahead + 1, self._end))
        contexts = self._contexts
        if contexts is None:
            start = max(current - self._reach, self.first)
            end = min(current + self._reach + 1, self._end)
            contexts = contexts_of(self._window.total(start, end))
        span = range(current - self._side, current + self._side + 1)
        places = [min(max(number, self.first), self._end - 1) for number in span]
        for number in range(places[0], min(places[-1] + self._spare, self._collected - 1) + 1):
            self._encode_again(number)
        local = [self._local(number) for number in places]
        neighbours = (*local[: self._side], *local[self._side + 1 :])
        state = self._state(current)
        assert state.frame is not None
        inputs = _Inputs(current, state.frame, state.encoded, state.coarser, contexts, neighbours)
        before, own, after = (self._pixels(current + offset) for offset in (-1, 0, 1))
        return self._workers.submit(self._run_pass, inputs, (before, own, after), self._refine)

    def _pixels(self, number: int) -> _Pixels:
        if not self.first <= number < self._end:
            return _BEYOND
        state = self._state(number)
        return _Pixels(state.frame, state.luma)

    def _run_pass(self, inputs: _Inputs, triplet: _Triplet, further: int) -> _Draft:
        """One pass of a frame; `further` refinement passes follow it.

        A refinement pass takes the mean of the previous result and the one with restored
        neighbours. The new one has more detail from the neighbours. The previous one has less
        noise, because noise of restored neighbours is correlated. Their errors partly cancel.
        """
        engine, own = self._tiler.engine, triplet[1].frame
        with no_autocast(engine.device):
            out = self._output(inputs, triplet)
        height, width = self._size
        restored = out[0, :, :height, :width].clamp_(0, 1)
        if further < self._refine:
            assert own is not None
            restored = restored.add_(own).div_(2)
        if not further:
            return _Draft(inputs.number, restored)
        if not restored.isfinite().all():
            restored = inputs.frame.to(restored)  # or NaNs would spread to the neighbours
        return _Draft(inputs.number, restored, shrunken_luma(prepared(restored, engine))[0], inputs)

    def _output(self, inputs: _Inputs, triplet: _Triplet) -> Tensor:
        """Run the network on a frame and its neighbours: (1, 3, H', W'), padded."""
        before, own, after = triplet
        engine, config = self._tiler.engine, self._network.config
        encoded = inputs.encoded
        if encoded is None:
            ready = prepared(inputs.frame, engine)
            encoded = Encoded(ready, (self._tiler.encode_finest(ready), *inputs.coarser))
        motion = None
        if own.luma is not None:
            motion = motion_between(before.luma, own.luma, after.luma)[None].to(engine.device)
        beside = [one.frame if config.aligned_levels else None for one in (before, after)]
        previous, following = (None if one is None else prepared(one, engine) for one in beside)
        frames = previous, encoded.frame, following
        neighbourhood = Neighbourhood.gathered(config, frames, inputs.local, motion)
        return self._tiler.restore(encoded, inputs.contexts, neighbourhood)

    def _encode_again(self, number: int) -> None:
        """Submit the encoding of a collected frame again if they were dropped."""
        state = self._state(number)
        if state.local is None and state.coming is None:
            assert state.frame is not None
            state.coming = self._workers.submit(
                encode_frame, self._tiler, state.frame, summed=False
            )

    def _local(self, number: int) -> Tensor:
        state = self._state(number)
        if state.local is None:
            assert state.coming is not None
            state.keep(state.coming.result().encoded, whole=True)
            state.coming = None
        assert state.local is not None
        return state.local

    def _release(self, current: int) -> None:
        """Drop what no later frame needs. Neighbours of the current frame still need `local`."""
        self._collect(current + 1)  # sums are taken in order, also those of frames not wanted
        state = self._state(current)
        state.encoded, state.coarser = None, ()
        if state.local is not None and not self._network.config.aligned_levels:
            state.frame = None
        self._window.forget(current + 1 - self._reach)
        while self._oldest < current + 1 - self._side:
            self._states.popleft()
            self._oldest += 1

    def _state(self, number: int) -> _FrameState:
        return self._states[number - self._oldest]
