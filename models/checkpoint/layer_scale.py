"""Layer scale (arXiv:2103.17239): each branch of a block ends with a product with a learned vector.

The vector is folded into the last linear layer of the branch, so that a network needs no parameter
for it: lambda * (x W^T + b) = x (lambda W)^T + lambda b.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from models.errors import CheckpointError

Branch = tuple[str, str]  # pattern of the last layer's name, and the vector's name from its groups


def fold_layer_scale(
    tensors: Mapping[str, Tensor], branches: Iterable[Branch]
) -> dict[str, Tensor]:
    """Return the tensors with each vector folded into the last layer of its branch.

    The folded weights are float32; the product is computed in float64.

    Args:
        tensors: by name, with a vector for each layer of a branch.
        branches: the kinds of branches.

    Raises:
        CheckpointError: a vector is missing, or does not fit its layer.
    """
    folded = dict(tensors)
    for name in tensors:
        for layer, vector in branches:
            if match := re.fullmatch(rf"{layer}\.weight", name):
                bias, scale = f"{name.removesuffix('weight')}bias", match.expand(vector)
                if scale not in folded:
                    raise CheckpointError(f"{name} has no layer scale {scale}")
                for each in {name, bias} & folded.keys():
                    folded[each] = scaled(each, folded[each], scale, tensors[scale])
                del folded[scale]
    return folded


def scaled(name: str, tensor: Tensor, scale_name: str, scale: Tensor) -> Tensor:
    """Multiply the rows of a stored tensor by a vector. CheckpointError if they do not fit."""
    if scale.ndim != 1 or tensor.shape[:1] != scale.shape:
        raise CheckpointError(
            f"{scale_name} is {list(scale.shape)}, which does not fit {name}, {list(tensor.shape)}"
        )
    check_stored(name, tensor)
    check_stored(scale_name, scale)
    product = scale.double().view(-1, *[1] * (tensor.ndim - 1)) * tensor.double()
    return product.to(torch.float32)


def check_stored(name: str, tensor: Tensor) -> None:
    """Raise CheckpointError for a tensor whose copy would be another one or much larger."""
    if not tensor.is_floating_point():
        raise CheckpointError(f"{name} is {tensor.dtype}: quantized weights are not supported")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(
            f"{name} is {list(tensor.shape)}, but its file has only "
            f"{tensor.untyped_storage().nbytes()} bytes for it"
        )
