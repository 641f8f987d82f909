"""The interface of an inference form: it converts pixels, splits batches and calls the network."""

from collections.abc import Iterator
from typing import Self, cast

import torch
from torch import Tensor, nn

from models.layers.heads import ClassifierOutput
from models.preprocessing import Color, per_channel
from models.runtimes.optimize.heads import heads_in_float32
from models.runtimes.optimize.rewriting import copy_to, shallow_copy, with_submodule
from models.segformer import Segformer, SegformerClassifier
from models.vit import ViT

MAX_PIXELS = 2 * 512 * 512  # per pass of a split batch; larger passes are no faster per image
COMPILED_PARTS = ("encoder", "decoder")  # submodules that torch.compile gets


class Form(nn.Module):
    """`forward(pixels)` maps float (B, C, H, W), or with a `mean` uint8 (B, H, W, C), to logits.

    The network gets pixels of `dtype`. From uint8 pixels the mean is subtracted; then they are
    multiplied by the scale, unless it is None because the network's weights include it. A batch is
    split so that a pass has at most `max_pixels` pixels, but at least one image.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.dtype = torch.float32
        self.mean: Color | None = None
        self.scale: Color | None = None
        self.max_pixels: int | None = None
        self._constants: dict[tuple[Color, torch.device], Tensor] = {}

    def changed(self, network: nn.Module, **fields: object) -> Self:
        """Return a copy of this form with another network and other attributes."""
        twin = shallow_copy(self)
        twin._modules["network"] = network
        for name, value in fields.items():
            setattr(twin, name, value)
        return twin

    def forward(self, pixels: Tensor) -> Tensor:
        return concatenated([self.network(part) for part in self.inputs(pixels)])

    def inputs(self, pixels: Tensor) -> Iterator[Tensor]:
        """Yield the network's inputs (B_i, C, H, W) for the parts of a batch."""
        if self.max_pixels is None:
            yield self.centered(pixels)
            return
        size = pixels.shape[1:3] if self.mean is not None else pixels.shape[2:]
        pixels_per_image = size.numel()
        for part in pixels.split(max(self.max_pixels // pixels_per_image, 1)):
            yield self.centered(part)

    def constant(self, values: Color, device: torch.device) -> Tensor:
        """Return a tensor (1, C, 1, 1) on the device, which lives as long as the form.

        A recorded CUDA graph reads it without a reference; the graph's owner keeps the form.
        """
        key = values, device
        if key not in self._constants:
            self._constants[key] = per_channel(values, device)
        return self._constants[key]

    def centered(self, pixels: Tensor) -> Tensor:
        """Return float (B, C, H, W); uint8 pixels minus the mean, so that padding 0 is the mean."""
        if self.mean is None:
            return pixels.to(self.dtype)
        W, C = pixels.shape[2:]
        x = pixels.flatten(2).float()  # (B, H, W C): long rows are faster than rows of C
        x.sub_(self.constant(self.mean, x.device).flatten().repeat(W))
        if self.scale is not None:
            x.mul_(self.constant(self.scale, x.device).flatten().repeat(W))
        return x.unflatten(2, (W, C)).permute(0, 3, 1, 2).to(self.dtype)  # (B, C, H, W)


class ClassifierForm(Form):
    """The form of a classifier, which can also return the embedding."""

    def classify(self, pixels: Tensor) -> ClassifierOutput:
        """Return the logits (B, num_labels) and the embedding, see `ClassifierOutput`."""
        parts = [self.network.classify(part) for part in self.inputs(pixels)]  # type: ignore[operator]
        return ClassifierOutput(
            concatenated([part.logits for part in parts]),
            concatenated([part.embedding for part in parts]),
        )


def concatenated(parts: list[Tensor]) -> Tensor:
    """Concatenate the parts of a batch; a single part is not copied."""
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def form_of(network: nn.Module) -> Form:
    """Return a form with the network's own input; a form is returned unchanged."""
    if isinstance(network, Form):
        return network
    return (ClassifierForm if isinstance(network, ViT | SegformerClassifier) else Form)(network)


def place(network: nn.Module, device: torch.device, dtype: torch.dtype) -> Form:
    """Copy the network to a device and a dtype, with heads in float32; the form converts pixels."""
    form = form_of(network)
    placed = copy_to(form.network, device, dtype)
    if dtype != torch.float32:
        placed = heads_in_float32(placed, form.network, device)
    return form.changed(placed, dtype=dtype)


def split_batches(network: nn.Module) -> Form:
    """Split a SegFormer's batches of large images on a CPU: as fast, with the memory of a part."""
    form = form_of(network)
    if not isinstance(form.network, Segformer | SegformerClassifier):
        return form  # a ViT has few tokens
    return form.changed(form.network, max_pixels=MAX_PIXELS)


def compile_parts(network: nn.Module, backend: str = "inductor") -> Form:
    """Fuse element-wise operations with torch.compile, for all batch and image sizes.

    The first call compiles, which takes tens of seconds and, on a CPU, needs a C++ compiler.
    """
    form = form_of(network)
    inner = form.network
    for part in COMPILED_PARTS:
        if hasattr(inner, part):
            plain = inner.get_submodule(part)
            compiled = cast(nn.Module, torch.compile(plain, dynamic=True, backend=backend))
            inner = with_submodule(inner, part, compiled)
    return form.changed(inner)
