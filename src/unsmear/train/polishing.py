"""Training of the network that polishes restored frames (`unsmear.models.polish`).

Networks of the zoo restore synthesised clips, and what the burst step makes of them is kept in
files: `make_samples`. The polishing network learns from crops of these: `Samples` is a source of
batches, and `Polishing` tells the trainer the rest.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from unsmear.data.clips import Clips, Turn, turn_frames, unknown_clips
from unsmear.data.generators import Generators
from unsmear.data.pairs import PairedSequence
from unsmear.errors import ConfigError, InputError, writing
from unsmear.evaluate.validation import SequenceScore, score
from unsmear.models.checkpoint import Provenance, load_polish_weights, save_weights
from unsmear.models.polish import CHANNELS, EVIDENCE, STRIDE, PolishConfig, PolishNetwork
from unsmear.models.zoo import POLISH, LoadedModel
from unsmear.outputs import atomic_file
from unsmear.restoration.burst import fusions_of
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.stream import restore_stream
from unsmear.train.config import Stage, TrainConfig, preset
from unsmear.train.prefetch import BatchSource

_BURST = 2  # neighbours on each side; more are beyond what the network looks at
_MIDDLE = (2, 3, 4)  # frames of a sample clip with all neighbours
_ENDS = (0, 1, 5, 6)  # frames that lack some, as at the ends of a scene; one for each clip
_EDGE = 8  # pixels of a sample that no crop reaches: neighbours are warped from beyond it
_AFTER = 3 * 3  # channels before those of the neighbours
_REVERSED = [*range(_AFTER), *(_AFTER + place for place in (1, 0, 3, 2))]
_SHARP = 3  # channels, the last ones of a sample

SAMPLES = dataclasses.replace(
    preset("core"),
    stages=(Stage(steps=1, clips=4, frames=7, crop=192),),
    synthesis=dataclasses.replace(preset("core").synthesis, object_share=0.4, video_share=0.35),
)
"""The clips that samples are made of."""

TOLD_SAMPLES = dataclasses.replace(
    SAMPLES,
    stages=(Stage(steps=1, clips=2, frames=7, crop=320),),
    shards=2,
    synthesis=dataclasses.replace(SAMPLES.synthesis, compressed_share=0.3),
)
"""The same for a network that is told what reblurring finds: the camera's path is fitted to whole
frames.
"""

PLAN = TrainConfig(
    model=POLISH,
    stages=(Stage(steps=6_000, clips=12, frames=1, crop=96),),
    optimizer="muon",
    learning_rate=6e-4,
    warmup=200,
    loss="charbonnier_mse",
    clip_norm=0.5,
    ema_decay=0.998,
    shards=4,
    precision="float32",
    validate_every=1_500,
    synthesis=SAMPLES.synthesis,
)
"""How the network is trained: an hour and a half on a CPU core."""

TOLD_PLAN = dataclasses.replace(PLAN, loss="psnr")
"""The same for a network that is told what reblurring finds. With the other loss, nearly sharp
frames counted little, and lost.
"""


@torch.no_grad()
def make_samples(
    clips: Clips, model: LoadedModel, network: PolishNetwork, turn: int = 0
) -> np.ndarray:
    """Restore clips and fuse the results.

    Args:
        clips: B clips of 7 frames, with their motion if the model needs it.
        model: restores them, on the same device.
        network: that the samples are for; of several passes, later ones get what it gives now.
        turn: which of the frames with missing neighbours are used; they alternate.

    Returns:
        (B * 4 * passes, 16, H, W) uint8, or 19 channels: `unsmear.models.polish.stack_fusion` and
        the sharp frame. What reblurring finds is signed: 0.5 plus its double is kept.
    """
    motion = clips.motion if model.network.config.trail_levels else None
    frames = model.network(clips.blurry, motion=motion).float().clamp(0, 1)
    samples = []
    for number, (restored, blurry, sharp) in enumerate(zip(frames, *clips.pair, strict=True)):
        places = (*_MIDDLE, _ENDS[(turn + number) % len(_ENDS)])
        fusions = fusions_of(restored, blurry, _BURST, places, network)
        for place, passes in zip(places, fusions, strict=True):
            for fusion in passes:
                frames, evidence = fusion.tensor_split((CHANNELS,))
                sample = torch.cat((frames, 0.5 + 2 * evidence, sharp[place]))
                samples.append((sample.clamp(0, 1) * 255).round().byte().cpu())
    return torch.stack(samples).numpy()


def fill_folder(
    folder: Path,
    load: Callable[[], BatchSource],
    models: Sequence[LoadedModel],
    network: PolishNetwork,
    count: int,
) -> None:
    """Write samples of each model, `count` files each. Files that exist are kept, so an interrupted
    call goes on where it was.

    Args:
        folder: is created if it is missing.
        load: loads what clips are made of; called once, if a file is missing.
        models: restore the clips.
        network: that the samples are for, see `make_samples`.
        count: files of each model.

    Raises:
        OutputError: a file cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    batches: BatchSource | None = None
    for number in range(count):
        for place, model in enumerate(models):
            path = folder / f"{model.name}-{number:05}.npy"
            if path.exists():
                continue
            batches = batches or load()
            clips = batches.draw(number * len(models) + place)
            with atomic_file(path) as partial, partial.open("wb") as file:
                np.save(file, make_samples(clips, model, network, number))


class Samples:
    """Crops of the samples in a folder, a source of batches. All files count alike.

    Args:
        folder: of `fill_folder`.
        config: `PLAN`, with any changes.
        device: of the batches.
        told: with what reblurring finds.

    Raises:
        InputError: there are no samples, or a file holds something else.
    """

    def __init__(
        self, folder: Path, config: TrainConfig, device: torch.device, *, told: bool = False
    ) -> None:
        self._config, self._device = config, device
        self._channels = CHANNELS + EVIDENCE * told
        wanted = self._channels + _SHARP
        self._files = {path: _open(path, wanted) for path in sorted(folder.glob("*.npy"))}
        if not self._files:
            raise InputError(f"no samples in '{folder}': make some first")

    @property
    def summary(self) -> str:
        """Number of samples of each model, in words."""
        counts: Counter[str] = Counter()
        for path, samples in self._files.items():
            counts[re.sub(r"-\d+$", "", path.stem)] += len(samples)
        return ", ".join(f"{count:,} samples of {name}" for name, count in counts.items())

    def draw(self, step: int, shards: Sequence[int] | None = None) -> Clips:
        """See `unsmear.train.prefetch.BatchSource`: (B, 1, 13 or 16, H, W) and (B, 1, 3, H, W)."""
        config = self._config
        stage = config.stage_at(step)
        crops = []
        for shard in range(config.shards) if shards is None else shards:
            random = Generators.of_shard(config.seed, step, shard, torch.device("cpu"))
            crops += [self._crop(stage.crop, random) for _ in range(stage.clips // config.shards)]
        batch = torch.stack(crops)[:, None].to(self._device).float() / 255
        frames, evidence, sharp = batch.tensor_split((CHANNELS, self._channels), dim=2)
        return unknown_clips(torch.cat((frames, (evidence - 0.5) / 2), dim=2), sharp)

    def _crop(self, side: int, random: Generators) -> Tensor:
        """A random crop of a sample, (C, side, side), turned at random."""
        files = list(self._files.values())
        samples = files[random.index(len(files))]
        sample = samples[random.index(len(samples))]
        most = [(length - 2 * _EDGE - side) // STRIDE + 1 for length in sample.shape[-2:]]
        top, left = (_EDGE + STRIDE * random.index(count) for count in most)
        crop = torch.from_numpy(sample[:, top : top + side, left : left + side].copy())
        if random.chance(0.5):  # time runs backwards
            crop = torch.cat((crop[_REVERSED], crop[CHANNELS:]))
        turn = Turn(random.index(4), random.chance(0.5), reversed=False)
        return turn_frames(crop[None, None], [turn])[0, 0]


def _open(path: Path, channels: int) -> np.ndarray:
    """A file of samples of so many channels, read as it is needed.

    Raises:
        InputError: it holds no samples.
    """
    samples: object = None
    with suppress(OSError, ValueError, EOFError):
        samples = np.load(path, mmap_mode="r")
    if (
        not isinstance(samples, np.ndarray)
        or samples.dtype != np.uint8
        or samples.shape[1:2] != (channels,)
        or samples.ndim != 4
    ):
        raise InputError(f"'{path}' is not a file of samples: delete it to make it again")
    return samples


@dataclass(frozen=True)
class TrainedPolish:
    """Weights of a polishing network to start from, see `unsmear.train.trainable.Trained`."""

    name: str
    network: PolishNetwork
    provenance: Provenance

    @classmethod
    def read(cls, path: Path) -> TrainedPolish:
        """Those of a file.

        Raises:
            ModelError: it cannot be read, or holds other weights.
        """
        return cls(str(path), *load_polish_weights(path))


@dataclass(frozen=True)
class Polishing:
    """The polishing network for the trainer, see `unsmear.train.trainable.Trainable`.

    Attributes:
        model: whose results are polished for validation.
        shape: of the network.
    """

    model: LoadedModel
    shape: PolishConfig = field(default_factory=PolishConfig)

    @property
    def window(self) -> int:
        """See `Trainable`."""
        return self.model.window

    def check(self, config: TrainConfig) -> None:
        """See `Trainable`."""
        for stage in config.stages:
            if stage.crop % STRIDE:
                raise ConfigError(f"crop is {stage.crop}: must be a multiple of {STRIDE}")

    def build(self, config: TrainConfig, device: torch.device) -> nn.Module:  # noqa: ARG002
        """See `Trainable`."""
        return PolishNetwork(self.shape)

    def measure(
        self, network: nn.Module, sequences: Sequence[PairedSequence], *, with_ssim: bool
    ) -> list[SequenceScore]:
        """See `Trainable`."""
        return [
            score(sequence, lambda frames: self._frames(network, frames), with_ssim=with_ssim)
            for sequence in sequences
        ]

    def restored(self, network: nn.Module, clip: Tensor) -> Tensor:
        """See `Trainable`."""
        return torch.stack([*self._frames(network, clip)])

    def save(self, path: Path, network: nn.Module, provenance: Provenance) -> None:
        """See `Trainable`."""
        assert isinstance(network, PolishNetwork)
        save_weights(path, network.config, network.state_dict(), provenance)

    def _frames(self, network: nn.Module, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        """Frames restored by the model, as users see them, polished by the network."""
        assert isinstance(network, PolishNetwork)
        return restore_stream(
            self.model.network,
            frames,
            self.model.window,
            quality=QualityOptions(polish=True, reblur=network.config.told),
            polish=network,
        )
