"""The outside of an inference form: how pixels come in, and what is asked of the network.

Knows nothing of what became of the network inside.
"""

from collections.abc import Iterator
from typing import Self, cast

import torch
from torch import Tensor, nn

from models.layers.heads import Classified
from models.preprocessing import Colour, per_channel
from models.runtimes.optimize.rewriting import copied, placed, replaced
from models.segformer import Segformer, SegformerClassifier
from models.vit import ViT

PIXELS_AT_ONCE = 2 * 512 * 512  # from there on, more together is no quicker an image


class Form(nn.Module):
    """`forward(pixels)` maps float (B, 3, H, W), or with a `mean` uint8 (B, H, W, 3), to logits.

    Pixels are computed with in `dtype`; bytes less the mean, times the scale unless the network
    has that in its weights. At most `pixels_at_once` pixels, but one image, go through together.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.dtype = torch.float32
        self.mean: Colour | None = None
        self.scale: Colour | None = None
        self.pixels_at_once: int | None = None

    def changed(self, network: nn.Module, **fields: object) -> Self:
        """This form around another network, with other fields."""
        twin = copied(self)
        twin._modules["network"] = network
        for name, value in fields.items():
            setattr(twin, name, value)
        return twin

    def forward(self, pixels: Tensor) -> Tensor:
        return joined([self.network(part) for part in self.entering(pixels)])

    def entering(self, pixels: Tensor) -> Iterator[Tensor]:
        """The pixels as the network takes them, (B_i, 3, H, W), part by part."""
        if self.pixels_at_once is None:
            yield self.centred(pixels)
            return
        image = pixels.shape[1:].numel() // 3  # pixels of one
        for part in pixels.split(max(self.pixels_at_once // image, 1)):
            yield self.centred(part)

    def centred(self, pixels: Tensor) -> Tensor:
        """Float (B, 3, H, W), of bytes less the mean; 0 is then the mean, as padding wants it."""
        if self.mean is None:
            return pixels.to(self.dtype)
        W = pixels.shape[2]
        x = pixels.flatten(2).float()  # (B, H, W 3): rows are long enough to be quick
        x.sub_(per_channel(self.mean, x.device).flatten().repeat(W))
        if self.scale is not None:
            x.mul_(per_channel(self.scale, x.device).flatten().repeat(W))
        return x.unflatten(2, (W, 3)).permute(0, 3, 1, 2).to(self.dtype)  # (B, 3, H, W)


class ClassifierForm(Form):
    """A form that tells the embedding, too."""

    def classify(self, pixels: Tensor) -> Classified:
        """The logits (B, num_labels), and the embedding that they are read from."""
        said = [self.network.classify(part) for part in self.entering(pixels)]  # type: ignore[operator]
        return Classified(
            joined([one.logits for one in said]), joined([one.embedding for one in said])
        )


def joined(parts: list[Tensor]) -> Tensor:
    """The parts of a batch as one; a single one is not copied."""
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def form_of(network: nn.Module) -> Form:
    """The form of a network, one that takes what the network takes; a form is itself."""
    if isinstance(network, Form):
        return network
    return (ClassifierForm if isinstance(network, ViT | SegformerClassifier) else Form)(network)


def place(network: nn.Module, device: torch.device, dtype: torch.dtype) -> Form:
    """The network on a device, computing in a number format; takes pixels of any other."""
    form = form_of(network)
    return form.changed(placed(form.network, device, dtype), dtype=dtype)


def split_batches(network: nn.Module) -> Form:
    """On a CPU a SegFormer's batch of large images in parts: as quick, and in their memory."""
    form = form_of(network)
    if not isinstance(form.network, Segformer | SegformerClassifier):
        return form  # a ViT's tokens are few
    return form.changed(form.network, pixels_at_once=PIXELS_AT_ONCE)


PARTS = ("encoder", "decoder")


def compile_parts(network: nn.Module, backend: str = "inductor") -> Form:
    """Element-wise operations fused with their neighbours, for any sizes of batch and image.

    Compiled at the first call, which takes tens of seconds and, on a CPU, a C++ compiler.
    """
    form = form_of(network)
    inner = form.network
    for part in PARTS:
        if hasattr(inner, part):
            plain = inner.get_submodule(part)
            compiled = cast(nn.Module, torch.compile(plain, dynamic=True, backend=backend))
            inner = replaced(inner, part, compiled)
    return form.changed(inner)
