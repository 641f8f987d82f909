"""How a network is rewritten: a copy of the tree of modules in which some are replaced.

Knows nothing of what is replaced by what.
"""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
Transformation = Callable[[nn.Module], nn.Module]
Rule = Callable[[nn.Module], nn.Module | None]  # what to put in a module's place; None: look inside


def rewrite(module: nn.Module, rule: Rule) -> nn.Module:
    """A copy of the module in which every part that the rule answers for is what it answers.

    The given module stays as it is; the copy shares its tensors.
    """
    replacement = rule(module)
    if replacement is not None:
        return replacement
    twin = copied(module)
    for name, child in module._modules.items():
        twin._modules[name] = None if child is None else rewrite(child, rule)
    return twin


def replaced(module: nn.Module, path: str, part: nn.Module) -> nn.Module:
    """A copy of the module in which the part at a path, as "encoder.blocks.3", is another."""
    name, _, rest = path.partition(".")
    twin = copied(module)
    twin._modules[name] = replaced(module.get_submodule(name), rest, part) if rest else part
    return twin


def copied(module: Module, convert: Callable[[Tensor], Tensor] = Tensor.detach) -> Module:
    """A copy of one module, of the same parts, whose tensors are what `convert` makes of them."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    twin._buffers = {n: None if t is None else convert(t) for n, t in module._buffers.items()}
    twin._parameters = {
        name: None if tensor is None else nn.Parameter(convert(tensor), requires_grad=False)
        for name, tensor in module._parameters.items()
    }
    return twin


def placed(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A copy of the network on a device in a number format; what is there already is shared."""

    def convert(tensor: Tensor) -> Tensor:
        tensor = tensor.detach()
        return tensor.to(device, dtype if tensor.is_floating_point() else None)

    twin = copied(network, convert)
    for name, child in network._modules.items():
        twin._modules[name] = None if child is None else placed(child, device, dtype)
    return twin
