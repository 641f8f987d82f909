"""SegFormer of NVlabs: files of weights.

Source: NVlabs/SegFormer, mmseg/models/decode_heads/segformer_head.py.
"""

from typing import Any

from models.checkpoint.dialects.dialect import Dialect, Rename, refuse_arch, shape_of
from models.checkpoint.dialects.mit import STAGES, encoder_document, encoder_names, preprocessing
from models.checkpoint.preprocessor_config import SEGFORMER
from models.checkpoint.stored import Stored
from models.errors import CheckpointError

PREFIXES = ("backbone.", "")  # of the encoder's names
HEAD = "decode_head"
NAMES = (
    *(name for prefix in PREFIXES for name in encoder_names(prefix)),
    *(Rename(f"{HEAD}.linear_c{s + 1}.proj", f"decoder.projections.{s}") for s in STAGES),
    Rename(f"{HEAD}.linear_fuse.conv", "decoder.fuse"),
    Rename(f"{HEAD}.linear_fuse.bn.num_batches_tracked", ()),
    Rename(f"{HEAD}.linear_fuse.bn", "decoder.norm"),
    Rename(f"{HEAD}.linear_pred", "decoder.head"),
    Rename(f"{HEAD}.conv_seg", ()),  # of the base class, which SegFormer does not call
)
MARK = f"{HEAD}.linear_c1.proj.weight"
OPENMMLAB = (  # names of mmsegmentation from 0.20
    "backbone.layers.0.0.projection.weight",
    f"{HEAD}.convs.0.conv.weight",
)

FAMILY = "SegFormer of NVlabs"


def recognizes(stored: Stored) -> bool:
    """Whether this is a file with the names of NVlabs, or of the later mmsegmentation."""
    if not stored.is_file:
        return False
    return MARK in stored.tensors or all(name in stored.tensors for name in OPENMMLAB)


def document(stored: Stored, arch: str) -> dict[str, Any]:
    """Return the sizes in the terms of transformers; they follow from the shapes of the tensors."""
    refuse_arch(arch, FAMILY)
    tensors = stored.tensors
    if MARK not in tensors:
        raise CheckpointError(
            f"{stored.path.name} is a SegFormer of mmsegmentation 0.20 or later, whose decoder is "
            "another network; use a checkpoint of NVlabs, transformers or "
            "segmentation-models-pytorch"
        )
    prefix = next((p for p in PREFIXES if f"{p}patch_embed1.proj.weight" in tensors), PREFIXES[0])
    return encoder_document(tensors, prefix) | {
        "decoder_hidden_size": shape_of(tensors, f"{HEAD}.linear_fuse.conv.weight", 4)[0],
        "num_labels": shape_of(tensors, f"{HEAD}.linear_pred.weight", 4)[0],
    }


NVLABS_SEGFORMER = Dialect(FAMILY, SEGFORMER, recognizes, document, preprocessing, NAMES)
