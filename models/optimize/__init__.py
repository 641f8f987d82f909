"""From a plain network to its inference form: the same outputs, sooner.

Knows nothing of checkpoints, nor of who runs the form.
"""

from torch import nn

from models.optimize.attention import fuse_qkv
from models.optimize.blocks import drop_unread_tokens, fuse_residuals
from models.optimize.decoder import fold_decode_head
from models.optimize.patches import fold_batch_norms, patches_by_matrix
from models.optimize.reduction import reduce_by_matrix
from models.optimize.rewriting import Transformation

FOLDINGS: tuple[Transformation, ...] = (
    fold_decode_head,
    fold_batch_norms,
    patches_by_matrix,
    reduce_by_matrix,
    drop_unread_tokens,
    fuse_qkv,
    fuse_residuals,
)


def fold(network: nn.Module) -> nn.Module:
    """The network with every folding applied, in torch's public operators and float32."""
    for folding in FOLDINGS:
        network = folding(network)
    return network
