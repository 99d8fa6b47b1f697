"""8-bit quantization: calibrated on real frames, measured on others, written only if accurate."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unsmear import __version__
from unsmear.data.pairs import PairedSequence
from unsmear.engines.eight_bit import EightBitOrigin, psnr_loss, save_eight_bit
from unsmear.engines.graphs import GraphEngine, level_graphs
from unsmear.engines.openvino import OpenVinoEngine, convert_levels, write_graphs
from unsmear.errors import InputError, MissingExtraError, ModelError
from unsmear.evaluate.validation import SequenceScore, measure
from unsmear.models.checkpoint import digest_of
from unsmear.models.network import DeblurNetwork
from unsmear.restoration.stream import restore_stream
from unsmear.restoration.stretch import open_reader


@contextmanager
def _unreported() -> Iterator[None]:
    """Hide the telemetry package from NNCF while it is imported, so that it reports nothing to a
    server. Other importers still find the package.
    """
    name = "openvino_telemetry"
    there = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if there is not None:
            sys.modules[name] = there


@contextmanager
def _silent() -> Iterator[None]:
    """Let NNCF log only errors."""
    # Not `nncf.set_log_level`, which also changes the level of all of the program's handlers.
    log = logging.getLogger("nncf")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


try:
    with _unreported():
        import nncf
        import openvino
        from nncf.quantization.advanced_parameters import (
            AdvancedQuantizationParameters,
            OverflowFix,
        )
except ModuleNotFoundError as error:
    raise MissingExtraError(str(error.name), "quantize", "quantization") from error

LARGEST_LOSS = 0.1  # dB of PSNR on any sequence
_SAMPLES = 24  # maximum number of inputs of each graph that ranges are calibrated on
# These layers carry the finest differences of the image, for which 256 steps are too few: alone
# they cost 0.1 to 0.3 dB on nearly sharp frames, all others together 0.05.
_KEPT = (".*[.]stem/.*", ".*[.]ups[.].*", ".*[.]head/.*")

Inputs = list[np.ndarray]


class Recorder(GraphEngine):
    """Records the inputs of each graph while frames are restored: a limited number, evenly spread
    over all inputs.
    """

    name = "recorder"
    memory_format = torch.channels_last

    def __init__(self, network: DeblurNetwork) -> None:
        super().__init__(network)
        self._modules = {graph.name: graph.module for graph in level_graphs(network)}
        self.seen: dict[str, list[Inputs]] = {}
        self._count: dict[str, int] = {}
        self._every: dict[str, int] = {}

    def run(self, name: str, inputs: Sequence[Tensor]) -> Tensor:
        """Run one graph in torch."""
        self._note(name, inputs)
        out: Tensor = self._modules[name](*inputs)
        return out

    def _note(self, name: str, inputs: Sequence[Tensor]) -> None:
        count, every = self._count.get(name, 0), self._every.get(name, 1)
        self._count[name] = count + 1
        if count % every:
            return
        seen = self.seen.setdefault(name, [])
        seen.append([x.contiguous().numpy().copy() for x in inputs])
        if len(seen) == _SAMPLES:
            self.seen[name] = seen[::2]
            self._every[name] = 2 * every


def read_frames(clips: Iterable[Path], frames: int) -> dict[str, list[Tensor]]:
    """The first frames of each clip: name -> (3, H, W) each.

    Args:
        clips: video files, or folders of images.
        frames: maximum number of frames of each clip.

    Raises:
        InputError: a clip cannot be read, or there are no frames at all.
    """
    found: dict[str, list[Tensor]] = {}
    for path in clips:
        with ExitStack() as stack:
            reader = open_reader(path, stack)
            parts = path.parts or path.absolute().parts  # `.` has none
            names = ["/".join(parts[-depth:]) for depth in range(1, min(len(parts), 3) + 1)]
            found[_unused(names, found)] = [frame.rgb for frame in islice(reader, frames)]
    if not any(found.values()):
        raise InputError("no frames to calibrate on: give one or more clips with --clips")
    return found


def _unused(names: Sequence[str], taken: Container[str]) -> str:
    """The first of some names that is not taken, or else the first with a number."""
    numbered = (f"{names[0]} ({number})" for number in count(2))
    return next(name for name in chain(names, numbered) if name not in taken)


def record(network: DeblurNetwork, clips: Iterable[Sequence[Tensor]], window: int) -> Recorder:
    """Restore clips and record the inputs of the graphs."""
    recorder = Recorder(network)
    for frames in clips:
        for _ in restore_stream(recorder, frames, window):
            pass
    return recorder


def quantize(model: openvino.Model, seen: Sequence[Inputs]) -> openvino.Model:
    """Quantize a graph to eight bits.

    Args:
        model: float32; it is not changed.
        seen: inputs to calibrate the ranges on.
    """
    with _silent():
        return nncf.quantize(
            model.clone(),
            nncf.Dataset(seen),
            subset_size=len(seen),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(patterns=list(_KEPT), validate=False),
            # CPUs without VNNI accumulate 8-bit products in 16 bits: weights use 7 bits.
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.ENABLE, disable_bias_correction=False
            ),
        )


@dataclass(frozen=True)
class Quantized:
    """Result of quantization.

    Attributes:
        origin: the file's provenance.
        eight_bit: names of the graphs that compute in eight bits; the others stay in float32.
    """

    origin: EightBitOrigin
    eight_bit: tuple[str, ...]


def quantize_model(
    network: DeblurNetwork,
    window: int,
    clips: Mapping[str, Sequence[Tensor]],
    validation: Sequence[PairedSequence],
    path: Path,
    *,
    largest_loss: float = LARGEST_LOSS,
    on_note: Callable[[str], None] = lambda _: None,
) -> Quantized:
    """Quantize a network's graphs, and return the most costly ones to float32 until the loss is
    small.

    Args:
        network: in evaluation mode, on the CPU.
        window: number of frames that contribute to each frame.
        clips: to calibrate on, name -> frames.
        validation: to measure the loss on.
        path: of the file to write.
        largest_loss: limit of the PSNR loss on any sequence, dB.
        on_note: called with messages about what was tried and its loss.

    Raises:
        ModelError: no graph can be quantized within the limit. No file is written.
    """
    full = convert_levels(network)
    before = measure(network, validation, window, with_ssim=False)

    def loss_of(names: Iterable[str]) -> tuple[float, dict[str, tuple[float, float]]]:
        models = {**full, **{name: quantized[name] for name in names}}
        after = measure(OpenVinoEngine(network, models), validation, window, with_ssim=False)
        return largest_psnr_loss(before, after), _paired(before, after)

    seen = record(network, clips.values(), window).seen
    quantized = {name: quantize(model, seen[name]) for name, model in full.items()}
    costs = {}
    for name in quantized:
        costs[name], _ = loss_of([name])
        on_note(f"{name} alone in 8 bits costs {costs[name]:.3f} dB")
    chosen = sorted(quantized, key=lambda name: costs[name])
    loss, scores = loss_of(chosen)
    while not loss < largest_loss and chosen:
        on_note(f"together they cost {loss:.3f} dB: {chosen[-1]} stays in float32")
        chosen.pop()
        loss, scores = loss_of(chosen)
    if not chosen:
        raise ModelError(
            f"no part of this network can be quantized at a loss below {largest_loss} dB"
        )
    on_note(f"{', '.join(chosen)} in 8 bits cost {loss:.3f} dB on the worst sequence")
    origin = EightBitOrigin(
        digest=digest_of(network),
        calibrated_on={name: len(frames) for name, frames in clips.items()},
        scores=scores,
        versions={"unsmear": __version__, "openvino": version("openvino"), "nncf": version("nncf")},
    )
    graphs = write_graphs({**full, **{name: quantized[name] for name in chosen}})
    save_eight_bit(path, graphs, origin)
    return Quantized(origin, tuple(sorted(chosen)))


def largest_psnr_loss(before: Sequence[SequenceScore], after: Sequence[SequenceScore]) -> float:
    """The largest loss of any sequence, dB; see `psnr_loss`.

    Args:
        before: in float32.
        after: in eight bits, the same sequences.
    """
    pairs = zip(before, after, strict=True)
    return max(psnr_loss(full.psnr_after, eight.psnr_after) for full, eight in pairs)


def _paired(
    before: Sequence[SequenceScore], after: Sequence[SequenceScore]
) -> dict[str, tuple[float, float]]:
    """PSNR of each sequence by name, before and after; repeated names get a number."""
    scores: dict[str, tuple[float, float]] = {}
    for full, eight in zip(before, after, strict=True):
        scores[_unused([full.name], scores)] = (
            round(full.psnr_after, 4),
            round(eight.psnr_after, 4),
        )
    return scores
