"""Weights files: safetensors with the network's shape and provenance in the header; never pickle.

A file is checked before memory is allocated for it: header size, keys, shapes, dtypes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from unsmear.errors import ConfigError, ModelError, first_line
from unsmear.models.config import NetworkConfig
from unsmear.models.network import DeblurNetwork
from unsmear.models.packing import pack, packed_shapes, unpack
from unsmear.models.polish import PolishConfig, PolishNetwork
from unsmear.outputs import atomic_file

FORMAT = "unsmear-weights-1"
_POLISH_FORMAT = "unsmear-polish-1"
_KINDS = {
    FORMAT: "weights of a network that restores",
    _POLISH_FORMAT: "weights of a network that polishes restored frames",
}
_LARGEST_HEADER = 8 << 20  # bytes; real headers take some tens of KiB
_LARGEST_NETWORK = 500_000_000  # parameters; real networks are far smaller
_DTYPES = ("F16", "BF16", "F32", "I8")


@dataclass(frozen=True)
class OwnShape:
    """Stands in for the shape of a network that is no `DeblurNetwork`, such as a researcher trains.
    `load_weights` refuses such weights; `safetensors.torch.load_file` reads them.

    Attributes:
        own: name of its class.
    """

    own: str


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How weights were trained.

    Attributes:
        model: row of the zoo that they belong to.
        steps: optimiser steps taken.
        seed: seed of the run.
        hours: training time, wall clock.
        device: device that trained them.
        version: version of Unsmear that trained them.
        config: the whole `TrainConfig`, as plain values.
        scores: validation scores, as plain values: sequence -> {measure: value}.
        parent: provenance of the weights that the run was initialised from; None if random.
        mixed: weight of this run's result where the weights are a mix of it and the initial ones;
            1: not mixed.
        data: what the run was trained on, without paths: its `summary` in words and `fingerprint`
            (`unsmear.data.sources.DataRecord`); None if it was not recorded.
    """

    model: str
    steps: int
    seed: int
    hours: float
    device: str
    version: str
    config: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    parent: dict[str, Any] | None = None
    mixed: float = 1.0
    data: dict[str, str] | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Provenance:
        """Provenance from plain values. Fields that this version does not know are ignored: a newer
        one may record more, and none of it changes what the weights compute.

        Raises:
            TypeError: a field is missing.
        """
        known = {part.name for part in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in known})

    @property
    def total_steps(self) -> int:
        """Steps of this run and of all its parents."""
        return self.steps + (Provenance.from_record(self.parent).total_steps if self.parent else 0)

    @property
    def unmeasured(self) -> Provenance:
        """A copy without scores, including those of its parents, which may be added later."""
        if not self.parent:
            return dataclasses.replace(self, scores={}, parent=None)
        before = Provenance.from_record(self.parent).unmeasured
        return dataclasses.replace(self, scores={}, parent=dataclasses.asdict(before))


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file. It appears only when it is complete.

    Args:
        path: of the file.
        tensors: on the CPU, contiguous, none a view of another.
        metadata: stored in the header.

    Raises:
        OutputError: the file cannot be written.
    """
    # Not `save_file`: its errors are not documented, and it would replace even a device file.
    with atomic_file(path) as partial:
        partial.write_bytes(save(tensors, dict(metadata)))


def save_weights(
    path: Path,
    config: NetworkConfig | OwnShape | PolishConfig,
    state: dict[str, Tensor],
    provenance: Provenance,
    dtype: torch.dtype = torch.float16,
    bits: int = 8,
) -> None:
    """Write weights, shape and provenance. The file appears only when it is complete.

    Args:
        path: ends in .safetensors.
        config: shape of the network or of a polishing network, or the name of another module, see
            `OwnShape`.
        state: its `state_dict`.
        provenance: stored in the header.
        dtype: on disk; loading always gives float32. int8: see `unsmear.models.packing`.
        bits: to which int8 is rounded, 2 to 8.

    Raises:
        ConfigError: `bits` is out of range.
        OutputError: the file cannot be written.
    """
    # Copied: safetensors takes no tensors that share memory, as shared weights do.
    on_cpu = {key: value.detach().to("cpu", copy=True) for key, value in state.items()}
    if dtype == torch.int8:
        stored = pack(on_cpu, bits)
    else:
        stored = {key: value.to(dtype) for key, value in on_cpu.items()}
    tensors = {key: value.contiguous() for key, value in stored.items()}
    metadata = {
        "format": _POLISH_FORMAT if isinstance(config, PolishConfig) else FORMAT,
        "network": json.dumps(dataclasses.asdict(config)),
        "provenance": json.dumps(dataclasses.asdict(provenance)),
    }
    save_tensors(path, tensors, metadata)


def _read_header(path: Path, kind: str | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    """Entries of the tensors, and metadata, without reading the tensors. `kind`: the format that
    the file must have; None: any of `_KINDS`.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
            if length > min(_LARGEST_HEADER, max(size - 8, 0)):
                raise ModelError(f"'{path}' is not a safetensors file: its header is out of range")
            header = json.loads(file.read(length))
    except OSError as error:
        raise ModelError(f"cannot read weights '{path}': {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise ModelError(f"'{path}' is not a safetensors file: its header is not JSON") from None
    metadata = header.pop("__metadata__", None) if isinstance(header, dict) else None
    found = str(metadata.get("format")) if isinstance(metadata, dict) else ""
    if not isinstance(metadata, dict) or found not in _KINDS:
        raise ModelError(
            f"'{path}' contains no Unsmear weights: its header must say format {kind or FORMAT}, "
            "as in files written by `unsmear train`"
        )
    if kind is not None and kind != found:
        raise ModelError(f"'{path}' contains {_KINDS[found]}, not {_KINDS[kind]}")
    if not all(isinstance(entry, dict) for entry in header.values()):
        raise ModelError(f"'{path}' is not a safetensors file: its header describes no tensors")
    return header, metadata


def _parse_network(path: Path, metadata: dict[str, str], tensors: int) -> DeblurNetwork:
    """The network that a header describes, on the meta device: without values."""
    try:
        shape = dict(json.loads(metadata["network"]))
        if "own" in shape:
            raise ModelError(
                f"'{path}' contains weights of a network of its own, '{shape['own']}': read them "
                "with safetensors.torch.load_file in the program that defines it"
            )
        known = {part.name for part in dataclasses.fields(NetworkConfig)}
        if unknown := [name for name in shape if name not in known]:
            raise ModelError(
                f"'{path}' describes a network unknown to this version, with '{unknown[0]}': it "
                "may be from a newer version of Unsmear; update Unsmear to use it"
            )
        config = NetworkConfig(**shape)
        blocks = sum(config.encoder_blocks) + sum(config.decoder_blocks)
        # Each level, block and dense layer has tensors. Checked first: modules take memory even
        # on the meta device.
        layers = blocks * (config.dense_layers if config.block == "dense" else 1)
        if (least := len(config.widths) + layers) > tensors:
            raise ModelError(
                f"'{path}' describes {least:,} layers or more but has only {tensors:,} tensors"
            )
        with torch.device("meta"):
            network = DeblurNetwork(config)
        values = sum(parameter.numel() for parameter in network.parameters())
    except (KeyError, TypeError, ValueError, RuntimeError, ConfigError) as error:
        raise ModelError(
            f"'{path}' describes a network unknown to this version: {first_line(error)}"
        ) from None
    if values > _LARGEST_NETWORK:
        raise ModelError(f"'{path}' describes a network of {values:,} values: too large")
    return network


def read_provenance(path: Path) -> Provenance:
    """Provenance of a weights file.

    Raises:
        ModelError: the file cannot be read, or is no Unsmear weights file.
    """
    return _parse_provenance(path, _read_header(path)[1])


def _parse_provenance(path: Path, metadata: dict[str, str]) -> Provenance:
    try:
        found = Provenance.from_record(dict(json.loads(metadata["provenance"])))
        hash(found.model)  # it is looked up in the zoo
        return found
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ModelError(f"'{path}' has no readable provenance in its header") from None


def load_weights(
    path: Path, expected: NetworkConfig | None = None
) -> tuple[DeblurNetwork, Provenance]:
    """Build the network that a file describes and load its weights.

    Args:
        path: of the file.
        expected: the shape that it must have, if that is known.

    Returns:
        The network, float32, in evaluation mode, without gradients, on the CPU; its provenance.

    Raises:
        ModelError: the file cannot be read, is no Unsmear weights file, is damaged, holds values
            that are not finite, or does not fit the network (shape, keys, dtypes).
    """
    header, metadata = _read_header(path, FORMAT)
    network = _parse_network(path, metadata, len(header))
    if expected is not None and network.config != expected:
        raise ModelError(f"'{path}' contains weights of another network than this model's")
    network.load_state_dict(_read_state(path, header, network), assign=True)
    return network.requires_grad_(False).eval(), _parse_provenance(path, metadata)


def load_any_weights(path: Path) -> tuple[DeblurNetwork | PolishNetwork, Provenance]:
    """`load_weights` or `load_polish_weights`, whichever fits the file; raises like these."""
    _, metadata = _read_header(path)
    polishes = metadata["format"] == _POLISH_FORMAT
    return load_polish_weights(path) if polishes else load_weights(path)


def load_polish_weights(path: Path) -> tuple[PolishNetwork, Provenance]:
    """Build the polishing network that a file describes and load its weights.

    Args:
        path: of the file.

    Returns:
        The network, float32, in evaluation mode, without gradients, on the CPU; its provenance.

    Raises:
        ModelError: see `load_weights`.
    """
    header, metadata = _read_header(path, _POLISH_FORMAT)
    try:
        config = PolishConfig(**json.loads(metadata["network"]))
        # Checked first: modules take memory even on the meta device.
        if config.blocks + config.deep_blocks > len(header):
            raise ModelError(f"'{path}' describes more layers than it has tensors")
        with torch.device("meta"):
            network = PolishNetwork(config)
    except (KeyError, TypeError, ValueError, RuntimeError, ConfigError) as error:
        raise ModelError(
            f"'{path}' describes a network unknown to this version: {first_line(error)}"
        ) from None
    network.load_state_dict(_read_state(path, header, network), assign=True)
    return network.requires_grad_(False).eval(), _parse_provenance(path, metadata)


def _read_state(path: Path, header: dict[str, Any], network: nn.Module) -> dict[str, Tensor]:
    """The values of a network's tensors, checked against its shapes."""
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    eight_bits = frozenset(key for key, entry in header.items() if entry.get("dtype") == "I8")
    wanted = packed_shapes(shapes, eight_bits)
    found = {key: entry.get("shape") for key, entry in header.items()}
    if found != wanted:
        wrong = sorted(
            key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)
        )
        raise ModelError(
            f"'{path}' does not fit its network: {len(wrong)} tensors differ, first '{wrong[0]}'"
        )
    if odd := [key for key, entry in header.items() if entry.get("dtype") not in _DTYPES]:
        raise ModelError(f"'{path}': tensor '{odd[0]}' must be one of {', '.join(_DTYPES)}")
    try:
        with safe_open(path, framework="pt") as file:
            # Copied: Windows does not replace a file that is mapped, as a training run would.
            state = unpack({key: file.get_tensor(key).clone() for key in wanted}, list(shapes))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"'{path}' is damaged: {error}") from None
    if bad := [key for key, value in state.items() if not torch.isfinite(value).all()]:
        raise ModelError(f"'{path}': tensor '{bad[0]}' has values that are not finite")
    return state


def digest_of(network: DeblurNetwork | PolishNetwork) -> str:
    """SHA-256 of a network's shape and weights, as hex digits."""
    # Fields that were added later are hashed only if they are used: older digests stay valid.
    if isinstance(network, PolishNetwork):
        unused = tuple(
            name
            for name in ("told", "passes")
            if getattr(network.config, name) == getattr(PolishConfig, name)
        )
    else:
        config = network.config
        trails = () if config.trail_levels else ("trail_levels", "trail_channels")
        unused = (
            trails if config.aligned_levels else (*trails, "aligned_levels", "aligned_channels")
        )
        if config.attention == NetworkConfig.attention:
            unused = (*unused, "attention")
    shape = ", ".join(
        f"{part.name}={getattr(network.config, part.name)!r}"
        for part in dataclasses.fields(network.config)
        if part.name not in unused
    )
    return _digest(f"{type(network.config).__name__}({shape})", network)


def _digest(shape: str, network: nn.Module) -> str:
    digest = hashlib.sha256(shape.encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
