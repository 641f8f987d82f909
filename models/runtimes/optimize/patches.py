"""ViT's patch embeddings as matrix products, with the BatchNorms beside them folded in.

Knows nothing of what follows the patches.
"""

from torch import Tensor, nn

from models.layers.attention import SequenceReduction
from models.layers.patch_embedding import (
    ConvolutionPatches,
    HybridPatches,
    LinearPatches,
    convolution_weight,
)
from models.runtimes.optimize.dense import Dense, frozen
from models.runtimes.optimize.rewriting import copied, rewrite
from models.vit_segmenter import ViTSegmenter


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


class MatrixPatches(nn.Module):
    """The pixels of a patch, channels innermost, through one matrix: (B, 3, H, W) -> a grid.

    `weight` is that of a convolution, (D, 3, P, P). Pixels in channels-last layout are copied once.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.patch_size = weight.shape[2]
        self.projection = Dense(weight.permute(0, 2, 3, 1).flatten(1), bias)  # (D, P P 3)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.projection(cells(pixels.permute(0, 2, 3, 1), self.patch_size))  # (B, r, c, D)


def matrix_patches(module: nn.Module) -> nn.Module | None:
    """The matrix form of a patch embedding that is one linear map; None for the others."""
    if isinstance(module, ConvolutionPatches):
        return MatrixPatches(module.projection.weight, module.projection.bias)
    if isinstance(module, LinearPatches):
        weight = convolution_weight(module.projection.weight, module.patch_size)
        return MatrixPatches(weight, module.projection.bias)
    return None


def patches_by_matrix(network: nn.Module) -> nn.Module:
    """The patch convolution of a ViT as a product with a matrix."""
    return rewrite(network, matrix_patches)


def affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The scale and shift (C,) in float64 that a BatchNorm is in eval mode."""
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale = norm.weight.detach().double() / (variance.double() + norm.eps).sqrt()
    return scale, norm.bias.detach().double() - scale * mean.double()


def folded_stem(stem: nn.Sequential) -> nn.Sequential:
    """The stem of a hybrid, each BatchNorm folded into the convolution before it."""
    layers: list[nn.Module] = []
    for layer in stem:
        if not isinstance(layer, nn.BatchNorm2d):
            layers.append(layer)
            continue
        scale, shift = affine(layer)
        convolution = copied(layers.pop())
        weight = convolution.get_parameter("weight").double() * scale.view(-1, 1, 1, 1)
        convolution.weight = frozen(weight.to(layer.weight.dtype))
        convolution.bias = frozen(shift.to(layer.weight.dtype))
        layers.append(convolution)
    return nn.Sequential(*layers)


def folded_input_norm(network: ViTSegmenter) -> nn.Module:
    """A segmenter whose BatchNorm of the input stands in the weights of its patches."""
    twin = copied(network)
    scale, shift = affine(network.norm)
    patches = matrix_patches(network.patch_embedding) or network.patch_embedding
    assert isinstance(patches, MatrixPatches)  # noqa: S101  # of one linear map by construction
    twin._modules["norm"] = nn.Identity()
    twin._modules["patch_embedding"] = rescaled(patches, scale, shift)
    return twin


def rescaled(patches: MatrixPatches, scale: Tensor, shift: Tensor) -> MatrixPatches:
    """The patches of `pixels * scale + shift`, for scale and shift (3,), from the pixels."""
    layer, P = patches.projection, patches.patch_size
    weight = layer.weight.double().unflatten(1, (P, P, 3))  # (D, P, P, 3)
    bias = (weight * shift).sum(dim=(1, 2, 3))  # (D,)
    bias = bias + (0.0 if layer.bias is None else layer.bias.double())
    weight = (weight * scale).permute(0, 3, 1, 2)  # (D, 3, P, P)
    return MatrixPatches(weight.to(layer.weight.dtype), bias.to(layer.weight.dtype))


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """The BatchNorms of a ViT's stem and of a segmenter's input into the layers beside them."""

    def rule(module: nn.Module) -> nn.Module | None:
        if isinstance(module, ViTSegmenter) and isinstance(module.norm, nn.BatchNorm2d):
            return folded_input_norm(module)
        if isinstance(module, HybridPatches):
            twin = copied(module)
            twin._modules["stem"] = folded_stem(module.stem)
            return twin
        return None

    return rewrite(network, rule)
