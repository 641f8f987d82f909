"""The published sizes of the networks, by the names that everyone calls them.

Knows nothing of weights or checkpoints.
"""

from typing import Any

from models.mit import SegformerConfig
from models.vit import ViTConfig

VIT_SIZES = {  # hidden_size, num_layers, num_heads; arXiv:2010.11929, table 1, and 2012.12877
    "Ti": (192, 12, 3),
    "S": (384, 12, 6),
    "B": (768, 12, 12),
    "L": (1024, 24, 16),
    "H": (1280, 32, 16),
}
SEGFORMER_SIZES = {  # hidden_sizes, depths, decoder_hidden_size; arXiv:2105.15203, table 6
    "B0": ((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "B1": ((64, 128, 320, 512), (2, 2, 2, 2), 256),
    "B2": ((64, 128, 320, 512), (3, 4, 6, 3), 768),
    "B3": ((64, 128, 320, 512), (3, 4, 18, 3), 768),
    "B4": ((64, 128, 320, 512), (3, 8, 27, 3), 768),
    "B5": ((64, 128, 320, 512), (3, 6, 40, 3), 768),
}


def vit_config(name: str, **changes: Any) -> ViTConfig:
    """The ViT of a size and patch size, as in "Ti/16", "B/32" or "H/14"; `changes` are its fields.

    ValueError for an unknown name.
    """
    size, _, patch = name.partition("/")
    if size not in VIT_SIZES or not patch.isdecimal() or not int(patch):
        raise ValueError(
            f"no ViT is called {name!r}; e.g. {', '.join(f'{s}/16' for s in VIT_SIZES)}"
        )
    D, layers, heads = VIT_SIZES[size]
    sizes = {"hidden_size": D, "num_layers": layers, "num_heads": heads, "mlp_size": 4 * D}
    return ViTConfig(**{**sizes, "patch_size": int(patch), **changes})


def segformer_config(name: str, **changes: Any) -> SegformerConfig:
    """The SegFormer, or MiT, of a size B0 to B5; `changes` are its fields.

    ValueError for an unknown name.
    """
    if name not in SEGFORMER_SIZES:
        raise ValueError(f"no SegFormer is called {name!r}; there are {', '.join(SEGFORMER_SIZES)}")
    hidden_sizes, depths, decoder = SEGFORMER_SIZES[name]
    sizes = {"hidden_sizes": hidden_sizes, "depths": depths, "decoder_hidden_size": decoder}
    return SegformerConfig(**{**sizes, **changes})
