"""The two kinds of MLP of an encoder block, applied to each token: both keep the shape (..., D)."""

from torch import Tensor, nn
from torch.nn.functional import silu

from models.layers.heads import activation

KINDS = ("plain", "swiglu")


class MLP(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, width: int, mlp_size: int, hidden_act: str) -> None:
        super().__init__()
        self.expand = nn.Linear(width, mlp_size)
        self.activation = activation(hidden_act)
        self.contract = nn.Linear(mlp_size, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.expand(x))  # (..., mlp_size)
        return self.contract(x)  # (..., D)


class SwiGLU(nn.Module):
    """A gated MLP, (silu(x W) * (x V)) U: "GLU Variants Improve Transformer", arXiv:2002.05202.

    One layer computes the gate x W and the values x V; unlike in the article, layers have biases.
    """

    def __init__(self, width: int, mlp_size: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * mlp_size)
        self.down = nn.Linear(mlp_size, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(gated(self.gate_up(x)))  # (..., D)


def gated(x: Tensor) -> Tensor:
    """Multiply the second half of the channels by silu of the first: (..., 2 F) -> (..., F)."""
    gate, values = x.chunk(2, dim=-1)  # each (..., F)
    return silu(gate) * values
