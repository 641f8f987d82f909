"""What all writers need: images, random weights, and torchvision on a torch for CPUs."""

import re
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

SIZES = ((53, 37), (64, 48), (41, 90), (200, 301))  # width and height, also odd ones


def import_torchvision():
    """Import torchvision; operators that only its compiled part has are defined without a body."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for _ in range(20):
        try:
            import torchvision
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None:
                raise
            library.define(f"{missing[1]}(Tensor a) -> Tensor")
            for name in [name for name in sys.modules if name.startswith("torchvision")]:
                del sys.modules[name]
        else:
            return torchvision, library
    raise RuntimeError("torchvision cannot be imported")


@torch.no_grad()
def perturb(module, seed=0):
    """Fill a network with random weights, including biases, norms, tokens and statistics."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("gamma"):  # of layer scale
            tensor.copy_(0.3 + noise.abs())
        elif name.endswith("running_var"):
            tensor.copy_(noise.abs() + 0.5)
        elif tensor.ndim == 1:
            tensor.copy_(0.1 * noise + (1.0 if name.endswith("weight") else 0.0))
        elif name.endswith(("token", "pos_embed", "pos_embedding", "position_embeddings")):
            tensor.copy_(0.5 * noise)
        elif tensor.ndim > 1:
            tensor.copy_(noise / tensor[0].numel() ** 0.5)


def photo(width, height, seed):
    """Draw a smooth random image with some detail."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (7, 5, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    noise = generator.integers(-20, 21, smooth.shape)
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


@torch.no_grad()
def write_expected(case: Path, transform, network):
    """Write images, and the input and the output of the network for each.

    Args:
        case: the folder.
        transform: from a Pillow image to (3, H, W).
        network: from (B, 3, H, W) to logits.
    """
    case.mkdir(parents=True, exist_ok=True)
    for number, (width, height) in enumerate(SIZES):
        image = photo(width, height, number)
        image.save(case / f"photo-{number}.png")
        pixels = transform(image)[None].contiguous()
        tensors = {"pixels": pixels, "logits": network(pixels).contiguous()}
        save_file(tensors, case / f"photo-{number}.expected")
