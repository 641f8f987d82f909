"""Measures how often bfloat16 and OpenVINO agree with the plain network in float32.

    python -m bench.agreement [CHECKPOINT PHOTO...]

The bundled checkpoints run on scenes that are not in their training data, a given checkpoint on
the given photographs.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.common import machine
from models import checkpoint
from models.checkpoint import Checkpoint
from models.preprocessing import fit, normalize, to_rgb
from models.runtimes.openvino import OpenVINOForm, available
from models.runtimes.optimize import optimize
from models.training.scenes.scene import UNSEEN_SEED, draw_scene

RESULTS = Path(__file__).parent / "results" / "agreement.md"
SCENES = 1000
Form = Callable[[Tensor], Tensor]


def forms(loaded: Checkpoint) -> dict[str, Form]:
    """Return the inference forms by name."""
    by_name: dict[str, Form] = {}
    for dtype in (torch.float32, torch.bfloat16):
        name, preprocessing = str(dtype).removeprefix("torch."), loaded.preprocessing
        by_name[name] = optimize(loaded.network, dtype=dtype, normalization=preprocessing)
        if available():
            form = OpenVINOForm(loaded.network, dtype=dtype, normalization=preprocessing)
            by_name[f"OpenVINO {name}"] = form
    return by_name


def fitted(pictures: Iterator[Image.Image], loaded: Checkpoint) -> Iterator[Tensor]:
    """Yield each picture at the network's input size, uint8 (1, H, W, 3)."""
    for picture in pictures:
        yield torch.from_numpy(np.asarray(fit(to_rgb(picture), loaded.preprocessing)).copy())[None]


@torch.inference_mode()
def compare(source: str | Path, pictures: Iterator[Image.Image], kind: str) -> Iterator[str]:
    """Yield the table's lines of one checkpoint."""
    loaded = checkpoint.load(source)
    all_forms = forms(loaded)
    agreed, worst = dict.fromkeys(all_forms, 0.0), dict.fromkeys(all_forms, 0.0)
    count = 0
    for image in fitted(pictures, loaded):
        count += 1
        expected = loaded.network(normalize(image, loaded.preprocessing))
        for name, form in all_forms.items():
            logits = form(image).float()
            agreed[name] += (logits.argmax(1) == expected.argmax(1)).float().mean().item()
            change = (logits.softmax(1) - expected.softmax(1)).abs().max().item()
            worst[name] = max(worst[name], change)
    for name in all_forms:
        yield (
            f"| {loaded.name} | {count} {kind} | {name} | "
            f"{agreed[name] / count:.3%} | {worst[name]:.1e} |"
        )


def printed(lines: Iterator[str]) -> Iterator[str]:
    """Print each line, and pass it on."""
    for line in lines:
        print(line, flush=True)
        yield line


def main(*arguments: str) -> None:
    """Print the table and write it."""
    lines = [
        "# Agreement with the plain network in float32",
        "",
        f"{machine.cpu()}. Agreement of the best label: of an image for classifiers, of each pixel "
        "of the logits for segmenters; and the largest difference of a score.",
        "",
        "| checkpoint | pictures | form | agreement | largest difference of a score |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for task in ("classify", "segment"):
        scenes = (Image.fromarray(draw_scene(UNSEEN_SEED, i).image) for i in range(SCENES))
        lines += printed(compare(checkpoint.bundled(task), scenes, "scenes"))
    if arguments:
        source, *photos = arguments
        lines += printed(compare(source, map(Image.open, photos), "photographs"))
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
