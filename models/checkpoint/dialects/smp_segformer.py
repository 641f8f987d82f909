"""SegFormer of segmentation-models-pytorch with a MiT encoder: folders, and files of weights.

The library upsamples the logits to the input's size itself, with align_corners=True. Its inputs
are multiples of 32 pixels.

Sources: segmentation-models-pytorch 0.6, decoders/segformer/, base/heads.py, base/hub_mixin.py.
"""

from reprlib import repr as shown  # of limited length and depth
from typing import Any

from models.checkpoint.dialects.dialect import Dialect, Rename, refuse_arch, shape_of
from models.checkpoint.dialects.mit import STAGES, encoder_document, encoder_names, preprocessing
from models.checkpoint.preprocessor_config import SEGFORMER
from models.checkpoint.stored import Stored
from models.errors import CheckpointError

NAMES = (
    *encoder_names("encoder."),
    *(Rename(f"decoder.mlp_stage.{3 - s}.linear", f"decoder.projections.{s}") for s in STAGES),
    Rename("decoder.fuse_stage.0", "decoder.fuse"),
    Rename("decoder.fuse_stage.1.num_batches_tracked", ()),
    Rename("decoder.fuse_stage.1", "decoder.norm"),
    Rename("segmentation_head.0", "decoder.head"),
)
FAMILY = "SegFormer of segmentation-models-pytorch"
MARKS = (
    "encoder.patch_embed1.proj.weight",
    "decoder.mlp_stage.0.linear.weight",
    "segmentation_head.0.weight",
)
# by the name in config.json; the largest logit is the largest output with each of the activations
ACTIVATIONS = ("identity", "sigmoid", "softmax", "softmax2d", "logsoftmax", "tanh")
SETTINGS: dict[str, tuple[Any, ...]] = {  # the supported values; the first one is the default
    "_model_class": ("Segformer",),
    "encoder_depth": (5,),
    "upsampling": (4,),
    "activation": (None, *ACTIVATIONS),
    "aux_params": (None,),
}


def recognizes(stored: Stored) -> bool:
    """Whether this is a folder of the library, or a file with the names of its SegFormer."""
    if stored.is_file:
        return all(name in stored.tensors for name in MARKS)
    return "_model_class" in stored.document


def document(stored: Stored, arch: str) -> dict[str, Any]:
    """Return the sizes in the terms of transformers; they follow from the shapes of the tensors."""
    refuse_arch(arch, FAMILY)
    for name, supported in SETTINGS.items():
        if (value := stored.document.get(name, supported[0])) not in supported:
            raise CheckpointError(
                f"config.json: {name} is {shown(value)}; of segmentation-models-pytorch, the "
                f"supported values are {', '.join(map(shown, supported))}"
            )
    tensors = stored.tensors
    if absent := [mark for mark in MARKS if mark not in tensors]:
        raise CheckpointError(
            f"the encoder {shown(stored.document.get('encoder_name'))} of segmentation-models-"
            f"pytorch is not supported: supported are mit_b0 to mit_b5, which have "
            f"{', '.join(absent)}"
        )
    return encoder_document(tensors, "encoder.") | {
        "decoder_hidden_size": shape_of(tensors, "decoder.fuse_stage.0.weight", 4)[0],
        "num_labels": shape_of(tensors, "segmentation_head.0.weight", 4)[0],
        "aligned_upsampling": True,
    }


SMP_SEGFORMER = Dialect(FAMILY, SEGFORMER, recognizes, document, preprocessing, NAMES)
