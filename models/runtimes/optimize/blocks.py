"""Blocks whose linear layers know what follows them, and the last block of a class token.

Knows nothing of how the products are computed, see `Dense`. Dropout and drop path are gone.
"""

from torch import Tensor, nn

from models import segformer, vit
from models.layers.attention import AxialAttention
from models.runtimes.optimize.attention import FirstTokensAttention, FusedAttention, fuse_qkv
from models.runtimes.optimize.dense import Dense
from models.runtimes.optimize.rewriting import replaced, rewrite
from models.vit import ViT


class ResidualBlock(nn.Module):
    """x <- x + attention(norm(x)), x <- x + MLP(norm(x)): both sums are their last layers'."""

    def __init__(
        self, norm_1: nn.Module, attention: nn.Module, norm_2: nn.Module, mlp: nn.Module
    ) -> None:
        super().__init__()
        self.norm_1, self.attention, self.norm_2, self.mlp = norm_1, attention, norm_2, mlp

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.attention(self.norm_1(x), mask, x)
        return self.mlp(self.norm_2(x), x)


class ResidualMLP(nn.Module):
    """`models.vit.MLP` and the sum behind it."""

    def __init__(self, plain: vit.MLP) -> None:
        super().__init__()
        self.expand = Dense.of(plain.expand, plain.activation)
        self.contract = Dense.of(plain.contract)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.contract(self.expand(x), residual)  # (..., D)


class Depthwise(nn.Module):
    """A depthwise 3 x 3 convolution and its activation on a grid: (B, H, W, C) -> (B, H, W, C)."""

    def __init__(self, convolution: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.convolution, self.activation = convolution, activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.convolution(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)


class ResidualMixFFN(nn.Module):
    """`models.segformer.MixFFN` and the sum behind it."""

    def __init__(self, plain: segformer.MixFFN) -> None:
        super().__init__()
        self.expand = Dense.of(plain.expand)
        self.depthwise = Depthwise(plain.depthwise, plain.activation)
        self.contract = Dense.of(plain.contract)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.contract(self.depthwise(self.expand(x)), residual)  # (B, H, W, C)


class AxialPair(nn.Module):
    """`models.layers.attention.AxialAttention` and the sum behind it."""

    def __init__(self, height: nn.Module, width: nn.Module) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor, mask: Tensor | None, residual: Tensor) -> Tensor:
        return self.width(self.height(x, mask), mask, residual)  # (B, H, W, D)


def residual_block(module: nn.Module) -> ResidualBlock | None:
    """The form of a plain block whose sums are its last layers'; None for what is no block."""
    if isinstance(module, ResidualBlock):
        return module
    if not isinstance(module, vit.Block | segformer.Block):
        return None
    attention: nn.Module = module.attention
    mlp = module.mlp
    if isinstance(attention, AxialAttention):
        attention = AxialPair(*(fuse_qkv(half) for half in (attention.height, attention.width)))
    feed_forward = ResidualMLP(mlp) if isinstance(mlp, vit.MLP) else ResidualMixFFN(mlp)
    return ResidualBlock(module.norm_1, fuse_qkv(attention), module.norm_2, feed_forward)


def fuse_residuals(network: nn.Module) -> nn.Module:
    """Each sum and each activation into the linear layer before it."""
    return rewrite(network, residual_block)


def first_tokens_block(block: nn.Module, count: int) -> nn.Module | None:
    """A block that computes only the first `count` tokens; None where it is of another kind."""
    whole = residual_block(block)
    if whole is None or not isinstance(whole.attention, FusedAttention):
        return None
    attention = FirstTokensAttention(whole.attention, count)
    return ResidualBlock(whole.norm_1, attention, whole.norm_2, whole.mlp)


def drop_unread_tokens(network: nn.Module) -> nn.Module:
    """In the last block compute only the tokens that a head reads; the others stay keys and values.

    Concerns a ViT with a class token and full attention; its `features` are those tokens only.
    """

    def rule(module: nn.Module) -> nn.Module | None:
        if not isinstance(module, ViT) or module.config.pooling != "class":
            return None
        if not isinstance(module.encoder, vit.Encoder) or not module.encoder.blocks:
            return None
        last = len(module.encoder.blocks) - 1
        count = 2 if module.config.distillation_head else 1
        block = first_tokens_block(module.encoder.blocks[last], count)
        return None if block is None else replaced(module, f"encoder.blocks.{last}", block)

    return rewrite(network, rule)
