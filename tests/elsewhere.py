"""A simulated GPU: tensors that report its device, but are computed on the CPU.

As on a real one, an operation on tensors of two devices is an error, and numpy cannot read them.
Calls that name the device work only inside `pretending`, which applies to one thread and turns
gradients off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

_CPU = torch.device("cpu")
# Functions by name: those that return CPU values, and those that return tensors of the device.
_VALUES = ("item", "tolist", "cpu", "__float__", "__bool__", "__int__", "__index__")
_PARTS = ("__getitem__", "contiguous", "new_tensor", "new_full", "new_zeros")


class Elsewhere(Tensor):
    """A tensor that reports another device.

    Attributes:
        held: its values, on the CPU.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, real: Tensor, device: torch.device) -> Elsewhere:
        made: Elsewhere = Tensor._make_wrapper_subclass(
            cls, real.shape, strides=real.stride(), storage_offset=real.storage_offset(),
            dtype=real.dtype, device=device,
        )  # fmt: skip
        made.held = real
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        there = [x for x in given if isinstance(x, Elsewhere)]
        if any(x.dim() for x in given if not isinstance(x, Elsewhere)):
            raise RuntimeError(f"{func}: tensors on two devices")
        device = there[0].device
        out = func(*_real(args), **_on_cpu(_real(kwargs or {}), device.type))
        known = {id(x.held): x for x in there}  # in-place operations return the same tensor
        return tree_map_only(Tensor, lambda x: known.get(id(x), Elsewhere(x, device)), out)


class _Pretence(TorchFunctionMode):
    """Intercepts the calls for which torch would need the device's driver."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if func is torch.device:
            return func(*args, **kwargs)
        leaves = tree_leaves((args, kwargs))
        there = any(isinstance(x, Elsewhere) for x in leaves)
        if there and name == "numpy":
            raise TypeError("a tensor on a GPU cannot become an array")
        sent = any(_means(x, self._device.type) for x in leaves)
        if not sent and not (there and name in (*_VALUES, *_PARTS, "copy_")):
            return func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            out = func(*_on_cpu(_real(args), self._device.type),
                       **_on_cpu(_real(kwargs), self._device.type))  # fmt: skip
        if name in _VALUES:
            return out
        if name == "copy_":
            return args[0]
        return tree_map_only(Tensor, lambda x: Elsewhere(x, self._device), out)


def _real(values):
    return tree_map_only(Elsewhere, lambda x: x.held, values)


def _on_cpu(values, kind: str):
    return tree_map(lambda x: _CPU if _means(x, kind) else x, values)


def _means(x: object, kind: str) -> bool:
    return (isinstance(x, torch.device) and x.type == kind) or (
        isinstance(x, str) and x.split(":")[0] == kind
    )


@contextmanager
def pretending(device: torch.device) -> Iterator[None]:
    """Simulate the device inside the `with` block."""
    with _Pretence(device), torch.no_grad():
        yield


def sent(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network's weights to the device, in place."""
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = Elsewhere(parameter.detach(), device)
    return network
