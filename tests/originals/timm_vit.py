"""Writes checkpoints of timm's ViT, DeiT and DeiT III: hub folders and a file of weights."""

import sys
from pathlib import Path

import torch
from common import import_torchvision, perturb, write_expected

torchvision, library = import_torchvision()
import timm  # noqa: E402  # it imports torchvision
from timm.models import save_for_hf  # noqa: E402

SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 3, "patch_size": 8}
CASES = {  # name: architecture, its arguments, and its preprocessing
    "vit": ("vit_tiny_patch16_224", SMALL | {"img_size": 32}, {"input_size": (3, 32, 32)}),
    "vit-384": (
        "vit_tiny_patch16_384",
        SMALL | {"img_size": 48, "qkv_bias": False},
        {"input_size": (3, 48, 48), "crop_pct": 1.0, "interpolation": "bilinear"},
    ),
    "squash": (
        "vit_tiny_patch16_224",
        SMALL | {"img_size": 32},
        {"input_size": (3, 32, 32), "crop_mode": "squash", "crop_pct": 0.95},
    ),
    "wide": (
        "vit_tiny_patch16_224",
        SMALL | {"img_size": (32, 48)},
        {"input_size": (3, 32, 48), "crop_mode": "squash", "crop_pct": 0.9},
    ),
    "deit": (
        "deit_tiny_patch16_224",
        SMALL | {"img_size": 32},
        {"input_size": (3, 32, 32), "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    ),
    "deit-distilled": (
        "deit_tiny_distilled_patch16_224",
        SMALL | {"img_size": 32},
        {"input_size": (3, 32, 32), "crop_pct": 0.9},
    ),
    "deit3": (
        "deit3_small_patch16_224",
        SMALL | {"img_size": 40},
        {"input_size": (3, 40, 40), "crop_pct": 1.0},
    ),
    "dinov2": (  # layer scale, and a class token with a position
        "vit_small_patch14_dinov2",
        SMALL | {"img_size": 32, "patch_size": 8},
        {"input_size": (3, 32, 32), "crop_pct": 1.0},
    ),
}


def write(case: Path, architecture, arguments, preprocessing):
    """Write one case."""
    model = timm.create_model(architecture, num_classes=5, **arguments).eval()
    model.pretrained_cfg = model.pretrained_cfg | preprocessing | {"num_classes": 5}
    model.default_cfg = model.pretrained_cfg
    perturb(model)
    names = [f"label {n}" for n in range(5)]
    config = {"label_names": names, "label_descriptions": {names[1]: "the second label"}}
    save_for_hf(model, case, model_config=config, model_args=arguments, safe_serialization=True)
    data = timm.data.resolve_model_data_config(model)
    write_expected(case, timm.data.create_transform(**data, is_training=False), model)


def main(out: Path):
    """Write all cases."""
    for name, (architecture, arguments, preprocessing) in CASES.items():
        write(out / name, architecture, arguments, preprocessing)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=5, depth=2, img_size=32).eval()
    perturb(model)
    data = timm.data.resolve_data_config({"input_size": (3, 32, 32), "mean": (0.5,) * 3})
    data |= {"std": (0.5,) * 3, "crop_pct": 0.9, "interpolation": "bicubic"}
    transform = timm.data.create_transform(**data, is_training=False)
    write_expected(out / "file", transform, model)
    torch.save(model.state_dict(), out / "file" / "model.pth")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
