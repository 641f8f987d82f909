"""SegFormer's sequence reduction as a matrix product.

Knows nothing of the attention that it serves.
"""

from torch import Tensor, nn

from models.layers.attention import SequenceReduction
from models.runtimes.optimize.dense import Dense
from models.runtimes.optimize.rewriting import rewrite


class MatrixReduction(nn.Module):
    """`models.layers.attention.SequenceReduction`: each cell of the grid is one row of a matrix."""

    def __init__(self, plain: SequenceReduction) -> None:
        super().__init__()
        convolution = plain.convolution
        self.ratio = convolution.stride[0]
        weight = convolution.weight.permute(0, 2, 3, 1).flatten(1)  # (D, r r D)
        self.projection = Dense(weight, convolution.bias)
        self.norm = plain.norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.projection(cells(x, self.ratio)))  # (B, H / r, W / r, D)


def cells(x: Tensor, side: int) -> Tensor:
    """(B, H, W, C) -> what stands in each side x side cell, (B, H / side, W / side, side side C).

    Channels are innermost; what does not fill a cell at the right and lower edge is left out.
    """
    rows, columns = x.shape[1] // side, x.shape[2] // side
    x = x[:, : rows * side, : columns * side]
    x = x.unflatten(2, (columns, side)).unflatten(1, (rows, side))  # (B, rows, s, columns, s, C)
    return x.transpose(2, 3).flatten(3)  # (B, rows, columns, s s C)


def reduce_by_matrix(network: nn.Module) -> nn.Module:
    """The strided convolution of the sequence reduction as a product with a matrix."""

    def rule(module: nn.Module) -> nn.Module | None:
        return MatrixReduction(module) if isinstance(module, SequenceReduction) else None

    return rewrite(network, rule)
