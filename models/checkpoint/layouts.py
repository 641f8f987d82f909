"""How transformers stores the parameters of an architecture, where a name alone does not say it."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

Tensors = dict[str, Tensor]


class Layout(NamedTuple):
    """The conversion between stored tensors and one tensor for each of our parameters.

    Both sides have the names of transformers, see `parameter_names`.

    Attributes:
        read: converts stored tensors, and drops those that a classifier does not use.
        write: converts back, so that transformers computes the same.
    """

    read: Callable[[Tensors], Tensors]
    write: Callable[[Tensors], Tensors]


SAME = Layout(read=lambda tensors: tensors, write=lambda tensors: tensors)


def read_vit_msn(tensors: Tensors) -> Tensors:
    """Give the encoder its full name: transformers 5 writes `encoder.` instead of `vit.encoder.`.

    Both names for one tensor are left as they are, so that one of them is unexpected.
    """
    return {
        name if f"vit.{name}" in tensors else re.sub(r"^encoder\.", "vit.encoder.", name): tensor
        for name, tensor in tensors.items()
    }


SIGLIP_UNREAD = re.compile(r"vision_model\.head\..+|text_model\..+|logit_(scale|bias)")
SIGLIP_PATCHES = "vision_model.embeddings.patch_embedding"
SIGLIP_POSITIONS = "vision_model.embeddings.position_embedding.weight"


def read_siglip(tensors: Tensors) -> Tensors:
    """Drop the attention pooling and the text model, which a classifier does not have.

    Positions (N, D) become (1, N, D). Patches without a bias get one of zeros, as in transformers.
    """
    kept = {n: tensor for n, tensor in tensors.items() if not SIGLIP_UNREAD.fullmatch(n)}
    if (positions := kept.get(SIGLIP_POSITIONS)) is not None:
        kept[SIGLIP_POSITIONS] = positions[None]
    if (weight := kept.get(f"{SIGLIP_PATCHES}.weight")) is not None:
        zero = weight.new_zeros(())  # repeated without memory for a width from a file
        kept.setdefault(f"{SIGLIP_PATCHES}.bias", zero.expand(weight.shape[:1]))
    return kept


def write_siglip(tensors: Tensors) -> Tensors:
    """Remove the leading axis of the positions: (1, N, D) becomes (N, D)."""
    return tensors | {SIGLIP_POSITIONS: tensors[SIGLIP_POSITIONS][0]}


LAYOUTS: Mapping[str, Layout] = {  # by architecture; others are the same
    "ViTMSNForImageClassification": Layout(read=read_vit_msn, write=SAME.write),
    "SiglipForImageClassification": Layout(read=read_siglip, write=write_siglip),
}
