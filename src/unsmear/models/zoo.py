"""The networks there are: one visible table. A new network is one row and one test."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unsmear.errors import ModelError
from unsmear.models.checkpoint import Provenance, load_weights, read_provenance
from unsmear.models.config import NetworkConfig
from unsmear.models.network import DeblurNetwork

_WINDOW = 5  # of networks that are in no row
WEIGHTS_FOLDER = Path(__file__).parent / "weights"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of the zoo.

    Attributes:
        name: as users type it.
        summary: for whom, in one line.
        config: shape of the network.
        window: frames that contribute to each one, unless the user says otherwise.
    """

    name: str
    summary: str
    config: NetworkConfig
    window: int

    @property
    def weights(self) -> Path:
        """Where the released weights lie; the file may not exist yet."""
        return WEIGHTS_FOLDER / f"{self.name}.safetensors"


# How the picture moves between frames says whither it is blurred, and along the blur lies what
# undoes it; what one frame has lost to the shaking hand its neighbours may have kept. Both are
# looked at in half of the size, where detail is made: so most blocks are there, and of the coarser
# ones those that the first `pro` (2, 3, 4 and 5, 4, 4) had made use of.
_PRO = NetworkConfig(
    widths=(64, 96, 128),
    encoder_blocks=(3, 1, 1),
    decoder_blocks=(9, 4, 1),
    attention_levels=(1, 2),
    neighbours=2,
    trail_levels=(0, 1),
    aligned_levels=(0, 1),
)
# The part of that first `pro` that mattered most, see `unsmear.models.pruning`.
_PLUS = replace(
    _PRO,
    widths=(48, 64, 96),
    encoder_blocks=(2, 1, 1),
    decoder_blocks=(5, 3, 1),
    attention_levels=(2,),
    trail_channels=16,
    aligned_levels=(0,),
    aligned_channels=32,
)
# And of that in turn: nearly as much gain by two fifths of its arithmetic.
_CORE = replace(_PLUS, widths=(32, 48, 64), decoder_blocks=(4, 2, 1), aligned_channels=16)
_PLAIN = NetworkConfig(
    widths=(24, 48, 96),
    encoder_blocks=(1, 1, 3),
    decoder_blocks=(1, 1, 3),
    attention_levels=(2,),
    neighbours=1,
)


def _by_name(*entries: Entry) -> dict[str, Entry]:
    return {entry.name: entry for entry in entries}


ZOO = _by_name(
    Entry(
        name="lite",
        summary="half the channels of core, for speed",
        config=replace(_CORE, widths=(16, 32, 48)),
        window=7,
    ),
    Entry(
        name="core",
        summary="the most important part of plus, for most clips",
        config=_CORE,
        window=7,
    ),
    Entry(
        name="plus",
        summary="the most important part of pro, in two fifths of its time",
        config=_PLUS,
        window=7,
    ),
    Entry(
        name="paper",
        summary="faithful to arXiv 2201.00169: densely connected modules, attention only",
        config=NetworkConfig(
            widths=(24, 48, 96, 160),
            encoder_blocks=(1, 1, 2, 2),
            decoder_blocks=(1, 1, 2, 2),
            block="dense",
            stem=1,
            attention_levels=(2, 3),
        ),
        window=5,
    ),
    Entry(
        name="pro",
        summary="best quality, slow without a GPU: wide, and deep where detail is made",
        config=_PRO,
        window=7,
    ),
)
# What `pro` grew from, one from the other, for `scripts/retrain.py` and for comparisons from
# scratch. Without weights of their own: the rows above do more in the same time.
ANCESTORS = _by_name(
    Entry(
        name="plain",
        summary="plain convolutions, from half resolution down",
        config=_PLAIN,
        window=5,
    ),
    Entry(
        name="trail",
        summary="plain, and samples along the blur of each pixel",
        config=replace(_PLAIN, trail_levels=(1,)),
        window=5,
    ),
    Entry(
        name="align",
        summary="trail, and aligns neighbouring frames",
        config=replace(_PLAIN, trail_levels=(1,), aligned_levels=(1,)),
        window=5,
    ),
)


def find_entry(name: str) -> Entry:
    """The row of a name; an ancestor's too.

    Raises:
        ModelError: there is none.
    """
    rows = ZOO | ANCESTORS
    if name not in rows:
        raise ModelError(
            f"unknown model '{name}': must be one of {', '.join(ZOO)}, or the path of a "
            ".safetensors file"
        )
    return rows[name]


@dataclass(frozen=True)
class LoadedModel:
    """A network ready to restore, on the CPU, in evaluation mode.

    Attributes:
        name: row of the zoo, or file name.
        network: with its weights.
        window: frames that contribute to each one, unless the user says otherwise.
        provenance: how the weights came to be.
        weights: the file they were read from.
    """

    name: str
    network: DeblurNetwork
    window: int
    provenance: Provenance
    weights: Path | None = None


def load_model(name: str) -> LoadedModel:
    """Load a row of the zoo by name, or a weights file by path, which has the window of the row
    that it is of.

    Raises:
        ModelError: unknown name, no weights released yet, or a file that does not fit.
    """
    if name.endswith(".safetensors"):
        path = Path(name)
        network, provenance = load_weights(path)
        row = (ZOO | ANCESTORS).get(provenance.model)
        window = row.window if row and row.config == network.config else _WINDOW
        return LoadedModel(path.stem, network, window, provenance, path)
    entry = find_entry(name)
    if not entry.weights.is_file():
        ready = ", ".join(row.name for row in ZOO.values() if row.weights.is_file()) or "none yet"
        raise ModelError(
            f"model '{name}' has no released weights: use one that has them ({ready}), or train "
            f"it: unsmear train --preset {name} --data DIR"
        )
    network, provenance = load_weights(entry.weights, expected=entry.config)
    return LoadedModel(name, network, entry.window, provenance, entry.weights)


def released_provenance(entry: Entry) -> Provenance | None:
    """How the released weights of a row came to be, None if there are none."""
    return read_provenance(entry.weights) if entry.weights.is_file() else None


def random_model(name: str, seed: int = 0) -> LoadedModel:
    """A row of the zoo with random weights, for measuring time and memory.

    Raises:
        ModelError: there is no such row.
    """
    entry = find_entry(name)
    torch.manual_seed(seed)
    network = DeblurNetwork(entry.config).requires_grad_(False).eval()
    nothing = Provenance(model=name, steps=0, seed=seed, hours=0.0, device="none", version="none")
    return LoadedModel(f"{name} (random weights)", network, entry.window, nothing)
