"""Checkpoint folders of the networks that are measured: published sizes with random weights."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models import checkpoint
from models.checkpoint import Checkpoint
from models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, normalize
from models.registry import Network, segformer_config, vit_config
from models.runtimes.optimize import Transformation
from models.segformer import Segformer
from models.vit import ViT, ViTConfig

LABELS = {"ViT": 1000, "SegFormer": 150}
SIDES = {"ViT": 224, "SegFormer": 512}
STAGE_WEIGHTS = (0.1, 0.2, 0.5, 1.0)  # factors of a smooth SegFormer's stages, the finest first
TINY = "T"  # takes about 1 ms, so that the cost of the service around the network is visible
TINY_CONFIG = ViTConfig(hidden_size=64, num_layers=2, num_heads=2, mlp_size=256, patch_size=32)


def kind_of(name: str) -> str:
    """Return ViT or SegFormer."""
    return "ViT" if name == TINY else name.partition("-")[0]


def task_of(name: str) -> str:
    """Return the task of a network: classify or segment."""
    return "classify" if kind_of(name) == "ViT" else "segment"


def network(name: str) -> Network:
    """Return the untrained network of a name such as ViT-B/16 or SegFormer-B0; T is a tiny ViT."""
    kind, size = kind_of(name), name.partition("-")[2]
    if name == TINY:
        return ViT(TINY_CONFIG)
    if kind == "ViT":
        return ViT(vit_config(size, num_labels=LABELS[kind]))
    return Segformer(segformer_config(size, num_labels=LABELS[kind]))


def preprocessing(name: str) -> Preprocessing:
    """Return the preprocessing of the published checkpoints of this kind."""
    kind = kind_of(name)
    size = (SIDES[kind], SIDES[kind])
    if kind == "ViT":
        return Preprocessing(size=size)
    return Preprocessing("SegformerImageProcessor", size, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def randomized(name: str) -> Network:
    """Return the network with random weights.

    No parameter has a neutral value (0 or 1), so that no optimization step hides an error. Matrices
    keep the scale of their input, so that logits differ by about 1.
    """
    random, generator = network(name), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, tensor in random.state_dict().items():
            fill(key, tensor, generator)
    return random


def smooth(segmenter: Segformer) -> None:
    """Give the coarse stages the largest weights, as training does, so that the label map of a
    photograph consists of regions with some 10 labels.

    One logit in ten then has another label than the logit above it; with all random weights one in
    four, and with the bundled segmenter, on scenes, one in 15.
    """
    with torch.no_grad():
        for projection, weight in zip(segmenter.decoder.projections, STAGE_WEIGHTS, strict=True):
            projection.weight.mul_(weight)


def write(name: str, folder: Path, *, smoothly: bool = False) -> None:
    """Save the network with random weights as a checkpoint folder.

    Args:
        name: the network.
        folder: the folder to write.
        smoothly: whether a segmenter gets weights that give smooth label maps.
    """
    random, kind = randomized(name), kind_of(name)
    if smoothly and isinstance(random, Segformer):
        smooth(random)
    labels = tuple(f"label {i}" for i in range(LABELS[kind]))
    task = "classify" if kind == "ViT" else "segment"
    checkpoint.save(Checkpoint(random, labels, preprocessing(name), task), folder)


def fill(key: str, tensor: Tensor, generator: torch.Generator) -> None:
    """Fill one tensor of a network's state with random values."""
    if tensor.ndim == 0:  # num_batches_tracked of a BatchNorm
        return
    noise = torch.randn(tensor.shape, generator=generator)
    if key.endswith("running_var"):
        tensor.copy_(noise.abs() + 0.5)
    elif tensor.ndim == 1:
        tensor.copy_(0.1 * noise + (1.0 if key.endswith("weight") else 0.0))
    elif key.endswith(("token", "positions")):
        tensor.copy_(0.5 * noise)
    else:
        tensor.copy_(noise / tensor[0].numel() ** 0.5)


def images(name: str, batch: int) -> tuple[Tensor, Tensor]:
    """Return random images, uint8 (B, H, W, 3), and the same normalized, float (B, 3, H, W)."""
    side = SIDES[kind_of(name)]
    generator = torch.Generator().manual_seed(batch)
    pixels = torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8, generator=generator)
    return pixels, normalize(pixels, preprocessing(name))


def flops(name: str, foldings: Sequence[Transformation] = ()) -> int:
    """Return the floating-point operations for one image, of the published or of a folded network.

    Products and sums of matrix products and convolutions count, other operations do not.
    """
    side = SIDES[kind_of(name)]
    with torch.device("meta"), torch.no_grad():
        form: nn.Module = network(name).eval()
        for folding in foldings:
            form = folding(form)
        with FlopCounterMode(display=False) as counter:
            form(torch.empty(1, 3, side, side))
    return int(counter.get_total_flops())
