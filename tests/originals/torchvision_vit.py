"""Writes files of weights of torchvision's ViT."""

import sys
from functools import partial
from pathlib import Path

import torch
from common import import_torchvision, perturb, write_expected

torchvision, library = import_torchvision()
from torchvision.transforms import InterpolationMode  # noqa: E402  # after the operators
from torchvision.transforms._presets import ImageClassification  # noqa: E402

BICUBIC = InterpolationMode.BICUBIC
CASES = {  # image size, hidden size, transform
    "vit_b": (224, 768, ImageClassification(crop_size=224)),
    "vit_b-swag": (
        384,
        768,
        ImageClassification(crop_size=384, resize_size=384, interpolation=BICUBIC),
    ),
    "vit_l": (224, 1024, ImageClassification(crop_size=224)),
}


def main(out: Path):
    """Write all cases."""
    for name, (size, width, transform) in CASES.items():
        model = torchvision.models.VisionTransformer(
            image_size=size,
            patch_size=32,
            num_layers=2,
            num_heads=width // 64,
            hidden_dim=width,
            mlp_dim=48,
            num_classes=5,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        ).eval()
        perturb(model)
        write_expected(out / name, transform, model)
        torch.save(model.state_dict(), out / name / "model.pth")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
