"""The zoo: a table of all networks. A new network is one row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unsmear.errors import ModelError
from unsmear.models.checkpoint import (
    Provenance,
    load_polish_weights,
    load_weights,
    read_provenance,
)
from unsmear.models.config import NetworkConfig
from unsmear.models.network import DeblurNetwork
from unsmear.models.polish import PolishNetwork

_WINDOW = 5  # of networks that are not in the table
WEIGHTS_FOLDER = Path(__file__).parent / "weights"
POLISH = "polish"
"""Name of the network that polishes the results of all others."""
POLISH_WEIGHTS = WEIGHTS_FOLDER / f"{POLISH}.safetensors"
TOLD_WEIGHTS = WEIGHTS_FOLDER / f"{POLISH}-told.safetensors"
"""Of the same network, told what reblurring finds."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of the zoo.

    Attributes:
        name: as users type it.
        summary: what it is and what it is for, in one line.
        config: shape of the network.
        window: default window: how many frames contribute to each one.
    """

    name: str
    summary: str
    config: NetworkConfig
    window: int

    @property
    def weights(self) -> Path:
        """Path of the released weights; the file may not exist."""
        return WEIGHTS_FOLDER / f"{self.name}.safetensors"


# The motion between frames tells the direction of the blur, and the features along it help to
# invert it (trails). Neighbours may have kept detail that a frame has lost (alignment). Both work
# at 1/2, where detail is restored, so most blocks are there; of the coarser blocks, those remain
# that the first `pro` (encoder 2, 3, 4; decoder 5, 4, 4) had used.
_PRO = NetworkConfig(
    widths=(64, 96, 128),
    encoder_blocks=(3, 1, 1),
    decoder_blocks=(9, 4, 1),
    attention_levels=(1, 2),
    neighbours=2,
    trail_levels=(0, 1),
    aligned_levels=(0, 1),
)
# The most important part of the first `pro`, see `unsmear.models.pruning`.
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
# The most important part of `plus`: nearly the same gain with two fifths of the arithmetic.
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
        summary="core with fewer channels, for speed",
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
# Networks from which `pro` was grown, one after the other, for `scripts/retrain.py` and for
# comparisons from scratch. They have no released weights: the rows above are better at equal time.
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
    """The row with a given name, in `ZOO` or `ANCESTORS`.

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
        name: row of the zoo, or file name without its suffix.
        network: with its weights.
        window: default window: how many frames contribute to each one.
        provenance: how the weights were trained.
        weights: the file they were read from; None if they are random.
    """

    name: str
    network: DeblurNetwork
    window: int
    provenance: Provenance
    weights: Path | None = None


def load_model(name: str) -> LoadedModel:
    """Load a model of the zoo by name, or a weights file by path (a name in .safetensors).

    A weights file gets the window of the row that it belongs to, if it has the shape of that row.

    Raises:
        ModelError: the name is unknown, the model has no released weights, or the file cannot be
            loaded.
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


def load_polish(*, told: bool = False) -> PolishNetwork:
    """The released network that polishes restored frames, on the CPU, in evaluation mode.

    Args:
        told: the one that is told what reblurring finds.

    Raises:
        ModelError: its weights are missing or damaged.
    """
    return load_polish_weights(TOLD_WEIGHTS if told else POLISH_WEIGHTS)[0]


def released_provenance(entry: Entry) -> Provenance | None:
    """Provenance of the released weights of a row; None if there are none.

    Raises:
        ModelError: see `read_provenance`.
    """
    return read_provenance(entry.weights) if entry.weights.is_file() else None


def random_model(name: str, seed: int = 0) -> LoadedModel:
    """A model of the zoo with random weights, for measuring time and memory.

    Raises:
        ModelError: there is no such row.
    """
    entry = find_entry(name)
    torch.manual_seed(seed)
    network = DeblurNetwork(entry.config).requires_grad_(False).eval()
    nothing = Provenance(model=name, steps=0, seed=seed, hours=0.0, device="none", version="none")
    return LoadedModel(f"{name} (random weights)", network, entry.window, nothing)
