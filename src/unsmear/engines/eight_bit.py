"""Graphs in eight bits, made once and kept in a file beside the weights they belong to."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from unsmear.errors import ModelError
from unsmear.models.checkpoint import save_tensors

FORMAT = "unsmear-int8-1"


def eight_bit_path(weights: Path) -> Path:
    """Where the graphs of a weights file lie: lite.safetensors -> lite.int8.safetensors."""
    return weights.with_suffix(".int8.safetensors")


class SavedGraph(NamedTuple):
    """A graph as OpenVINO saves it: its structure (XML) and its numbers."""

    structure: bytes
    numbers: bytes


@dataclass(frozen=True, kw_only=True)
class EightBitOrigin:
    """How graphs in eight bits came to be.

    Attributes:
        digest: of the network they were made of, see `digest_of`.
        calibrated_on: names of the clips, and how many frames of each.
        scores: PSNR in dB, name of a sequence -> float32, eight bits.
        versions: of what made them.
    """

    digest: str
    calibrated_on: dict[str, int]
    scores: dict[str, tuple[float, float]]
    versions: dict[str, str]

    @property
    def loss(self) -> float:
        """How much the worst sequence loses, dB."""
        return max((psnr_loss(*pair) for pair in self.scores.values()), default=0.0)


def psnr_loss(full: float, eight: float) -> float:
    """How much lower a PSNR is in eight bits, dB: nothing where both are infinite, and infinitely
    much where one is no number.
    """
    if full == eight:
        return 0.0
    loss = full - eight
    return math.inf if math.isnan(loss) else loss


def save_eight_bit(path: Path, graphs: Mapping[str, SavedGraph], origin: EightBitOrigin) -> None:
    """Write graphs; the file appears when it is whole.

    Raises:
        OutputError: the disk or its rights say no.
    """
    tensors = {
        f"{name}.{part}": torch.frombuffer(bytearray(value), dtype=torch.uint8)
        for name, graph in graphs.items()
        for part, value in graph._asdict().items()
    }
    save_tensors(path, tensors, {"format": FORMAT, "origin": json.dumps(asdict(origin))})


def load_eight_bit(path: Path) -> tuple[dict[str, SavedGraph], EightBitOrigin]:
    """Read what `save_eight_bit` wrote.

    Raises:
        ModelError: it is not such a file, or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ModelError(
                    f"'{path}' contains no 8-bit graphs: recreate it with `unsmear quantize`"
                )
            origin = EightBitOrigin(**json.loads(metadata["origin"]))
            names = sorted({key.rpartition(".")[0] for key in file.keys()})  # noqa: SIM118
            graphs = {}
            for name in names:
                parts = (file.get_tensor(f"{name}.{part}") for part in SavedGraph._fields)
                graphs[name] = SavedGraph(*(part.numpy().tobytes() for part in parts))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"'{path}' is damaged: {error}; recreate it with `unsmear quantize`"
        ) from None
    return graphs, origin
