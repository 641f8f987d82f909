"""What every attention of a network is given in one forward pass, and what hangs on its answer.

Knows nothing of relevance or distance. The pass goes over a twin of the network, which shares its
parameters but has hooks of its own: those of one call never see another's tensors.
"""

import copy
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.layers.attention import Attention, AxisAttention, ReducedAttention, split_heads
from models.layers.positions import Grid
from models.registry import Network
from models.segformer import Stage as MiTStage
from models.vit import ViT
from models.vit_segmenter import ViTSegmenter


@dataclass(frozen=True)
class Layer:
    """One attention in one pass: N tokens of a grid after K prefix tokens heed K + M keys.

    M is N, or fewer where the attention is over a reduced grid. `cell` is the pixels from one
    token to the next. `gradient` is that of the best logit by what the heads gave, before the
    output layer; None where it was not asked for.
    """

    attention: Attention
    inputs: tuple[Any, ...]  # of its forward: x, and perhaps a mask
    grid: Grid
    prefix: int
    cell: int
    gradient: Tensor | None = None  # (B, K + N, D)

    @property
    def ratio(self) -> int:
        """Tokens a side of what one key sums up."""
        return self.attention.ratio if isinstance(self.attention, ReducedAttention) else 1

    @property
    def key_grid(self) -> Grid:
        """Rows and columns of the keys."""
        return self.grid[0] // self.ratio, self.grid[1] // self.ratio

    @torch.no_grad()
    def weights(self) -> Tensor:
        """Who heeds whom, float32 (B, heads, K + N, K + M); rows sum to 1."""
        return self.attention.weights(*self.inputs).float()

    @torch.no_grad()
    def weights_gradient(self) -> Tensor:
        """The gradient of the best logit by `weights`, float32 (B, heads, K + N, K + M).

        The heads give weights times values, so this is their gradient times the values' transpose.
        """
        assert self.gradient is not None  # noqa: S101  # whoever asks has recorded it
        heads = self.attention.num_heads
        value = split_heads(self.attention.value(self.context()), heads)  # (B, heads, K + M, d)
        return (split_heads(self.gradient, heads) @ value.transpose(-2, -1)).float()

    def context(self) -> Tensor:
        """The tokens that answer: (B, K + M, D)."""
        x = self.inputs[0]  # (B, K + N, D) or (B, rows, columns, D)
        if isinstance(self.attention, ReducedAttention):
            x = self.attention.reduction(x)  # (B, rows / ratio, columns / ratio, D)
        return x if x.ndim == 3 else x.flatten(1, 2)


@dataclass(frozen=True)
class Stage:
    """The attentions on one token grid, first to last; a ViT has one stage.

    `stride` is the tokens of the stage before, or the pixels, from one token to the next.
    """

    layers: tuple[Layer, ...]
    grid: Grid
    prefix: int
    stride: int


@dataclass(frozen=True)
class Recording:
    """One pass of a batch: its stages, finest first, and its logits (B, num_labels, ...)."""

    stages: tuple[Stage, ...]
    logits: Tensor

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every attention, first to last."""
        return tuple(layer for stage in self.stages for layer in stage.layers)


@dataclass
class Part:
    """A part of the twin that keeps one grid, and what its hooks have noted."""

    patch_embedding: nn.Module
    blocks: nn.Module
    stride: int
    prefix: int = 0
    grid: Grid = (0, 0)
    calls: list[tuple[Attention, tuple[Any, ...]]] = field(default_factory=list)
    mixed: list[Tensor] = field(default_factory=list)  # what the heads gave, call by call

    def listen(self) -> None:
        """Note the grid, and every attention's inputs and what its heads give."""
        self.patch_embedding.register_forward_hook(self.note_grid)
        for module in self.blocks.modules():
            if isinstance(module, Attention):
                module.register_forward_pre_hook(self.note_call)
                module.output.register_forward_pre_hook(self.note_mixed)

    def note_grid(self, module: nn.Module, inputs: tuple[Any, ...], patches: Tensor) -> None:
        """A hook of the patch embedding, whose patches are (B, rows, columns, D)."""
        self.grid = (patches.shape[1], patches.shape[2])

    def note_call(self, attention: nn.Module, inputs: tuple[Any, ...]) -> None:
        """A hook of an attention."""
        kept = tuple(i.detach() if isinstance(i, Tensor) else i for i in inputs)
        self.calls.append((cast(Attention, attention), kept))

    def note_mixed(self, output: nn.Module, inputs: tuple[Any, ...]) -> None:
        """A hook of an attention's output layer."""
        self.mixed.append(inputs[0])

    def stage(self, cell: int, gradients: dict[int, Tensor]) -> Stage:
        """What was noted; gradients by the id of the tensor in `mixed`."""
        layers = []
        for (attention, inputs), mixed in zip(self.calls, self.mixed, strict=True):
            gradient = gradients.get(id(mixed))
            if gradient is not None:
                gradient = in_token_order(attention, gradient, inputs[0])
            layers.append(Layer(attention, inputs, self.grid, self.prefix, cell, gradient))
        return Stage(tuple(layers), self.grid, self.prefix, self.stride)


def record(network: Network, pixels: Tensor, *, gradients: bool = False) -> Recording:
    """Run the network in eval mode over pixels (B, 3, H, W), normalised as it asks.

    With `gradients`, also backwards from each image's best logit; a segmenter's is the mean over
    the pixels of each one's best. Calls of several threads do not disturb each other, nor others
    that run the network; only its parameters must not change meanwhile. RuntimeError for gradients
    of a network that was made, or moved to its device, in inference mode.
    """
    twin = twin_of(network).eval()
    parts = parts_of(twin)
    for part in parts:
        part.listen()
    with torch.inference_mode(False), torch.set_grad_enabled(gradients):
        logits = twin(pixels.detach().clone().requires_grad_(gradients))  # (B, num_labels, ...)
        slopes = backwards(logits, parts) if gradients else {}
    stages, cell = [], 1
    for part in parts:
        cell *= part.stride
        stages.append(part.stage(cell, slopes))
    return Recording(tuple(stages), logits.detach())


def backwards(logits: Tensor, parts: list[Part]) -> dict[int, Tensor]:
    """The gradient of the best logits by what each attention's heads gave, by tensor id."""
    scores = logits.reshape(*logits.shape[:2], -1).amax(1)  # (B, pixels), or (B, 1)
    mixed = [tensor for part in parts for tensor in part.mixed]
    slopes = torch.autograd.grad(scores.mean(1).sum(), mixed, materialize_grads=True)
    return {id(tensor): slope for tensor, slope in zip(mixed, slopes, strict=True)}


def twin_of(network: Network) -> Network:
    """A copy of the modules around the very same parameters and buffers."""
    shared = {id(t): t for t in (*network.parameters(), *network.buffers())}
    return copy.deepcopy(network, shared)


def parts_of(network: Network) -> list[Part]:
    """The parts of a network that keep one token grid, in the order of the pass."""
    if isinstance(network, ViT | ViTSegmenter):
        prefix = network.config.num_prefix_tokens if isinstance(network, ViT) else 0
        stride = network.config.patch_size
        return [Part(network.patch_embedding, network.encoder, stride, prefix)]
    stages = cast(list[MiTStage], network.encoder.stages)
    return [
        Part(stage.patch_embedding, stage.blocks, stride)
        for stage, stride in zip(stages, network.config.strides, strict=True)
    ]


def in_token_order(attention: Attention, x: Tensor, tokens: Tensor) -> Tensor:
    """Bring what an axis' attention has line by line, (B L, T, D), back to (B, N, D)."""
    if isinstance(attention, AxisAttention):
        return attention.lines(x.unflatten(0, (len(tokens), -1))).flatten(1, 2)
    return x
