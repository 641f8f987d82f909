"""Records the inputs and head outputs of every attention in one forward pass, and gradients.

The pass runs on a copy of the network that shares the parameters and has its own hooks, so
concurrent calls do not see each other's tensors.
"""

import copy
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.layers.attention import (
    Attention,
    ReducedAttention,
    split_heads,
)
from models.layers.positions import Grid
from models.registry import Network
from models.segformer import Stage as MiTStage
from models.vit import ViT
from models.vit_segmenter import ViTSegmenter


@dataclass(frozen=True)
class Layer:
    """One attention in one pass: K prefix tokens and N grid tokens attend to K + M keys.

    M is N, or less if the keys come from a reduced grid.
    """

    attention: Attention
    inputs: tuple[Any, ...]  # arguments of its forward: x, and optionally a mask
    grid: Grid
    prefix: int  # K
    cell: int  # pixels from one token to the next
    gradient: Tensor | None = None  # of the best logit, by the heads' output: (B, K + N, D)

    @property
    def ratio(self) -> int:
        """Side of a key's cell, in tokens."""
        return self.attention.ratio if isinstance(self.attention, ReducedAttention) else 1

    @property
    def key_grid(self) -> Grid:
        """Rows and columns of the keys."""
        return self.grid[0] // self.ratio, self.grid[1] // self.ratio

    @torch.no_grad()
    def weights(self) -> Tensor:
        """Return the attention weights, float32 (B, heads, K + N, K + M); rows sum to 1."""
        return self.attention.weights(*self.inputs).float()

    @torch.no_grad()
    def weights_gradient(self) -> Tensor:
        """Return the gradient of the best logit by `weights`, float32 (B, heads, K + N, K + M).

        The heads' output is weights times values, so this is the output's gradient times the
        transposed values.
        """
        assert self.gradient is not None  # noqa: S101  # callers record with gradients
        heads = self.attention.num_heads
        value = split_heads(self.attention.value(self.context()), heads)  # (B, heads, K + M, d)
        return (split_heads(self.gradient, heads) @ value.transpose(-2, -1)).float()

    def context(self) -> Tensor:
        """Return the tokens that keys and values are computed from, (B, K + M, D)."""
        x = self.inputs[0]  # (B, K + N, D) or (B, rows, columns, D)
        if isinstance(self.attention, ReducedAttention):
            x = self.attention.reduction(x)  # (B, rows / ratio, columns / ratio, D)
        return x if x.ndim == 3 else x.flatten(1, 2)


@dataclass(frozen=True)
class Stage:
    """The attentions on one token grid, first to last; a ViT has one stage."""

    layers: tuple[Layer, ...]
    grid: Grid
    prefix: int
    stride: int  # from one token to the next, in tokens of the stage before, or in pixels


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
class StageRecorder:
    """The modules that work on one token grid, and what their hooks record."""

    patch_embedding: nn.Module
    blocks: nn.Module
    stride: int
    prefix: int = 0
    grid: Grid = (0, 0)
    calls: list[tuple[Attention, tuple[Any, ...]]] = field(default_factory=list)
    head_outputs: list[Tensor] = field(default_factory=list)  # one per call

    def register_hooks(self) -> None:
        """Record the grid, and the inputs and head outputs of every attention."""
        self.patch_embedding.register_forward_hook(self.record_grid)
        for module in self.blocks.modules():
            if isinstance(module, Attention):
                module.register_forward_pre_hook(self.record_call)
                module.output.register_forward_pre_hook(self.record_heads)

    def record_grid(self, module: nn.Module, inputs: tuple[Any, ...], patches: Tensor) -> None:
        """Forward hook of the patch embedding with the output (B, rows, columns, D)."""
        self.grid = (patches.shape[1], patches.shape[2])

    def record_call(self, attention: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Forward pre-hook of an attention."""
        detached = tuple(i.detach() if isinstance(i, Tensor) else i for i in inputs)
        self.calls.append((cast(Attention, attention), detached))

    def record_heads(self, output: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Forward pre-hook of an attention's output layer."""
        self.head_outputs.append(inputs[0])

    def stage(self, cell: int, gradients: dict[int, Tensor]) -> Stage:
        """Return what was recorded; the gradients are by the id of the head output."""
        layers = []
        for (attention, inputs), heads in zip(self.calls, self.head_outputs, strict=True):
            gradient = gradients.get(id(heads))
            layers.append(Layer(attention, inputs, self.grid, self.prefix, cell, gradient))
        return Stage(tuple(layers), self.grid, self.prefix, self.stride)


def record(network: Network, pixels: Tensor, *, gradients: bool = False) -> Recording:
    """Run the network in eval mode and record every attention.

    Any number of threads may call this and run the network at the same time, as long as its
    parameters do not change.

    Args:
        network: a plain network.
        pixels: normalized pixels (B, 3, H, W).
        gradients: also record the gradient of each image's best logit; for a segmenter, of the mean
            over the pixels of each pixel's best logit.

    Raises:
        RuntimeError: gradients of a network that was created, or moved to its device, in inference
            mode.
    """
    twin = copy_sharing_tensors(network).eval()
    recorders = recorders_for(twin)
    for recorder in recorders:
        recorder.register_hooks()
    with torch.inference_mode(False), torch.set_grad_enabled(gradients):
        logits = twin(pixels.detach().clone().requires_grad_(gradients))  # (B, num_labels, ...)
        by_tensor = head_gradients(logits, recorders) if gradients else {}
    stages, cell = [], 1
    for recorder in recorders:
        cell *= recorder.stride
        stages.append(recorder.stage(cell, by_tensor))
    return Recording(tuple(stages), logits.detach())


def head_gradients(logits: Tensor, recorders: list[StageRecorder]) -> dict[int, Tensor]:
    """Return the gradient of the best logits by each head output, by the output's id."""
    scores = logits.reshape(*logits.shape[:2], -1).amax(1)  # (B, pixels), or (B, 1)
    outputs = [tensor for recorder in recorders for tensor in recorder.head_outputs]
    gradients = torch.autograd.grad(scores.mean(1).sum(), outputs, materialize_grads=True)
    return {id(tensor): gradient for tensor, gradient in zip(outputs, gradients, strict=True)}


def copy_sharing_tensors(network: Network) -> Network:
    """Return a copy of all modules with the original's parameters and buffers."""
    shared = {id(t): t for t in (*network.parameters(), *network.buffers())}
    return copy.deepcopy(network, shared)


def recorders_for(network: Network) -> list[StageRecorder]:
    """Return a recorder for each token grid of a network, in the order of the pass."""
    if isinstance(network, ViT | ViTSegmenter):
        prefix = network.config.num_prefix_tokens if isinstance(network, ViT) else 0
        stride = network.config.patch_size
        return [StageRecorder(network.patch_embedding, network.encoder, stride, prefix)]
    stages = cast(list[MiTStage], network.encoder.stages)
    return [
        StageRecorder(stage.patch_embedding, stage.blocks, stride)
        for stage, stride in zip(stages, network.config.strides, strict=True)
    ]
