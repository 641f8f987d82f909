"""Writes checkpoints of segmentation-models-pytorch's SegFormer: folders and a file of weights."""

import sys
from pathlib import Path

import torch
from common import import_torchvision, perturb, write_expected

torchvision, library = import_torchvision()
import segmentation_models_pytorch as smp  # noqa: E402  # it imports torchvision
from torchvision.transforms import Compose, Normalize, Resize, ToTensor  # noqa: E402

CASES = {  # arguments of the network
    "b0": {"encoder_name": "mit_b0", "classes": 5},
    "binary": {"encoder_name": "mit_b0", "classes": 1, "decoder_segmentation_channels": 64},
    "b2": {"encoder_name": "mit_b2", "classes": 3, "decoder_segmentation_channels": 48},
}
TRANSFORM = Compose(  # of SegFormer's image processor
    [Resize((512, 512)), ToTensor(), Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
)


def main(out: Path):
    """Write all cases."""
    for name, arguments in CASES.items():
        model = smp.Segformer(encoder_weights=None, **arguments).eval()
        perturb(model)
        model.save_pretrained(out / name)
        write_expected(out / name, TRANSFORM, model)
        torch.save(model.state_dict(), out / name / "weights.pth")
    unet = smp.Unet("mit_b0", encoder_weights=None, encoder_depth=5)
    unet.save_pretrained(out / "unet")
    resnet = smp.Segformer("resnet18", encoder_weights=None)
    resnet.save_pretrained(out / "resnet")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
