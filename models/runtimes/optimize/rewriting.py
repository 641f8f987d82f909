"""Rewriting of networks: copies with replaced modules, or with tensors in another form.

A copy shares the tensors that do not change with the original, which is never modified.
"""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
Transformation = Callable[[nn.Module], nn.Module]
Rule = Callable[[nn.Module], nn.Module | None]  # a module's replacement; None: visit its children


def rewrite(module: nn.Module, rule: Rule) -> nn.Module:
    """Return a copy of the module in which the rule's replacements are applied at any depth."""
    replacement = rule(module)
    if replacement is not None:
        return replacement
    twin = shallow_copy(module)
    for name, child in module._modules.items():
        twin._modules[name] = None if child is None else rewrite(child, rule)
    return twin


def with_submodule(module: nn.Module, path: str, part: nn.Module) -> nn.Module:
    """Return a copy of the module with another part at a path such as "encoder.blocks.3"."""
    name, _, rest = path.partition(".")
    twin = shallow_copy(module)
    twin._modules[name] = with_submodule(module.get_submodule(name), rest, part) if rest else part
    return twin


def shallow_copy(module: Module, convert: Callable[[Tensor], Tensor] = Tensor.detach) -> Module:
    """Return a copy of one module with the same children; the module's own tensors are converted.

    Parameters of the copy do not require gradients.
    """
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    twin._buffers = {n: None if t is None else convert(t) for n, t in module._buffers.items()}
    twin._parameters = {
        name: None if tensor is None else nn.Parameter(convert(tensor), requires_grad=False)
        for name, tensor in module._parameters.items()
    }
    return twin


def copy_to(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Return a copy on a device with floating-point tensors of a dtype."""

    def convert(tensor: Tensor) -> Tensor:
        tensor = tensor.detach()
        return tensor.to(device, dtype if tensor.is_floating_point() else None)

    twin = shallow_copy(network, convert)
    for name, child in network._modules.items():
        twin._modules[name] = None if child is None else copy_to(child, device, dtype)
    return twin


def channels_last(network: nn.Module) -> nn.Module:
    """Give convolution weights the channels-last layout, so that no token grid is transposed."""

    def convert(tensor: Tensor) -> Tensor:
        layout = torch.channels_last if tensor.ndim == 4 else torch.preserve_format
        return tensor.detach().contiguous(memory_format=layout)

    def rule(module: nn.Module) -> nn.Module | None:
        return shallow_copy(module, convert) if isinstance(module, nn.Conv2d) else None

    return rewrite(network, rule)
