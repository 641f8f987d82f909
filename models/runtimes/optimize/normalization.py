"""Folds the normalization of an image into the first layer.

(x f - mean) / std = (x - mean / f) (f / std): the factor f / std is folded into the weights. uint8
must become float anyway; that step subtracts the mean. Therefore padding with 0 pads with the mean,
as in the plain network, and half precision loses no digits.
"""

import torch
from torch import Tensor, nn

from models.layers.patch_embedding import HybridPatches
from models.preprocessing import Color, Preprocessing
from models.runtimes.optimize.dense import frozen
from models.runtimes.optimize.form import Form, form_of
from models.runtimes.optimize.patches import (
    MatrixPatches,
    fold_batch_norms,
    fold_input_affine,
    patches_by_matrix,
)
from models.runtimes.optimize.rewriting import shallow_copy, with_submodule
from models.segformer import Segformer, SegformerClassifier


def fold_normalization(network: nn.Module, preprocessing: Preprocessing) -> Form:
    """Return a form that takes uint8 (B, H, W, C) instead of normalized pixels."""
    form = form_of(network)
    mean, scale = mean_and_scale(preprocessing, channels_of(form.network))
    inner = patches_by_matrix(fold_batch_norms(form.network))
    folded = with_scaled_input(inner, torch.tensor(scale, dtype=torch.float64))
    if folded is None:  # a LayerNorm of the patch's pixels comes first; it would undo the factor
        return form.changed(inner, mean=mean, scale=scale)
    return form.changed(folded, mean=mean)


def channels_of(network: nn.Module) -> int:
    """Return the number of channels of a network's input."""
    return int(network.config.num_channels)  # type: ignore[union-attr,arg-type]  # of its sizes


def mean_and_scale(preprocessing: Preprocessing, channels: int) -> tuple[Color, Color]:
    """Return what to subtract from uint8 pixels, and the factor for the difference."""
    factor = 1.0 if preprocessing.rescale_factor is None else preprocessing.rescale_factor
    if preprocessing.mean is None or preprocessing.std is None:
        return (0.0,) * channels, (factor,) * channels
    mean = tuple(mean / factor for mean in preprocessing.mean)
    return mean, tuple(factor / std for std in preprocessing.std)


def with_scaled_input(network: nn.Module, scale: Tensor) -> nn.Module | None:
    """Fold a scale (C,) of the pixels into the first layer; None if that layer is a norm."""
    path = "patch_embedding"
    if isinstance(network, Segformer | SegformerClassifier):
        path = "encoder.stages.0.patch_embedding.projection"
    elif isinstance(network.get_submodule(path), HybridPatches):
        path = "patch_embedding.stem.0"
    first = network.get_submodule(path)
    if isinstance(first, MatrixPatches):
        no_shift = torch.zeros_like(scale)
        return with_submodule(network, path, fold_input_affine(first, scale, no_shift))
    if isinstance(first, nn.Conv2d):
        return with_submodule(network, path, scaled_convolution(first, scale))
    return None


def scaled_convolution(layer: nn.Conv2d, scale: Tensor) -> nn.Module:
    """Fold a scale (C,) of the input channels into a convolution's weight."""
    twin = shallow_copy(layer)
    weight = layer.weight.detach().double() * scale.view(1, -1, 1, 1)
    twin._parameters["weight"] = frozen(weight.to(layer.weight.dtype))
    return twin
