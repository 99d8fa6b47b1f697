"""What the trainer needs to know of a network besides its parameters. A row of the zoo knows it of
itself; `OwnNetwork` says it of any other module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from unsmear.data.pairs import PairedSequence
from unsmear.errors import ConfigError
from unsmear.evaluate.validation import SequenceScore, measure, score
from unsmear.models.checkpoint import OwnShape, Provenance, save_weights
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import ANCESTORS, ZOO, Entry
from unsmear.train.config import TrainConfig, check_crops, check_drafts

Restore = Callable[[nn.Module, Iterable[Tensor]], Iterable[Tensor]]


class Trained(Protocol):
    """Weights to start from, such as a `unsmear.models.zoo.LoadedModel`."""

    @property
    def name(self) -> str:
        """What messages call them."""

    @property
    def network(self) -> nn.Module:
        """The network that has them."""

    @property
    def provenance(self) -> Provenance:
        """How they were trained."""


class Trainable(Protocol):
    """A kind of network that `unsmear.train.loop.train` can train."""

    @property
    def window(self) -> int:
        """Number of frames, odd, with which validation shows one."""

    def check(self, config: TrainConfig) -> None:
        """Raise ConfigError if it cannot be trained so."""

    def build(self, config: TrainConfig, device: torch.device) -> nn.Module:
        """The network with random weights, to be trained on the device. It maps clips (B, T, 3, H,
        W), RGB, 0..1, to restored ones of the same shape, which need not be clamped.
        """

    def measure(
        self, network: nn.Module, sequences: Sequence[PairedSequence], *, with_ssim: bool
    ) -> list[SequenceScore]:
        """Restore and measure whole sequences with weights that were learned."""

    def restored(self, network: nn.Module, clip: Tensor) -> Tensor:
        """Restore a short clip (T, 3, H, W), RGB, 0..1, likewise; the same shape, on any device."""

    def save(self, path: Path, network: nn.Module, provenance: Provenance) -> None:
        """Write weights."""


@dataclass(frozen=True)
class ZooNetwork:
    """The network of a row of the zoo."""

    entry: Entry

    @property
    def window(self) -> int:
        """See `Trainable`."""
        return self.entry.window

    def check(self, config: TrainConfig) -> None:
        """See `Trainable`."""
        check_crops(config, self.entry.config, self.entry.name)
        check_drafts(config, self.entry.config)

    def build(self, config: TrainConfig, device: torch.device) -> nn.Module:  # noqa: ARG002
        """See `Trainable`."""
        return DeblurNetwork(self.entry.config)

    def measure(
        self, network: nn.Module, sequences: Sequence[PairedSequence], *, with_ssim: bool
    ) -> list[SequenceScore]:
        """See `Trainable`."""
        return measure(cast(DeblurNetwork, network), sequences, self.window, with_ssim=with_ssim)

    def restored(self, network: nn.Module, clip: Tensor) -> Tensor:
        """See `Trainable`."""
        return _of_clip(network, clip)

    def save(self, path: Path, network: nn.Module, provenance: Provenance) -> None:
        """See `Trainable`."""
        save_weights(path, self.entry.config, network.state_dict(), provenance)


@dataclass(frozen=True, kw_only=True)
class OwnNetwork:
    """Any module. Its weights are saved in float32, to be read by `safetensors.torch.load_file`;
    `unsmear` cannot restore with them.

    Attributes:
        make: makes it with random weights, or others to start from. It maps clips (B, T, 3, H, W),
            RGB, 0..1, to restored ones of the same shape.
        window: number of frames, odd: T of the clips in which `validate` restores a sequence, one
            after the other.
        restore: how a sequence, or a short clip for TensorBoard, is restored for validation, where
            that is not so: takes the network and the blurry frames (3, H, W), on the CPU, yields as
            many restored ones.

    Raises:
        ConfigError: the window is not odd.
    """

    make: Callable[[], nn.Module]
    window: int = 5
    restore: Restore | None = None

    def __post_init__(self) -> None:
        if self.window < 1 or self.window % 2 == 0:
            raise ConfigError(f"window is {self.window}: must be odd, at least 1")

    def check(self, config: TrainConfig) -> None:
        """See `Trainable`."""
        if config.model in ZOO | ANCESTORS:
            raise ConfigError(
                f"model is '{config.model}', a row of the zoo: give your network a name of its own"
            )
        if config.refine_share:
            raise ConfigError(
                f"refine_share is {config.refine_share}: is for networks of the zoo; use 0"
            )

    def build(self, config: TrainConfig, device: torch.device) -> nn.Module:
        """See `Trainable`.

        Raises:
            ConfigError: a clip comes back in another shape.
        """
        network = self.make().to(device)  # its operations may exist on a GPU alone
        stage = config.stages[0]
        clip = torch.zeros(1, stage.frames, 3, stage.crop, stage.crop, device=device)
        with torch.no_grad():
            made = network.eval()(clip)
        found = tuple(made.shape) if isinstance(made, Tensor) else f"a {type(made).__name__}"
        if found != tuple(clip.shape):
            raise ConfigError(
                f"'{config.model}' maps a clip of {tuple(clip.shape)} to {found}: must be a tensor "
                "of the same shape, a restored frame for every frame"
            )
        return network.train()

    def measure(
        self, network: nn.Module, sequences: Sequence[PairedSequence], *, with_ssim: bool
    ) -> list[SequenceScore]:
        """See `Trainable`."""
        restore = partial(self._frames, network)
        return [score(sequence, restore, with_ssim=with_ssim) for sequence in sequences]

    def restored(self, network: nn.Module, clip: Tensor) -> Tensor:
        """See `Trainable`."""
        return torch.stack([*self._frames(network, clip)])

    def save(self, path: Path, network: nn.Module, provenance: Provenance) -> None:
        """See `Trainable`."""
        named = OwnShape(type(network).__name__)
        save_weights(path, named, network.state_dict(), provenance, dtype=torch.float32)

    @torch.no_grad()
    def _frames(self, network: nn.Module, blurry: Iterable[Tensor]) -> Iterator[Tensor]:
        yield from (self.restore or self._by_clips)(network, blurry)

    def _by_clips(self, network: nn.Module, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        left = iter(frames)
        while clip := list(islice(left, self.window)):
            yield from _of_clip(network, torch.stack(clip)).float()


def _of_clip(network: nn.Module, clip: Tensor) -> Tensor:
    """What a network makes of one clip (T, 3, H, W)."""
    restored: Tensor = network(clip[None].to(next(network.parameters()).device))[0]
    return restored
