"""How transformers stores an architecture, where it differs by more than names."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from models.checkpoint import dinov2

Tensors = dict[str, Tensor]
Document = Mapping[str, Any]


class Layout(NamedTuple):
    """The conversion between stored tensors and one tensor for each of our parameters.

    Both sides have the names of transformers, see `parameter_names`.

    Attributes:
        read: converts stored tensors, and drops those that a classifier does not use.
        write: converts back, so that transformers computes the same.
        read_sizes: gives the contents of config.json with the fields that `registry` names.
        write_sizes: converts back.
    """

    read: Callable[[Tensors], Tensors]
    write: Callable[[Tensors], Tensors]
    read_sizes: Callable[[Document], Document] = lambda document: document
    write_sizes: Callable[[Document], Document] = lambda document: document


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


DINOV2 = Layout(
    read=dinov2.read_tensors,
    write=dinov2.write_tensors,
    read_sizes=partial(dinov2.read_sizes, defaults=dinov2.DEFAULTS),
    write_sizes=dinov2.write_sizes,
)
DINOV2_WITH_REGISTERS = DINOV2._replace(
    read_sizes=partial(dinov2.read_sizes, defaults=dinov2.DEFAULTS_WITH_REGISTERS)
)
LAYOUTS: Mapping[str, Layout] = {  # by architecture; others are the same
    "ViTMSNForImageClassification": Layout(read=read_vit_msn, write=SAME.write),
    "SiglipForImageClassification": Layout(read=read_siglip, write=write_siglip),
    "Dinov2ForImageClassification": DINOV2,
    "Dinov2WithRegistersForImageClassification": DINOV2_WITH_REGISTERS,
}
