"""The whole state of a run, in one safetensors file: exact resume, nothing to unpickle."""

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
from unsmear.engines.trial import laid_out
from unsmear.errors import ModelError
from unsmear.models.checkpoint import Provenance, save_tensors
from unsmear.models.config import NetworkConfig
from unsmear.models.growth import take_over
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import LoadedModel
from unsmear.train.config import TrainConfig
from unsmear.train.optimizers import build_optimizers


@dataclass
class TrainState:
    """What changes from step to step.

    Attributes:
        network: being trained.
        average: moving average of its weights.
        optimizers: see `unsmear.train.optimizers`.
        step: optimiser steps taken.
        seconds: spent so far, over all sittings.
        parent: provenance of the weights that the run started from, if it did.
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
        """Fresh weights from the config's seed; `recorded` where steps will be, as CUDA graphs."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = DeblurNetwork(network_config)
        network = laid_out(network, device)
        average = copy.deepcopy(network).requires_grad_(False).eval()
        optimizers = build_optimizers(network, config, recorded=recorded)
        return cls(network, average, optimizers)

    def take_weights(self, initial: LoadedModel) -> None:
        """Start from trained weights; those of a smaller network are a start too, see
        `unsmear.models.growth`. Of any other take a part first: `unsmear.train.pruning`.

        Raises:
            ModelError: they are of another network.
        """
        if not self.network.config.goes_on_from(initial.network.config):
            raise ModelError(
                f"the weights '{initial.name}' belong to another network than the one to train"
            )
        for module in (self.network, self.average):
            take_over(module, initial.network)
        self.parent = dataclasses.asdict(initial.provenance)

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Move the average towards the weights; faster at the start, when both are young."""
        share = 1 - min(decay, (1 + self.step) / (10 + self.step))
        means: list[Tensor] = list(self.average.parameters())
        values: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(means, values, share)

    def save(self, path: Path, config: TrainConfig) -> None:
        """Write a file, which appears when it is whole.

        Raises:
            OutputError: the disk or its rights say no.
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
        # Tensors may be views of one storage or channels_last: safetensors wants plain ones.
        plain = {
            key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()
        }
        save_tensors(path, plain, metadata)

    def load(self, path: Path, config: TrainConfig, initial: LoadedModel | None = None) -> None:
        """Go on from a saved state.

        Args:
            path: of the state.
            config: of the run.
            initial: weights that it is said to have started from.

        Raises:
            ModelError: unreadable, of another network, or of a run with other settings or other
                initial weights.
        """
        check_resumable(path, config, initial)
        with _resuming(path), safe_open(path, framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            step, seconds = int(metadata["step"]), float(metadata["seconds"])
            parent = _parent_in(metadata, initial)
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
            # Adam counts its steps on the CPU, if no graph must; moments lie as their parameter.
            if value.dim():
                value = torch.empty_like(parameter).copy_(value)
            elif owner.defaults.get("capturable"):
                value = value.to(parameter.device)
            owner.state[parameter][moment] = value


def check_resumable(path: Path, config: TrainConfig, initial: LoadedModel | None = None) -> None:
    """Whether a state is of a run with the same settings. Its tensors are not read.

    Settings that only say how often to report, or how to compute the same, may differ; all others
    decide the result. One that is younger than the file had its default.

    Args:
        path: of the state.
        config: of the run.
        initial: weights that it is said to have started from; None: whichever it did.

    Raises:
        ModelError: unreadable, or of a run with other settings or other initial weights.
    """
    with _resuming(path), safe_open(path, framework="pt") as file:
        metadata: Mapping[str, str] = file.metadata() or {}
        saved = json.loads(metadata["config"])
        parent = _parent_in(metadata, initial)
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
        ModelError: unreadable, or no state file.
    """
    with _resuming(path), safe_open(path, framework="pt") as file:
        return int((file.metadata() or {})["step"])


@contextmanager
def _resuming(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a state file is read, or lacks in it, into ModelError."""
    try:
        yield
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ModelError(f"cannot resume from '{path}': {error}") from None


def _differences(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs in a setting, in words of the command line."""
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
    """Whether weights are those that a run started from, whenever they were measured."""
    if parent is None:
        return False
    return Provenance(**parent).unmeasured == initial.provenance.unmeasured


def _parent_in(metadata: Mapping[str, str], initial: LoadedModel | None) -> dict[str, Any] | None:
    """What a run started from; states from before this was kept are taken at the user's word."""
    if "parent" not in metadata:
        return dataclasses.asdict(initial.provenance) if initial else None
    parent: dict[str, Any] | None = json.loads(metadata["parent"])
    return parent


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def _plain_defaults() -> dict[str, Any]:
    """Defaults of those settings whose values are plain."""
    return {
        field.name: field.default
        for field in dataclasses.fields(TrainConfig)
        if field.default is not dataclasses.MISSING
    }
