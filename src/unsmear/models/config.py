"""Configuration (the shape) of the deblurring network, and its validation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from unsmear.errors import ConfigError
from unsmear.models.attention import ATTENTIONS
from unsmear.models.trails import CELL, MOTION_CHANNELS, TRAIL_CHANNELS

_OF_LEVELS = (
    "widths",
    "encoder_blocks",
    "decoder_blocks",
    "attention_levels",
    "trail_levels",
    "aligned_levels",
)
_NUMBERS = (
    "dense_layers",
    "stem",
    "spatial_maps",
    "temporal_maps",
    "neighbours",
    "trail_channels",
    "aligned_channels",
)


def not_whole(config: object, single: Iterable[str], several: Iterable[str] = ()) -> list[str]:
    """Problems with fields of a config that must hold an integer, or a tuple of integers.

    Values read from JSON may be of any type. Booleans are rejected, although Python treats True
    as 1.

    Args:
        config: whose fields are checked.
        single: names of fields that must hold an integer.
        several: names of fields that must hold a tuple of integers.

    Returns:
        One message for each invalid field.
    """

    def whole(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    problems = [
        f"{name} is {value!r}: must be a whole number"
        for name in single
        if not whole(value := getattr(config, name))
    ]
    for name in several:
        value = getattr(config, name)
        if not isinstance(value, tuple) or not all(map(whole, value)):
            problems.append(f"{name} is {value!r}: must be a list of whole numbers")
    return problems


def _rising(numbers: tuple[int, ...], *, below: int) -> bool:
    """Whether these are rising level numbers, from 0 to less than `below`."""
    return list(numbers) == sorted(set(numbers).intersection(range(below)))


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Shape of a `DeblurNetwork`. Levels are numbered from the finest (0) to the coarsest.

    Attributes:
        widths: channels of each level; level l runs at 1/(stem * 2**l) of the resolution.
        encoder_blocks: blocks of each level of the encoder.
        decoder_blocks: blocks of each level of the decoder.
        block: `residual` (two 3x3 convolutions) or `dense` (densely connected module).
        dense_layers: inner convolutions of a dense block, each adding width // 2 channels.
        stem: factor of the pixel-unshuffle at the input: 1 (full resolution), 2 or 4.
        attention_levels: levels at which the attention fuses the window.
        attention: row of `unsmear.models.attention.ATTENTIONS`; default: the paper's.
        spatial_maps: M of the paper.
        temporal_maps: N of the paper.
        neighbours: frames on each side whose coarsest features are fused with those of the current
            frame, the local path (0: none, as in the paper).
        trail_levels: levels at which features are sampled along each pixel's blur (none: as in
            the paper). Its direction and length are estimated from the coarsest features and the
            optical flow to the neighbours, see `unsmear.models.trails`.
        trail_channels: channels of the features that are sampled along the trails.
        aligned_levels: levels at which neighbouring frames, warped to the current one, are fused,
            see `unsmear.models.align` (none: as in the paper).
        aligned_channels: hidden channels of that fusion.

    Raises:
        ConfigError: values are invalid or contradict each other; the message lists the problems.
    """

    widths: tuple[int, ...]
    encoder_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    block: Literal["residual", "dense"] = "residual"
    dense_layers: int = 4
    stem: int = 2
    attention_levels: tuple[int, ...]
    attention: str = "factorised"
    spatial_maps: int = 8
    temporal_maps: int = 4
    neighbours: int = 0
    trail_levels: tuple[int, ...] = ()
    trail_channels: int = 24
    aligned_levels: tuple[int, ...] = ()
    aligned_channels: int = 64

    def __post_init__(self) -> None:
        # JSON gives lists; hashing and comparison need tuples.
        for name in _OF_LEVELS:
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        if wrong := not_whole(self, _NUMBERS, _OF_LEVELS):
            raise ConfigError("NetworkConfig: " + "; ".join(wrong))
        problems = []
        levels = len(self.widths)
        if levels == 0 or min(self.widths) < 2:
            problems.append(f"widths is {self.widths}: needs one or more levels of 2+ channels")
        for name in ("encoder_blocks", "decoder_blocks"):
            value = getattr(self, name)
            if len(value) != levels or min(value, default=0) < 0:
                problems.append(f"{name} is {value}: needs {levels} numbers, one for each width")
        if self.block not in ("residual", "dense"):
            problems.append(f"block is {self.block!r}: allowed are 'residual' and 'dense'")
        if self.dense_layers < 1:
            problems.append(f"dense_layers is {self.dense_layers}: at least 1")
        if self.stem not in (1, 2, 4):
            problems.append(f"stem is {self.stem}: allowed are 1, 2 and 4")
        if not _rising(self.attention_levels, below=levels):
            problems.append(
                f"attention_levels is {self.attention_levels}: "
                f"needs rising level numbers from 0 to {levels - 1}"
            )
        if self.attention not in tuple(ATTENTIONS):  # a tuple, since the value may be unhashable
            problems.append(
                f"attention is {self.attention!r}: must be one of {', '.join(ATTENTIONS)}, or be "
                "added to unsmear.models.attention.ATTENTIONS, as the program that trained such "
                "weights does: use that program"
            )
        if min(self.spatial_maps, self.temporal_maps) < 1:
            problems.append("spatial_maps and temporal_maps must be at least 1")
        if self.neighbours < 0:
            problems.append(f"neighbours is {self.neighbours}: 0 or more")
        for name in ("trail_levels", "aligned_levels"):
            value = getattr(self, name)
            if not _rising(value, below=levels - 1):
                problems.append(
                    f"{name} is {value}: needs rising level numbers below that of the coarsest, "
                    f"{levels - 1}"
                )
        if self.trail_levels:
            if self.stem * 2 ** (levels - 1) != CELL:
                problems.append(f"trail_levels needs the coarsest level at 1/{CELL} of the frame")
            if self.neighbours < 1:
                problems.append("trail_levels needs neighbours, to see how the picture moves")
        elif self.aligned_levels:
            problems.append("aligned_levels needs trail_levels, whose motion moves the neighbours")
        for name in ("trail_channels", "aligned_channels"):
            if getattr(self, name) < 1:
                problems.append(f"{name} is {getattr(self, name)}: at least 1")
        if problems:
            raise ConfigError("NetworkConfig: " + "; ".join(problems))

    @property
    def coarsest(self) -> int:
        """Number of the coarsest level."""
        return len(self.widths) - 1

    @property
    def size_multiple(self) -> int:
        """Height and width of the input of `encode` must be multiples of this."""
        return int(self.stem * 2**self.coarsest)

    def can_start_from(self, trained: NetworkConfig) -> bool:
        """Whether a network of this shape can be initialised from weights of the trained one.

        True if both are the same, or if they have a part in common (see `common_part`). For that
        they need residual blocks, the same number of levels, the same stem and maps, and either no
        neighbours at all or at least as many in this one as in the trained one.
        """
        alike = ("block", "stem", "spatial_maps", "temporal_maps")
        return self == trained or (
            self.block == "residual"
            and all(getattr(self, name) == getattr(trained, name) for name in alike)
            and len(self.widths) == len(trained.widths)
            # Without neighbours there is no local fusion that could be extended.
            and (self.neighbours >= trained.neighbours > 0 or self.neighbours == trained.neighbours)
        )

    def can_grow_from(self, trained: NetworkConfig) -> bool:
        """Whether this network can take over all of the trained one, see `unsmear.models.growth`.

        True if both are the same, or if this one `can_start_from` the trained one, and that has no
        more channels, blocks, neighbours and modules, and the same attention, if it has any.
        """
        return self == trained or (self.can_start_from(trained) and trained._fits_into(self))

    def is_part_of(self, trained: NetworkConfig) -> bool:
        """Whether this shape can be pruned from the trained one, see `unsmear.models.pruning`.

        True if it has residual blocks, `can_start_from` the trained one, and has as many neighbours
        and no more channels, blocks and modules. If it has attention, both have the paper's: which
        weights of another belong to which channel is not known.
        """
        return (
            self.block == "residual"
            and self.can_start_from(trained)
            and self.neighbours == trained.neighbours
            and (self.attention == NetworkConfig.attention or not self.attention_levels)
            and self._fits_into(trained)
        )

    def common_part(self, trained: NetworkConfig) -> NetworkConfig:
        """The largest shape that is part of both this one and a trained one.

        To initialise this network, the trained one is pruned to that shape and then grown. It has
        no attention unless both have the paper's: this network's then starts untrained, and has no
        effect at first.

        Raises:
            ConfigError: the shapes have no part in common, see `can_start_from`.
        """
        if not self.can_start_from(trained):
            raise ConfigError("NetworkConfig: the shapes have no part in common")

        def least(name: str) -> tuple[int, ...]:
            return tuple(map(min, getattr(self, name), getattr(trained, name)))

        def shared(name: str) -> tuple[int, ...]:
            return tuple(level for level in getattr(self, name) if level in getattr(trained, name))

        trails = shared("trail_levels")
        attention_alike = self.attention == trained.attention == NetworkConfig.attention
        return replace(
            trained,
            widths=least("widths"),
            encoder_blocks=least("encoder_blocks"),
            decoder_blocks=least("decoder_blocks"),
            attention_levels=shared("attention_levels") if attention_alike else (),
            trail_levels=trails,
            trail_channels=min(self.trail_channels, trained.trail_channels),
            aligned_levels=shared("aligned_levels") if trails else (),  # alignment needs trails
            aligned_channels=min(self.aligned_channels, trained.aligned_channels),
        )

    def _fits_into(self, other: NetworkConfig) -> bool:
        """Whether this shape has no more channels, blocks or modules at any level."""
        return (
            all(
                ours <= theirs
                for name in ("widths", "encoder_blocks", "decoder_blocks")
                for ours, theirs in zip(getattr(self, name), getattr(other, name), strict=True)
            )
            and all(
                set(getattr(self, name)) <= set(getattr(other, name))
                for name in ("attention_levels", "trail_levels", "aligned_levels")
            )
            and (not self.attention_levels or self.attention == other.attention)
            and (not self.trail_levels or self.trail_channels <= other.trail_channels)
            and (not self.aligned_levels or self.aligned_channels <= other.aligned_channels)
        )

    def outputs_trails(self, level: int) -> bool:
        """Whether the output of `decode_level` ends in trails, for use at a finer level."""
        return any(finer < level for finer in self.trail_levels)

    def channels_below(self, level: int) -> tuple[int, ...]:
        """Channels of each tensor in `below` of `decode_level`, except the triplet."""
        if level == self.coarsest:
            motion = (MOTION_CHANNELS,) if self.trail_levels else ()
            return (self.widths[-1],) * 2 * self.neighbours + motion
        return (self.widths[level + 1] + TRAIL_CHANNELS * self.outputs_trails(level + 1),)
