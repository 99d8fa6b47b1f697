"""Does a part of the network earn its place? Trains variants of a row of the zoo on the same
batches, from the same seeds, and measures each after equal steps and after equal time.

    python benchmarks/ablation.py neighbours=0 spatial_maps=32,temporal_maps=8 window=3
        'block="dense"' 'attention_levels=[1,2]' --balance --data PHOTOS --val VAL --steps 2000

What can be varied: M (spatial_maps), N (temporal_maps), the attention's levels, the local path
(neighbours), dense against residual blocks, width (widths), depth (encoder_blocks, decoder_blocks),
the stem, and the window that training and measuring see. The gate of GSTA is a fusion of its own:
`benchmarks/fusion.py factorised gated`. With --balance every variant gets or loses blocks at the
coarsest level until its multiply-accumulates are nearest to the row's own. See
`unsmear.train.contest` for the rules.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from unsmear.errors import ConfigError
from unsmear.evaluate.comparison import Row, Words, comparison_lines
from unsmear.models.config import NetworkConfig
from unsmear.models.count import count_macs
from unsmear.models.network import DeblurNetwork, Descriptors, Encoded, join_frames, pad_to_multiple
from unsmear.models.zoo import find_entry
from unsmear.train.config import TrainConfig
from unsmear.train.contest import (
    Learner,
    add_arguments,
    hold_contest,
    measured_row,
    run_contest,
)
from unsmear.train.measures import Judge
from unsmear.train.prefetch import Draws

BASE = "base"
WORDS = Words(kind="variant", base=BASE, base_is="the row as it is", ours=BASE)
_MOST_BLOCKS = 64  # that balancing adds


@dataclass(frozen=True)
class Variant:
    """A network and the window it sees."""

    config: NetworkConfig
    window: int

    def __post_init__(self) -> None:
        if self.window < 1 or self.window % 2 == 0:
            raise ConfigError(f"window is {self.window}: odd, at least 1")


class WindowedNetwork(nn.Module):
    """`DeblurNetwork` whose frames see the window around them rather than their whole clip."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.window = variant.window
        self.network = DeblurNetwork(variant.config)

    def encode(self, clip: Tensor) -> list[tuple[Encoded, Descriptors]]:
        """Clip (B, L, 3, H, W) -> features and descriptors of each frame."""
        padded = pad_to_multiple(clip, self.network.config.size_multiple)
        encoded = [self.network.encode(padded[:, frame]) for frame in range(clip.shape[1])]
        return [(one, self.network.squeeze(one)) for one in encoded]

    def restore(
        self, clip: Tensor, features: list[tuple[Encoded, Descriptors]], frame: int
    ) -> Tensor:
        """One frame of the clip, (B, 3, H, W); its window ends where the clip does."""
        last, reach = len(features) - 1, self.window // 2
        window = features[max(frame - reach, 0) : frame + reach + 1]
        side = self.network.config.neighbours
        local = [
            features[min(max(frame + offset, 0), last)][0].local
            for offset in range(-side, side + 1)
            if offset
        ]
        context = self.network.mix(join_frames([descriptors for _, descriptors in window]))
        restored = self.network.restore(features[frame][0], context, local)
        return restored[..., : clip.shape[-2], : clip.shape[-1]]

    def forward(self, clip: Tensor) -> Tensor:
        """Every frame of (B, L, 3, H, W)."""
        features = self.encode(clip)
        return torch.stack([self.restore(clip, features, t) for t in range(clip.shape[1])], dim=1)


def parse_variant(text: str, base: Variant) -> Variant:
    """`FIELD=JSON,FIELD=JSON` -> the base with these changed.

    Raises:
        ConfigError: no such field, no JSON, or values that contradict each other.
    """
    changes = {}
    for part in re.split(r",(?=[a-z_]+=)", text):
        key, _, value = part.partition("=")
        try:
            changes[key] = json.loads(value)
        except ValueError:
            raise ConfigError(f"variant '{text}': '{value}' is no JSON") from None
    if "trail_levels" in changes or base.config.trail_levels:
        raise ConfigError(
            "trails are learned from the true ones, which this benchmark does not show: "
            "use `unsmear train --preset trail`"
        )
    window = changes.pop("window", base.window)
    try:
        return Variant(dataclasses.replace(base.config, **changes), window)
    except TypeError as error:
        raise ConfigError(f"variant '{text}': {error}") from None


def balanced(config: NetworkConfig, budget: int) -> NetworkConfig:
    """The config with as many blocks more or less at the coarsest level, shared between encoder and
    decoder, as bring it nearest to a budget in MACs of a 256x256 frame.
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("variants", nargs="+", help="FIELD=JSON,FIELD=JSON ...")
    parser.add_argument("--row", default="lite", help="of the zoo")
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

    def compete(
        plan: TrainConfig, batches: Draws, judge: Judge, device: torch.device
    ) -> list[Learner]:
        learners = [Learner.start(label, build, plan, device) for label, build in builds.items()]
        run_contest(learners, batches, judge, arguments.steps, arguments.seconds)
        return learners

    def row_of(label: str, peak: int, learners: list[Learner]) -> Row:
        macs = count_macs(variants[label].config)
        return measured_row(label, learners, macs=macs, own_macs=0, blocks=0, peak=peak)

    settings = {
        "row": arguments.row,
        "multiply-accumulates": "evened out" if arguments.balance else "as they come",
    }
    record = hold_contest(arguments, builds, compete, row_of, settings, WORDS)
    print("\n".join(comparison_lines(record)))


if __name__ == "__main__":
    main()
