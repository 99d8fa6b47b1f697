"""Ablation: is a part of the network worth its cost?

Trains variants of a row of the zoo on the same batches, from the same seeds, and measures each
after equal steps and after equal time.

    python benchmarks/ablation.py neighbours=0 spatial_maps=32,temporal_maps=8 window=3
        'block="dense"' 'attention_levels=[1,2]' --balance --data PHOTOS --val VAL --steps 2000

These can be varied: M (spatial_maps), N (temporal_maps), the levels of the attention
(attention_levels), the local path (neighbours), trails and aligned neighbours (trail_levels,
aligned_levels), dense or residual blocks (block), width (widths), depth (encoder_blocks,
decoder_blocks), the stem, and the window in training and measurement (window). The gate of GSTA is
a fusion of its own: `benchmarks/fusion.py factorised gated`. With --balance, blocks are added or
removed at the coarsest level until a variant has about as many multiply-accumulates as the row.
See `unsmear.train.learner` for the rules.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unsmear.errors import ConfigError
from unsmear.evaluate.comparison import Row, Words, comparison_lines
from unsmear.evaluate.programs import parse_changes, parser_for, run_program
from unsmear.models.config import NetworkConfig, not_whole
from unsmear.models.count import count_macs
from unsmear.models.flow import clip_motion
from unsmear.models.neighbourhood import Neighbourhood
from unsmear.models.network import (
    Contexts,
    DeblurNetwork,
    Descriptors,
    Encoded,
    join_frames,
    pad_to_multiple,
)
from unsmear.models.zoo import find_entry
from unsmear.train.comparison import add_arguments, compare, measured_row, trainer_of
from unsmear.train.learner import Learner

BASE = "base"
WORDS = Words(kind="variant", base=BASE, base_is="the row as it is", ours=BASE)
_MOST_BLOCKS = 64  # that balancing may add


@dataclass(frozen=True)
class Variant:
    """A network and its window.

    Raises:
        ConfigError: the window is not an odd number.
    """

    config: NetworkConfig
    window: int

    def __post_init__(self) -> None:
        if wrong := not_whole(self, ["window"]):
            raise ConfigError(wrong[0])
        if self.window < 1 or self.window % 2 == 0:
            raise ConfigError(f"window is {self.window}: odd, at least 1")


class Seen(NamedTuple):
    """Everything computed for one frame of a clip before it is restored."""

    encoded: Encoded
    descriptors: Descriptors
    around: Neighbourhood


class WindowedNetwork(nn.Module):
    """A `DeblurNetwork` in which frames see the window around them rather than the whole clip."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.window = variant.window
        self.network = DeblurNetwork(variant.config)

    @property
    def config(self) -> NetworkConfig:
        """Shape of the network."""
        return self.network.config

    def encode(self, clip: Tensor, motion: Tensor | None = None) -> list[Seen]:
        """Encode every frame of a clip (B, L, 3, H, W). `motion`: of the clip, if known already."""
        batch, frames = clip.shape[:2]
        padded = pad_to_multiple(clip, self.config.size_multiple)
        if motion is None and self.config.trail_levels:
            motion = clip_motion(padded)
        encoded = [self.network.encode(padded[:, frame]) for frame in range(frames)]
        local = torch.stack([one.local for one in encoded], dim=1).flatten(0, 1)
        around = Neighbourhood.of_clips(self.config, padded, local, motion)

        def at(frame: int, x: Tensor | None) -> Tensor | None:
            return None if x is None else x.unflatten(0, (batch, frames))[:, frame]

        return [
            Seen(
                one,
                self.network.squeeze(one),
                Neighbourhood(
                    tuple(x.unflatten(0, (batch, frames))[:, frame] for x in around.local),
                    at(frame, around.motion),
                    at(frame, around.triplet),
                ),
            )
            for frame, one in enumerate(encoded)
        ]

    def context(self, seen: list[Seen], frame: int) -> Contexts:
        """Contexts of the window around a frame, which ends where the clip does."""
        reach = self.window // 2
        window = seen[max(frame - reach, 0) : frame + reach + 1]
        return self.network.mix(join_frames([one.descriptors for one in window]))

    def restore(self, clip: Tensor, seen: list[Seen], frame: int) -> Tensor:
        """Restore one frame of the clip, (B, 3, H, W)."""
        one, context = seen[frame], self.context(seen, frame)
        restored = self.network.restore(one.encoded, context, one.around)
        return restored[..., : clip.shape[-2], : clip.shape[-1]]

    def forward(
        self, clip: Tensor, *, motion: Tensor | None = None, with_trails: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Restore every frame of (B, L, 3, H, W); with its trails if `with_trails`. `motion` as
        `DeblurNetwork` takes it.
        """
        seen, frames = self.encode(clip, motion), range(clip.shape[1])
        if not with_trails:
            return torch.stack([self.restore(clip, seen, frame) for frame in frames], dim=1)
        both = [
            self.network.restore_with_trails(one.encoded, self.context(seen, frame), one.around)
            for frame, one in enumerate(seen)
        ]
        restored, trails = (torch.stack(side, dim=1) for side in zip(*both, strict=True))
        return restored[..., : clip.shape[-2], : clip.shape[-1]], trails


def parse_variant(text: str, base: Variant) -> Variant:
    """`FIELD=JSON,FIELD=JSON` -> the base with these changes.

    Raises:
        ConfigError: an unknown field, invalid JSON, or values that contradict each other.
    """
    changes = parse_changes(text, text)
    window = changes.pop("window", base.window)
    try:
        return Variant(dataclasses.replace(base.config, **changes), window)
    except TypeError as error:
        raise ConfigError(f"variant '{text}': {error}") from None


def balanced(config: NetworkConfig, budget: int) -> NetworkConfig:
    """Change the number of blocks at the coarsest level, divided between encoder and decoder, so
    that the MACs of a 256x256 frame come closest to a budget.
    """
    encoder, decoder = config.encoder_blocks[-1], config.decoder_blocks[-1]

    def with_total(total: int) -> NetworkConfig:
        return dataclasses.replace(
            config,
            encoder_blocks=(*config.encoder_blocks[:-1], total - total // 2),
            decoder_blocks=(*config.decoder_blocks[:-1], total // 2),
        )

    one, two = (count_macs(with_total(total)) for total in (1, 2))
    total = round((budget - one) / (two - one)) + 1
    total = min(max(total, 0), encoder + decoder + _MOST_BLOCKS)
    return config if total == encoder + decoder else with_total(total)


def main() -> None:
    """Train, measure, print tables, write the record."""
    parser = parser_for(__doc__)
    parser.add_argument("variants", nargs="+", help="FIELD=JSON,FIELD=JSON ...")
    parser.add_argument("--row", default="plain", help="of the zoo")
    parser.add_argument("--balance", action="store_true", help="even out multiply-accumulates")
    parser.add_argument("--title", default="Ablation")
    arguments = add_arguments(parser)
    entry = find_entry(arguments.row)
    base = Variant(entry.config, entry.window)
    budget = count_macs(base.config)
    variants = {BASE: base}
    for text in arguments.variants:
        one = parse_variant(text, base)
        config = balanced(one.config, budget) if arguments.balance else one.config
        variants[text] = Variant(config, one.window)
    builds = {label: partial(WindowedNetwork, variant) for label, variant in variants.items()}

    def row_of(label: str, peak: int, learners: list[Learner]) -> Row:
        macs = count_macs(variants[label].config)
        return measured_row(label, learners, macs=macs, peak=peak)

    settings = {
        "row": arguments.row,
        "multiply-accumulates": "evened out" if arguments.balance else "as they come",
    }
    train_from = trainer_of(arguments, builds)
    record = compare(arguments, builds, train_from, row_of, settings, WORDS)
    print("\n".join(comparison_lines(record)))


if __name__ == "__main__":
    sys.exit(run_program(main))
