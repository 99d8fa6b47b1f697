"""Optimisers: Adam for everything, or Muon for the hidden convolutions and Adam for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from unsmear.train.config import TrainConfig

# Quintic iteration of Jordan et al. 2024: moves singular values into 0.7..1.2 in five steps.
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 5
# Root mean square of an update, in units of the learning rate. Measured on `plain` at 1e-3: 0.6
# gains most in the first 200 steps, 1.6 diverges.
_STEP_SIZE = 0.6
# The head starts at zero, and all other gradients pass through it: while it is small, they are far
# below Adam's usual epsilon, which would freeze the weights.
_EPSILON = 1e-12
_OUTER = {"stem", "head", "trail_head", "kernel_head"}


def orthogonalize(matrices: Tensor) -> Tensor:
    """Roughly the nearest matrices with orthonormal rows or columns: U V' of U S V'.

    Args:
        matrices: (..., R, S), float32.

    Returns:
        (..., R, S), singular values about 1 (0.7 to 1.2); zero for a zero matrix.
    """
    a, b, c = _NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + _EPSILON)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(Optimizer):
    """Orthogonalised momentum (Jordan et al. 2024, "Muon: an optimizer for hidden layers").

    torch.optim.Muon accepts only matrices and needs torch 2.9; this one treats convolutions as
    matrices (outputs, inputs * kernel). Updates are scaled so that one learning rate serves both
    optimisers, as in Liu et al. (2025, arXiv 2502.16982); their 0.2 is 0.6 here.

    Args:
        parameters: weights of two or more dimensions.
        lr: learning rate.
        momentum: of the running mean of the gradient, applied as Nesterov momentum.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 1e-3, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step. A closure is called first, and its loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            # Parameters of one shape are batched: a GPU executes each matrix product faster than
            # the host launches it.
            alike: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault(parameter.shape, []).append(parameter)
            for parameters in alike.values():
                self._update(parameters, group["lr"], group["momentum"])
        return loss

    def _update(self, parameters: list[Tensor], lr: float | Tensor, momentum: float) -> None:
        gradients, buffers = [], []
        for parameter in parameters:
            state: dict[str, Any] = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            assert parameter.grad is not None
            gradients.append(parameter.grad)
            buffers.append(state["momentum_buffer"])
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        ahead = torch.stack(torch._foreach_lerp(gradients, buffers, momentum)).flatten(2)
        # An orthogonal (R, S) matrix has a root mean square of 1 / sqrt(max(R, S)).
        size = _STEP_SIZE * max(ahead.shape[1:]) ** 0.5
        steps = (orthogonalize(ahead) * (-lr * size)).unflatten(2, parameters[0].shape[1:])
        torch._foreach_add_(parameters, list(steps.unbind()))


def build_optimizers(
    network: nn.Module, config: TrainConfig, *, recorded: bool = False
) -> tuple[Optimizer, ...]:
    """The configured optimisers; each parameter of the network belongs to exactly one of them.

    Args:
        network: on its device.
        config: which optimisers, and how.
        recorded: whether steps will be recorded as CUDA graphs; then step counts are kept on the
            device.
    """
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        orthogonal = config.optimizer == "muon" and _is_hidden(name, parameter)
        (hidden if orthogonal else rest).append(parameter)
    optimizers: list[Optimizer] = [Muon(hidden, lr=config.learning_rate)] if hidden else []
    if rest:
        optimizers.append(Adam(rest, lr=config.learning_rate, eps=_EPSILON, capturable=recorded))
    return tuple(optimizers)


def _is_hidden(name: str, parameter: Tensor) -> bool:
    """Convolutions between features. Not the first and the last one, biases and temporal logits,
    for which an orthogonal update has no meaning. Nor the estimation of trails, where Muon learns
    directions slowly.
    """
    return parameter.dim() >= 4 and not _OUTER & set(name.split("."))
