"""Sources of batches: synthesis, recorded pairs, or both."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unsmear.data.clips import Clips, join_clips, shuffle_clips, turn_clips, unknown_clips
from unsmear.data.generators import Generators
from unsmear.data.packing import (
    Packed,
    PackedShots,
    pack,
    pack_shots,
    share,
    unpack,
    unpack_shots,
)
from unsmear.data.pairs import PairedSequence
from unsmear.data.shake import OrientationLog, read_orientation_log
from unsmear.data.sources import TrainingFiles, load_all, load_photograph, load_shots
from unsmear.data.synthesis import Synthesizer, usable_shots
from unsmear.errors import InputError
from unsmear.models.flow import clip_motion
from unsmear.models.zoo import ANCESTORS, ZOO
from unsmear.train.config import Stage, TrainConfig
from unsmear.video.images import unit_from_integer

_LONGEST_SIDE = 1280  # pixels, of photographs in memory


class Batches:
    """Draws training batches. Holds photographs and shots on the device as uint8.

    Args:
        config: what to draw.
        files: training data.
        shake_logs: recorded orientation logs, may be empty.
        device: where batches are made.
        workers: number of threads that load files and decode recorded frames.

    Raises:
        InputError: a file cannot be read, or all clips are too short to train on and there is
            nothing else.
    """

    def __init__(
        self,
        config: TrainConfig,
        files: TrainingFiles,
        shake_logs: Sequence[Path],
        device: torch.device,
        workers: int,
    ) -> None:
        self._config = config
        self._device = device
        row = (ZOO | ANCESTORS).get(config.model)  # none for a network of one's own
        follows_trails = row is not None and bool(row.config.trail_levels)
        self._measures_motion = follows_trails or bool(config.teacher)
        self._pairs = files.pairs
        self._workers = workers
        photographs = load_all(
            lambda path: load_photograph(path, _LONGEST_SIDE), files.photographs, workers
        )
        shots = [shot for group in load_all(load_shots, files.clips, workers) for shot in group]
        logs = [read_orientation_log(path) for path in shake_logs]
        frames = max(stage.frames for stage in config.stages)
        if not photographs and not usable_shots(shots, frames):
            if not self._pairs:
                raise InputError(
                    f"no clip of --data has {frames + 2} consecutive frames without a cut: add "
                    "longer ones, or photographs"
                )
            shots = []
        self._synthesizer = (
            Synthesizer(config.synthesis, photographs, shots, logs, device)
            if photographs or shots
            else None
        )
        self.summary = (
            f"{len(photographs)} photographs, {len(shots)} sharp shots, {len(logs)} shake logs, "
            f"{len(self._pairs)} paired sequences"
        )

    def reseeded(self, seed: int) -> Batches:
        """The same sources with another seed."""
        twin = copy.copy(self)
        twin._config = dataclasses.replace(self._config, seed=seed)
        return twin

    def packed(self) -> PackedBatches:
        """A form that can be sent to other processes. The sources move into shared memory, which
        these batches use too from then on.
        """
        twin = copy.copy(self)
        twin._synthesizer, synthesizer = None, self._synthesizer
        if synthesizer is None:
            return PackedBatches(twin)
        photographs, shots = pack(synthesizer.photographs), pack_shots(synthesizer.shots)
        share([part.values for part in (photographs, *shots)], "the training data need")
        packed = PackedBatches(twin, photographs, shots, synthesizer.logs)
        self._synthesizer = packed.unpacked(self._device)._synthesizer
        return packed

    def draw(self, step: int, shards: Sequence[int] | None = None) -> Clips:
        """The batch of a step, always the same for the same step.

        Args:
            step: 0-based.
            shards: which of the config's shards; default: all.

        Returns:
            On the device: blurry and sharp clips, each (B, T, 3, crop, crop), sRGB 0..1; the trails
            of their blur; and the motion, if the network or a teacher may need it. B is the stage's
            clips, or the wanted shards' part of them.
        """
        stage, seed = self._config.stage_at(step), self._config.seed
        wanted = range(self._config.shards) if shards is None else shards
        parts = [
            self._shard(stage, Generators.of_shard(seed, step, shard, self._device))
            for shard in wanted
        ]
        clips = join_clips(parts)
        # Here rather than in the network: OpenCV runs on the host, and a GPU would wait for it.
        return clips._replace(motion=clip_motion(clips.blurry)) if self._measures_motion else clips

    def _shard(self, stage: Stage, random: Generators) -> Clips:
        clips = stage.clips // self._config.shards
        if self._synthesizer is None or (self._pairs and random.chance(self._config.pair_share)):
            return self._recorded(clips, stage, random)
        made = self._synthesizer.batch(clips, stage.frames, stage.crop, random)
        # The synthesizer puts long blurs and videos last, and drafts are made of the last clips
        # (`drafts.py`). Without drafts no random number is drawn: seeds keep their result.
        return shuffle_clips(made, random) if self._config.refine_share else made

    def _recorded(self, count: int, stage: Stage, random: Generators) -> Clips:
        clips = [self._recorded_clip(stage, random) for _ in range(count)]
        blurry, sharp = (
            unit_from_integer(torch.stack(side).to(self._device))
            for side in zip(*clips, strict=True)
        )
        return turn_clips(unknown_clips(blurry, sharp), random)

    def _recorded_clip(self, stage: Stage, random: Generators) -> tuple[Tensor, Tensor]:
        pair = self._pairs[random.index(len(self._pairs))]
        check_length(pair, stage.frames)
        start = random.index(len(pair.blurry) - stage.frames + 1)
        blurry, sharp = pair.read(start, stage.frames, workers=self._workers)
        check_size(pair, blurry, sharp, stage.crop)
        height, width = blurry.shape[-2:]
        top, left = random.index(height - stage.crop + 1), random.index(width - stage.crop + 1)
        rows, columns = slice(top, top + stage.crop), slice(left, left + stage.crop)
        return blurry[..., rows, columns], sharp[..., rows, columns]


@dataclass(frozen=True)
class PackedBatches:
    """`Batches` in a form that can be sent to another process.

    Attributes:
        batches: without the sources of synthesis.
        photographs: sources of synthesis, if any.
        shots: same.
        logs: same.
    """

    batches: Batches
    photographs: Packed | None = None
    shots: PackedShots | None = None
    logs: Sequence[OrientationLog] = ()

    def unpacked(self, device: torch.device) -> Batches:
        """The batches, on a device; on a CPU they use the packed memory."""
        twin = copy.copy(self.batches)
        twin._device = device
        if self.photographs is not None and self.shots is not None:
            twin._synthesizer = Synthesizer(
                twin._config.synthesis,
                unpack(self.photographs),
                unpack_shots(self.shots),
                self.logs,
                device,
            )
        return twin


def check_length(pair: PairedSequence, frames: int) -> None:
    """Raise InputError if a sequence has fewer frames than a training clip."""
    if len(pair.blurry) < frames:
        raise InputError(
            f"sequence '{pair.name}' has {len(pair.blurry)} frames, but training needs {frames}: "
            "remove it, or train with fewer --frames"
        )


def check_size(pair: PairedSequence, blurry: Tensor, sharp: Tensor, crop: int) -> None:
    """Raise InputError if blurry and sharp frames (..., H, W) differ in size or are too small."""
    height, width = blurry.shape[-2:]
    if blurry.shape != sharp.shape:
        raise InputError(
            f"sequence '{pair.name}' has blurry frames of {width}x{height} and sharp ones of "
            f"{sharp.shape[-1]}x{sharp.shape[-2]}: both must have the same size"
        )
    if min(height, width) < crop:
        raise InputError(
            f"sequence '{pair.name}' has frames of {width}x{height}, too small for a crop of "
            f"{crop}: remove it, or train with a smaller --crop"
        )
