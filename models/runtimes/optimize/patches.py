"""Patch embeddings and sequence reduction as matrix products, with BatchNorms folded in."""

from torch import Tensor, nn

from models.layers.attention import SequenceReduction
from models.layers.patch_embedding import (
    ConvolutionPatches,
    HybridPatches,
    LinearPatches,
    convolution_weight,
)
from models.runtimes.optimize.dense import Dense, frozen
from models.runtimes.optimize.rewriting import rewrite, shallow_copy
from models.vit_segmenter import ViTSegmenter


class MatrixPatches(nn.Module):
    """A patch embedding as one product with a matrix: (B, C, H, W) -> (B, rows, columns, D).

    Channels-last pixels are copied once.

    Args:
        weight: the weight of the patch convolution, (D, C, P, P).
        bias: (D,), optional.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.patch_size = weight.shape[2]
        self.projection = Dense(weight.permute(0, 2, 3, 1).flatten(1), bias)  # (D, P P C)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = space_to_depth(pixels.permute(0, 2, 3, 1), self.patch_size)
        return self.projection(patches)  # (B, rows, columns, D)


class MatrixReduction(nn.Module):
    """`models.layers.attention.SequenceReduction` as a product with a matrix."""

    def __init__(self, plain: SequenceReduction) -> None:
        super().__init__()
        convolution = plain.convolution
        self.ratio = convolution.stride[0]
        weight = convolution.weight.permute(0, 2, 3, 1).flatten(1)  # (D, r r D)
        self.projection = Dense(weight, convolution.bias)
        self.norm = plain.norm

    def forward(self, x: Tensor) -> Tensor:
        x = self.projection(space_to_depth(x, self.ratio))  # (B, H / r, W / r, D)
        return self.norm(x)


def space_to_depth(x: Tensor, side: int) -> Tensor:
    """Join the tokens of each side x side cell: (B, H, W, C) -> (B, H / s, W / s, s s C).

    Channels are innermost. Rows and columns that do not fill a cell at the right and lower edge are
    cut off.
    """
    rows, columns = x.shape[1] // side, x.shape[2] // side
    x = x[:, : rows * side, : columns * side]
    x = x.unflatten(2, (columns, side)).unflatten(1, (rows, side))  # (B, rows, s, columns, s, C)
    return x.transpose(2, 3).flatten(3)  # (B, rows, columns, s s C)


def matrix_patches(module: nn.Module) -> nn.Module | None:
    """Return the matrix form of a patch embedding that is one linear map; None for the others."""
    if isinstance(module, ConvolutionPatches):
        return MatrixPatches(module.projection.weight, module.projection.bias)
    if isinstance(module, LinearPatches):
        weight = convolution_weight(module.projection.weight, module.patch_size, module.order)
        return MatrixPatches(weight, module.projection.bias)
    return None


def patches_by_matrix(network: nn.Module) -> nn.Module:
    """Compute a ViT's patch embedding by a product with a matrix."""
    return rewrite(network, matrix_patches)


def reduce_by_matrix(network: nn.Module) -> nn.Module:
    """Compute the strided convolutions of SegFormer's sequence reduction by matrix products."""

    def rule(module: nn.Module) -> nn.Module | None:
        return MatrixReduction(module) if isinstance(module, SequenceReduction) else None

    return rewrite(network, rule)


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Fold the BatchNorms of a hybrid's stem and of a segmenting ViT's input into their layers."""

    def rule(module: nn.Module) -> nn.Module | None:
        if isinstance(module, ViTSegmenter) and isinstance(module.norm, nn.BatchNorm2d):
            return without_input_norm(module)
        if isinstance(module, HybridPatches):
            twin = shallow_copy(module)
            twin._modules["stem"] = folded_stem(module.stem)
            return twin
        return None

    return rewrite(network, rule)


def without_input_norm(network: ViTSegmenter) -> nn.Module:
    """Fold the BatchNorm of a segmenting ViT's input into its patch embedding."""
    twin = shallow_copy(network)
    scale, shift = batch_norm_affine(network.norm)
    patches = matrix_patches(network.patch_embedding) or network.patch_embedding
    assert isinstance(patches, MatrixPatches)  # noqa: S101  # its patch embedding is linear
    twin._modules["norm"] = nn.Identity()
    twin._modules["patch_embedding"] = fold_input_affine(patches, scale, shift)
    return twin


def folded_stem(stem: nn.Sequential) -> nn.Sequential:
    """Fold each BatchNorm of a hybrid's stem into the convolution before it."""
    layers: list[nn.Module] = []
    for layer in stem:
        if not isinstance(layer, nn.BatchNorm2d):
            layers.append(layer)
            continue
        scale, shift = batch_norm_affine(layer)
        convolution = shallow_copy(layers.pop())
        weight = convolution.get_parameter("weight").double() * scale.view(-1, 1, 1, 1)
        convolution.weight = frozen(weight.to(layer.weight.dtype))
        convolution.bias = frozen(shift.to(layer.weight.dtype))
        layers.append(convolution)
    return nn.Sequential(*layers)


def batch_norm_affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return the float64 scale and shift (C,) that a BatchNorm applies in eval mode."""
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale = norm.weight.detach().double() / (variance.double() + norm.eps).sqrt()
    return scale, norm.bias.detach().double() - scale * mean.double()


def fold_input_affine(patches: MatrixPatches, scale: Tensor, shift: Tensor) -> MatrixPatches:
    """Fold `pixels * scale + shift`, both (C,), into a patch embedding's weight and bias."""
    layer, P = patches.projection, patches.patch_size
    weight = layer.weight.double().unflatten(1, (P, P, -1))  # (D, P, P, C)
    bias = (weight * shift).sum(dim=(1, 2, 3))  # (D,)
    bias = bias + (0.0 if layer.bias is None else layer.bias.double())
    weight = (weight * scale).permute(0, 3, 1, 2)  # (D, C, P, P)
    return MatrixPatches(weight.to(layer.weight.dtype), bias.to(layer.weight.dtype))
