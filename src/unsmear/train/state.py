"""The complete state of a run in one safetensors file: exact resume without unpickling."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from unsmear.data.sources import DataRecord
from unsmear.engines.base import to_device
from unsmear.errors import Mistakes, ModelError, quoted
from unsmear.evaluate.validation import SequenceScore, mean_gain
from unsmear.models.checkpoint import Provenance, save_tensors
from unsmear.models.growth import grow_from, grow_polish_from
from unsmear.models.network import DeblurNetwork
from unsmear.models.polish import PolishNetwork
from unsmear.train.config import TrainConfig
from unsmear.train.optimizers import build_optimizers
from unsmear.train.resuming import other_settings
from unsmear.train.trainable import Trained

# In the folder of a run.
STATE_FILE = "state.safetensors"
WEIGHTS_FILE = "weights.safetensors"
BEST_FILE = "best.safetensors"  # of the best validation


@dataclass(frozen=True)
class Best:
    """The best validation of a run so far.

    Attributes:
        step: at which it was measured.
        gain: mean gain in PSNR over the sequences, dB.
    """

    step: int
    gain: float


@dataclass(frozen=True, kw_only=True)
class StateHeader:
    """What a state file holds besides tensors. Older files lack the last four: None, and the step
    for `validated`.

    Attributes:
        step: optimiser steps taken.
        seconds: of training.
        config: `TrainConfig` as plain values.
        parent: provenance of the weights that the run started from, if any.
        data: what the run is trained on.
        validation: what it is measured on, if it is.
        validated: step of the last validation, 0 if there was none.
        best: the best validation so far.
    """

    step: int
    seconds: float
    config: dict[str, Any]
    parent: dict[str, Any] | None
    data: DataRecord | None
    validation: DataRecord | None
    validated: int
    best: Best | None


def read_header(path: Path) -> StateHeader:
    """Read a state file's header, but not its tensors.

    Raises:
        ModelError: unreadable, or not a state file.
    """
    with _resuming(path), safe_open(path, framework="pt") as file:
        metadata: Mapping[str, str] = file.metadata() or {}
        data, validation, best = (
            json.loads(metadata.get(name, "null")) for name in ("data", "validation", "best")
        )
        return StateHeader(
            step=int(metadata["step"]),
            seconds=float(metadata["seconds"]),
            config=json.loads(metadata["config"]),
            parent=json.loads(metadata["parent"]),
            data=data and DataRecord(**data),
            validation=validation and DataRecord(**validation),
            validated=int(metadata.get("validated", metadata["step"])),
            best=best and Best(**best),
        )


@dataclass
class TrainState:
    """Everything that changes from step to step.

    Attributes:
        network: being trained.
        average: moving average of its weights.
        optimizers: see `unsmear.train.optimizers`.
        step: optimiser steps taken.
        seconds: of training so far, before interruptions too.
        parent: provenance of the weights that the run started from, if any.
        data: what the run is trained on, if that is recorded.
        validation: what it is measured on, likewise.
        validated: step of the last validation, 0 if there was none.
        best: the best validation so far.
    """

    network: nn.Module
    average: nn.Module
    optimizers: tuple[Optimizer, ...]
    step: int = 0
    seconds: float = 0.0
    parent: dict[str, Any] | None = None
    data: DataRecord | None = None
    validation: DataRecord | None = None
    validated: int = 0
    best: Best | None = None

    @classmethod
    def start(
        cls,
        build: Callable[[], nn.Module],
        config: TrainConfig,
        device: torch.device,
        *,
        recorded: bool = False,
    ) -> TrainState:
        """Random weights from the config's seed. `recorded`: steps will be CUDA graphs."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = build()
        network = (
            to_device(network, device) if isinstance(network, DeblurNetwork) else network.to(device)
        )
        average = copy.deepcopy(network).requires_grad_(False).eval()
        optimizers = build_optimizers(network, config, recorded=recorded)
        return cls(network, average, optimizers)

    def take_weights(self, initial: Trained) -> None:
        """Start from trained weights of the same network, or of a smaller one that can grow into it
        (`unsmear.models.growth`). Prune a larger one first (`unsmear.train.pruning`).

        Raises:
            ModelError: the weights belong to another network.
        """
        for module in (self.network, self.average):
            if not _take(module, initial.network):
                raise ModelError(
                    f"the weights '{initial.name}' belong to another network than the one to train"
                )
        self.parent = dataclasses.asdict(initial.provenance)

    def measure_on(self, validation: DataRecord | None) -> None:
        """Set what the run is measured on from now on; None: unchanged. Scores on other data do not
        compare, so the best one is forgotten if it was.
        """
        if validation is None:
            return
        if self.validation is not None and validation.fingerprint != self.validation.fingerprint:
            self.validated, self.best = 0, None
        self.validation = validation

    def judge(self, scores: Sequence[SequenceScore]) -> bool:
        """Note a validation of the present step. Return whether it is the best so far."""
        self.validated = self.step
        gain = mean_gain(scores)
        if math.isnan(gain) or (self.best is not None and gain <= self.best.gain):
            return False
        self.best = Best(self.step, gain)
        return True

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Update the moving average; faster at the start, when the weights change most."""
        share = 1 - min(decay, (1 + self.step) / (10 + self.step))
        means: list[Tensor] = list(self.average.parameters())
        values: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(means, values, share)
        for kept, now in zip(self.average.buffers(), self.network.buffers(), strict=True):
            kept.copy_(now)  # of batch normalisation; networks of the zoo have none

    def save(self, path: Path, config: TrainConfig) -> None:
        """Write a state file, which appears only when it is complete.

        Raises:
            OutputError: it cannot be written.
        """
        tensors: dict[str, Tensor] = {}
        for prefix, module in (("network", self.network), ("average", self.average)):
            tensors |= {f"{prefix}.{key}": value for key, value in module.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for optimizer in self.optimizers:
                for moment, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"optimizer.{moment}.{name}"] = value
        metadata = {
            "step": str(self.step),
            "seconds": repr(self.seconds),
            "config": json.dumps(config.to_json()),
            "parent": json.dumps(self.parent),
            "data": json.dumps(_plain(self.data)),
            "validation": json.dumps(_plain(self.validation)),
            "validated": str(self.validated),
            "best": json.dumps(_plain(self.best)),
        }
        # Tensors may be views of one storage or channels_last, which safetensors does not accept.
        plain = {
            key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()
        }
        save_tensors(path, plain, metadata)

    def load(
        self,
        path: Path,
        config: TrainConfig,
        initial: Trained | None = None,
        data: DataRecord | None = None,
    ) -> None:
        """Resume from a saved state.

        Args:
            path: of the state.
            config: of the run.
            initial: weights that the run is supposed to have started from.
            data: that it is supposed to be trained on.

        Raises:
            UnsmearError: unreadable, of another network, or of a run with other settings, initial
                weights or data.
        """
        header = check_resumable(path, config, initial, data)
        with _resuming(path), safe_open(path, framework="pt") as file:
            # Copied: Windows does not replace a file, as the next `save` does, while it is mapped.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        try:
            for prefix, module in (("network.", self.network), ("average.", self.average)):
                module.load_state_dict(_below(tensors, prefix))
            self._load_moments(_below(tensors, "optimizer."))
        except (RuntimeError, KeyError) as error:
            raise ModelError(
                f"'{path}' is the training state of another network: {error}"
            ) from None
        self.step, self.seconds, self.parent = header.step, header.seconds, header.parent
        self.data, self.validation = header.data, header.validation
        self.validated, self.best = header.validated, header.best

    def _load_moments(self, tensors: Mapping[str, Tensor]) -> None:
        parameters = dict(self.network.named_parameters())
        owners = {
            id(parameter): optimizer
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        for key, value in tensors.items():
            moment, name = key.split(".", 1)
            parameter = parameters[name]
            owner = owners[id(parameter)]
            # Adam counts its steps on the CPU unless they are recorded as CUDA graphs; moments lie
            # where their parameter does, of single numbers too.
            if moment != "step":
                value = torch.empty_like(parameter).copy_(value)
            elif owner.defaults.get("capturable"):
                value = value.to(parameter.device)
            owner.state[parameter][moment] = value


def check_resumable(
    path: Path,
    config: TrainConfig | None,
    initial: Trained | None = None,
    data: DataRecord | None = None,
) -> StateHeader:
    """Header of a state of a run with the same settings and data. Tensors are not read.

    For settings that may differ see `unsmear.train.resuming`. Data that the file does not record
    may be any.

    Args:
        path: of the state.
        config: of the run; None: any.
        initial: weights that the run is supposed to have started from; None: any.
        data: that it is supposed to be trained on; None: any.

    Raises:
        ModelError: unreadable, or of a run with other settings, initial weights or data
            (CombinedError: several of these).
    """
    header, mistakes = read_header(path), Mistakes()
    if config is not None and (told := other_settings(header.config, config, header.step)):
        mistakes.add(
            ModelError(
                f"'{path}' is from a run with other settings ({'; '.join(told)}), with which its "
                f"{header.step:,} steps would have been others: use the same settings, or another "
                f"--out with --weights {quoted(path.with_name(WEIGHTS_FILE))} to start from what "
                "this run learned"
            )
        )
    if initial is not None and not _is_of(initial, header.parent):
        mistakes.add(
            ModelError(
                f"'{path}' did not start from the weights '{initial.name}': leave out --weights to "
                "resume, or use another --out"
            )
        )
    was = header.data
    if data is not None and was is not None and data.fingerprint != was.fingerprint:
        mistakes.add(
            ModelError(
                f"'{path}' is from a run with other data (it was {was}, now {data}): use the same "
                "--data and --shake, or another --out with --weights to start from what this run "
                "learned"
            )
        )
    mistakes.tell()
    return header


def _plain(record: DataRecord | Best | None) -> dict[str, Any] | None:
    return None if record is None else dataclasses.asdict(record)


@contextmanager
def _resuming(path: Path) -> Iterator[None]:
    """Turn errors of reading a state file, or missing entries in it, into ModelError."""
    try:
        yield
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"cannot resume from '{path}': {error}") from None


def _is_of(initial: Trained, parent: Mapping[str, Any] | None) -> bool:
    """Whether weights are those that a run started from, with or without scores."""
    if parent is None:
        return False
    return Provenance.from_record(parent).unmeasured == initial.provenance.unmeasured


def _take(network: nn.Module, trained: nn.Module) -> bool:
    """Copy trained weights into a network, in place, if they fit it. Return whether they do."""
    if isinstance(network, DeblurNetwork) and isinstance(trained, DeblurNetwork):
        fits = network.config.can_grow_from(trained.config)
        if fits:
            grow_from(network, trained)
        return fits
    if isinstance(network, PolishNetwork) and isinstance(trained, PolishNetwork):
        fits = network.config.can_grow_from(trained.config)
        if fits:
            grow_polish_from(network, trained)
        return fits
    values = trained.state_dict()
    shapes, wanted = (
        {name: value.shape for name, value in one.items()} for one in (values, network.state_dict())
    )
    fits = type(network) is type(trained) and shapes == wanted
    if fits:
        network.load_state_dict(values)
    return fits


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
