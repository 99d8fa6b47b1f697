"""8-bit graphs, quantised once and stored in a file beside their weights."""

from __future__ import annotations

import hashlib
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
    """Path of the graphs of a weights file: lite.safetensors -> lite.int8.safetensors."""
    return weights.with_suffix(".int8.safetensors")


class SavedGraph(NamedTuple):
    """A graph as OpenVINO saves it: structure (the .xml file) and weights (the .bin file)."""

    structure: bytes
    numbers: bytes


def digest_of_graphs(graphs: Mapping[str, SavedGraph]) -> str:
    """SHA-256 of graphs, as hex digits."""
    digest = hashlib.sha256()
    for name, graph in sorted(graphs.items()):
        for part in (name.encode(), *graph):
            digest.update(part)
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class EightBitOrigin:
    """How 8-bit graphs were made.

    Attributes:
        digest: digest of the network that was quantised, see `digest_of`.
        calibrated_on: name of each calibration clip -> number of its frames.
        scores: name of each sequence -> PSNR in dB, in float32 and in 8 bits.
        versions: versions of the programs that made them, by name.
    """

    digest: str
    calibrated_on: dict[str, int]
    scores: dict[str, tuple[float, float]]
    versions: dict[str, str]


def psnr_loss(full: float, eight: float) -> float:
    """Loss of PSNR in 8 bits, dB: 0 if both are infinite, infinite if one of them is NaN."""
    if full == eight:
        return 0.0
    loss = full - eight
    return math.inf if math.isnan(loss) else loss


def save_eight_bit(path: Path, graphs: Mapping[str, SavedGraph], origin: EightBitOrigin) -> None:
    """Write graphs to a file. It appears only when it is complete.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {
        f"{name}.{part}": torch.frombuffer(bytearray(value), dtype=torch.uint8)
        for name, graph in graphs.items()
        for part, value in graph._asdict().items()
    }
    save_tensors(path, tensors, {"format": FORMAT, "origin": json.dumps(asdict(origin))})


def load_eight_bit(path: Path) -> tuple[dict[str, SavedGraph], EightBitOrigin]:
    """Read a file that `save_eight_bit` wrote.

    Raises:
        ModelError: the file cannot be read, holds no 8-bit graphs, or is damaged.
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
        raise ModelError(
            f"'{path}' is damaged: {error}; recreate it with `unsmear quantize`"
        ) from None
    return graphs, origin
