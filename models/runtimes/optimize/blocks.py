"""Encoder blocks whose linear layers add the residual, and a last block for the class token alone.

Dropout and drop path, which do nothing at inference, are removed.
"""

from torch import Tensor, nn

from models import segformer, vit
from models.layers.attention import AxialAttention, GridMask
from models.layers.mlp import MLP, SwiGLU, gated
from models.runtimes.optimize.attention import FirstTokensAttention, FusedAttention, fuse_qkv
from models.runtimes.optimize.dense import Dense
from models.runtimes.optimize.rewriting import rewrite, with_submodule
from models.vit import ViT


class ResidualBlock(nn.Module):
    """A pre-norm block; the last layers of attention and MLP add the residual."""

    def __init__(
        self, norm_1: nn.Module, attention: nn.Module, norm_2: nn.Module, mlp: nn.Module
    ) -> None:
        super().__init__()
        self.norm_1, self.attention, self.norm_2, self.mlp = norm_1, attention, norm_2, mlp

    def forward(self, x: Tensor, mask: Tensor | GridMask | None = None) -> Tensor:
        x = self.attention(self.norm_1(x), mask, x)
        return self.mlp(self.norm_2(x), x)


class ResidualMLP(nn.Module):
    """`models.layers.mlp.MLP` plus the residual: (..., D) -> (..., D)."""

    def __init__(self, plain: MLP) -> None:
        super().__init__()
        self.expand = Dense.of(plain.expand, plain.activation)
        self.contract = Dense.of(plain.contract)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.contract(self.expand(x), residual)  # (..., D)


class ResidualSwiGLU(nn.Module):
    """`models.layers.mlp.SwiGLU` plus the residual: (..., D) -> (..., D)."""

    def __init__(self, plain: SwiGLU) -> None:
        super().__init__()
        self.gate_up = Dense.of(plain.gate_up)
        self.down = Dense.of(plain.down)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.down(gated(self.gate_up(x)), residual)  # (..., D)


class DepthwiseConvolution(nn.Module):
    """A depthwise 3 x 3 convolution and its activation on a token grid: keeps (B, H, W, C)."""

    def __init__(self, convolution: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.convolution, self.activation = convolution, activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.convolution(x.permute(0, 3, 1, 2)))  # (B, C, H, W)
        return x.permute(0, 2, 3, 1)  # (B, H, W, C)


class ResidualMixFFN(nn.Module):
    """`models.segformer.MixFFN` plus the residual: (B, H, W, C) -> (B, H, W, C)."""

    def __init__(self, plain: segformer.MixFFN) -> None:
        super().__init__()
        self.expand = Dense.of(plain.expand)
        self.depthwise = DepthwiseConvolution(plain.depthwise, plain.activation)
        self.contract = Dense.of(plain.contract)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.contract(self.depthwise(self.expand(x)), residual)  # (B, H, W, C)


class FusedAxialAttention(nn.Module):
    """`models.layers.attention.AxialAttention` plus the residual."""

    def __init__(self, height: nn.Module, width: nn.Module) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor, mask: GridMask, residual: Tensor) -> Tensor:
        return self.width(self.height(x, mask), mask, residual)  # (B, K + N, D)


def residual_block(module: nn.Module) -> ResidualBlock | None:
    """Return a plain block as a `ResidualBlock`; None for every other module."""
    if isinstance(module, ResidualBlock):
        return module
    if not isinstance(module, vit.Block | segformer.Block):
        return None
    attention: nn.Module = module.attention
    if isinstance(attention, AxialAttention):
        attention = FusedAxialAttention(fuse_qkv(attention.height), fuse_qkv(attention.width))
    mlp = residual_mlp(module.mlp)
    return ResidualBlock(module.norm_1, fuse_qkv(attention), module.norm_2, mlp)


def residual_mlp(plain: nn.Module) -> nn.Module:
    """Return the form of a block's MLP that adds the residual."""
    match plain:
        case MLP():
            return ResidualMLP(plain)
        case SwiGLU():
            return ResidualSwiGLU(plain)
        case segformer.MixFFN():
            return ResidualMixFFN(plain)
    raise TypeError(f"{type(plain).__name__} is not an MLP of a block")


def fuse_residuals(network: nn.Module) -> nn.Module:
    """Fuse each residual and each activation into the linear layer before it."""
    return rewrite(network, residual_block)


def first_tokens_block(block: nn.Module, count: int) -> nn.Module | None:
    """Return a block that computes only the first `count` tokens; None for an unsupported block."""
    whole = residual_block(block)
    if whole is None or not isinstance(whole.attention, FusedAttention):
        return None
    attention = FirstTokensAttention(whole.attention, count)
    return ResidualBlock(whole.norm_1, attention, whole.norm_2, whole.mlp)


def drop_unread_tokens(network: nn.Module) -> nn.Module:
    """Let the last block compute only the tokens that a head reads.

    All tokens remain keys and values. Applies to a ViT with a class token and full attention; its
    `features` then returns only the tokens that a head reads.
    """

    def rule(module: nn.Module) -> nn.Module | None:
        if not isinstance(module, ViT) or module.config.pooling != "class":
            return None
        if not isinstance(module.encoder, vit.Encoder) or not module.encoder.blocks:
            return None
        last = len(module.encoder.blocks) - 1
        count = 2 if module.config.distillation_head else 1
        block = first_tokens_block(module.encoder.blocks[last], count)
        return None if block is None else with_submodule(module, f"encoder.blocks.{last}", block)

    return rewrite(network, rule)
