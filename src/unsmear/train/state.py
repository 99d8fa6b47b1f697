"""The complete state of a run in one safetensors file: exact resume without unpickling."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.optim import Optimizer

from unsmear.data.synthesis import SynthesisConfig
from unsmear.engines.base import to_device
from unsmear.errors import ModelError
from unsmear.models.checkpoint import Provenance, save_tensors
from unsmear.models.config import NetworkConfig
from unsmear.models.growth import grow_from
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import LoadedModel
from unsmear.train.config import TrainConfig
from unsmear.train.optimizers import build_optimizers


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
    """

    network: DeblurNetwork
    average: DeblurNetwork
    optimizers: tuple[Optimizer, ...]
    step: int = 0
    seconds: float = 0.0
    parent: dict[str, Any] | None = None

    @classmethod
    def start(
        cls,
        network_config: NetworkConfig,
        config: TrainConfig,
        device: torch.device,
        *,
        recorded: bool = False,
    ) -> TrainState:
        """Random weights from the config's seed. `recorded`: steps will be CUDA graphs."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = DeblurNetwork(network_config)
        network = to_device(network, device)
        average = copy.deepcopy(network).requires_grad_(False).eval()
        optimizers = build_optimizers(network, config, recorded=recorded)
        return cls(network, average, optimizers)

    def take_weights(self, initial: LoadedModel) -> None:
        """Start from trained weights of the same network, or of a smaller one that can grow into it
        (`unsmear.models.growth`). Prune a larger one first (`unsmear.train.pruning`).

        Raises:
            ModelError: the weights belong to another network.
        """
        if not self.network.config.can_grow_from(initial.network.config):
            raise ModelError(
                f"the weights '{initial.name}' belong to another network than the one to train"
            )
        for module in (self.network, self.average):
            grow_from(module, initial.network)
        self.parent = dataclasses.asdict(initial.provenance)

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Update the moving average; faster at the start, when the weights change most."""
        share = 1 - min(decay, (1 + self.step) / (10 + self.step))
        means: list[Tensor] = list(self.average.parameters())
        values: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(means, values, share)

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
        }
        # Tensors may be views of one storage or channels_last, which safetensors does not accept.
        plain = {
            key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()
        }
        save_tensors(path, plain, metadata)

    def load(self, path: Path, config: TrainConfig, initial: LoadedModel | None = None) -> None:
        """Resume from a saved state.

        Args:
            path: of the state.
            config: of the run.
            initial: weights that the run is supposed to have started from.

        Raises:
            ModelError: unreadable, of another network, or of a run with other settings or other
                initial weights.
        """
        check_resumable(path, config, initial)
        with _resuming(path), safe_open(path, framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            step, seconds = int(metadata["step"]), float(metadata["seconds"])
            parent = json.loads(metadata["parent"])
        try:
            for prefix, module in (("network.", self.network), ("average.", self.average)):
                module.load_state_dict(_below(tensors, prefix))
            self._load_moments(_below(tensors, "optimizer."))
        except (RuntimeError, KeyError) as error:
            raise ModelError(
                f"'{path}' is the training state of another network: {error}"
            ) from None
        self.step, self.seconds, self.parent = step, seconds, parent

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
            # where their parameter does.
            if value.dim():
                value = torch.empty_like(parameter).copy_(value)
            elif owner.defaults.get("capturable"):
                value = value.to(parameter.device)
            owner.state[parameter][moment] = value


def check_resumable(path: Path, config: TrainConfig, initial: LoadedModel | None = None) -> None:
    """Check that a state is of a run with the same settings, without reading its tensors.

    Settings that only affect reports, or how the same result is computed, may differ. A setting
    that is newer than the file had its default.

    Args:
        path: of the state.
        config: of the run.
        initial: weights that the run is supposed to have started from; None: any.

    Raises:
        ModelError: unreadable, or of a run with other settings or other initial weights.
    """
    with _resuming(path), safe_open(path, framework="pt") as file:
        metadata: Mapping[str, str] = file.metadata() or {}
        saved, parent = json.loads(metadata["config"]), json.loads(metadata["parent"])
    free = {"log_every", "validate_every", "checkpoint_every", "compile"}
    before = _plain_defaults() | saved
    before["synthesis"] = dataclasses.asdict(SynthesisConfig()) | before.get("synthesis", {})
    now = json.loads(json.dumps(config.to_json()))
    other = [key for key in now if key not in free and before.get(key) != now[key]]
    if other:
        told = "; ".join(line for key in other for line in _differences(key, before, now))
        raise ModelError(
            f"'{path}' is from a run with other settings ({told}): use the same settings, or "
            "another --out with --weights to start from what this run learned"
        )
    if initial is not None and not _is_of(initial, parent):
        raise ModelError(
            f"'{path}' did not start from the weights '{initial.name}': leave out --weights to "
            "resume, or use another --out"
        )


def step_in(path: Path) -> int:
    """The step that a state file holds.

    Raises:
        ModelError: unreadable, or not a state file.
    """
    with _resuming(path), safe_open(path, framework="pt") as file:
        return int((file.metadata() or {})["step"])


@contextmanager
def _resuming(path: Path) -> Iterator[None]:
    """Turn errors of reading a state file, or missing entries in it, into ModelError."""
    try:
        yield
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ModelError(f"cannot resume from '{path}': {error}") from None


def _differences(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Differences in a setting, in the words of the command line."""
    was: Any = before.get(key)
    given: Any = now[key]
    if key == "stages":
        told = (" + ".join(_in_words(stage) for stage in stages) for stages in (was, given))
        return ["schedule was {}, now {}".format(*told)]
    if key == "synthesis":
        parts = {name: (was.get(name), value) for name, value in given.items()}
        return [f"{name} was {a}, now {b}" for name, (a, b) in parts.items() if a != b]
    if key == "teacher":
        return [f"teacher was {was or 'none'}, now {given or 'none'}"]
    return [f"{key} was {was}, now {given}"]


def _in_words(stage: Mapping[str, int]) -> str:
    return "{steps} steps of {clips} clips, {frames} frames, crop {crop}".format(**stage)


def _is_of(initial: LoadedModel, parent: Mapping[str, Any] | None) -> bool:
    """Whether weights are those that a run started from, with or without scores."""
    if parent is None:
        return False
    return Provenance(**parent).unmeasured == initial.provenance.unmeasured


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def _plain_defaults() -> dict[str, Any]:
    """Defaults of the settings that have plain values."""
    return {
        field.name: field.default
        for field in dataclasses.fields(TrainConfig)
        if field.default is not dataclasses.MISSING
    }
