"""The last layer of a network in float32.

In bfloat16 a logit has 8 significant bits: among the best labels of a photograph, equal logits are
then common, and their order is arbitrary.
"""

import torch
from torch import Tensor, nn

from models.runtimes.optimize.rewriting import copy_to, with_submodule

HEADS = ("head", "distillation_head", "decoder.head")  # paths in the networks that have them


class Float32Head(nn.Module):
    """A head that computes in float32, whatever the dtype of its input is."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.float())


def heads_in_float32(placed: nn.Module, plain: nn.Module, device: torch.device) -> nn.Module:
    """Give a network that was placed in another dtype the heads of the plain network in float32."""
    heads = dict(plain.named_modules())
    for path in HEADS:
        if path in heads:
            exact = Float32Head(copy_to(heads[path], device, torch.float32))
            placed = with_submodule(placed, path, exact)
    return placed
