"""The normalisation of an image, folded into the first layer.

Knows nothing of sizes or files. (x f - mean) / std = (x - mean / f) (f / std): the factor goes into
the weights. The mean is subtracted while bytes become floats, which they must anyway: so padding
with 0 pads with the mean, as in the plain network, and half precision keeps its digits.
"""

import torch
from torch import Tensor, nn

from models.layers.patch_embedding import HybridPatches
from models.preprocessing import Colour, Preprocessing
from models.runtimes.optimize.dense import frozen
from models.runtimes.optimize.form import Form, form_of
from models.runtimes.optimize.patches import (
    MatrixPatches,
    fold_batch_norms,
    patches_by_matrix,
    rescaled,
)
from models.runtimes.optimize.rewriting import copied, replaced
from models.segformer import Segformer, SegformerClassifier


def mean_and_scale(preprocessing: Preprocessing) -> tuple[Colour, Colour]:
    """What to subtract from bytes, and what to multiply the difference with."""
    factor = 1.0 if preprocessing.rescale_factor is None else preprocessing.rescale_factor
    if preprocessing.mean is None or preprocessing.std is None:
        return (0.0, 0.0, 0.0), (factor, factor, factor)
    mean_r, mean_g, mean_b = (mean / factor for mean in preprocessing.mean)
    r, g, b = (factor / std for std in preprocessing.std)
    return (mean_r, mean_g, mean_b), (r, g, b)


def scaled_convolution(layer: nn.Conv2d, scale: Tensor) -> nn.Module:
    """The convolution of pixels times the scale (3,), from the pixels."""
    twin = copied(layer)
    weight = layer.weight.detach().double() * scale.view(1, 3, 1, 1)
    twin._parameters["weight"] = frozen(weight.to(layer.weight.dtype))
    return twin


def scaled_entry(network: nn.Module, scale: Tensor) -> nn.Module | None:
    """The network of pixels times the scale, from the pixels; None when a norm comes first."""
    path = "patch_embedding"
    if isinstance(network, Segformer | SegformerClassifier):
        path = "encoder.stages.0.patch_embedding.projection"
    elif isinstance(network.get_submodule(path), HybridPatches):
        path = "patch_embedding.stem.0"
    first = network.get_submodule(path)
    if isinstance(first, MatrixPatches):
        return replaced(network, path, rescaled(first, scale, torch.zeros_like(scale)))
    if isinstance(first, nn.Conv2d):
        return replaced(network, path, scaled_convolution(first, scale))
    return None


def fold_normalization(network: nn.Module, preprocessing: Preprocessing) -> Form:
    """From then on the form takes bytes, uint8 (B, H, W, 3), in place of normalised pixels."""
    form = form_of(network)
    mean, scale = mean_and_scale(preprocessing)
    inner = patches_by_matrix(fold_batch_norms(form.network))
    folded = scaled_entry(inner, torch.tensor(scale, dtype=torch.float64))
    if folded is None:  # a LayerNorm of the patch's pixels comes first, and would undo the factor
        return form.changed(inner, mean=mean, scale=scale)
    return form.changed(folded, mean=mean)
