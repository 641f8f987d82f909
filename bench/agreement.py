"""Measures how often bfloat16, and OpenVINO, say the same as the plain network in float32.

    python -m bench.agreement [CHECKPOINT PHOTO...]

The bundled checkpoints on scenes they have not seen; one given with photographs, on these.
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
    """Each way to run the network on bytes."""
    found: dict[str, Form] = {}
    for dtype in (torch.float32, torch.bfloat16):
        name, preprocessing = str(dtype).removeprefix("torch."), loaded.preprocessing
        found[name] = optimize(loaded.network, dtype=dtype, normalization=preprocessing)
        if available():
            form = OpenVINOForm(loaded.network, dtype=dtype, normalization=preprocessing)
            found[f"OpenVINO {name}"] = form
    return found


def fitted(pictures: Iterator[Image.Image], loaded: Checkpoint) -> Iterator[Tensor]:
    """Each picture as the network takes it, uint8 (1, H, W, 3)."""
    for picture in pictures:
        yield torch.from_numpy(np.asarray(fit(to_rgb(picture), loaded.preprocessing)).copy())[None]


@torch.inference_mode()
def compare(source: str | Path, pictures: Iterator[Image.Image], what: str) -> Iterator[str]:
    """The table's lines of one checkpoint."""
    loaded = checkpoint.load(source)
    ways = forms(loaded)
    agreed, worst = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    count = 0
    for image in fitted(pictures, loaded):
        count += 1
        truth = loaded.network(normalize(image, loaded.preprocessing))
        for name, form in ways.items():
            logits = form(image).float()
            agreed[name] += (logits.argmax(1) == truth.argmax(1)).float().mean().item()
            change = (logits.softmax(1) - truth.softmax(1)).abs().max().item()
            worst[name] = max(worst[name], change)
    for name in ways:
        yield (
            f"| {loaded.name} | {count} {what} | {name} | "
            f"{agreed[name] / count:.3%} | {worst[name]:.1e} |"
        )


def main(*arguments: str) -> None:
    """Print the table and keep it."""
    lines = [
        "# Agreement with the plain network in float32",
        "",
        f"{machine.cpu()}. Of classifiers the best label, of segmenters that of each pixel of the "
        "logits; and the largest difference of a score.",
        "",
        "| checkpoint | pictures | form | the same | a score off by at most |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for task in ("classify", "segment"):
        scenes = (Image.fromarray(draw_scene(UNSEEN_SEED, i).image) for i in range(SCENES))
        lines += compare(checkpoint.bundled(task), scenes, "scenes")
        print("\n".join(lines[-4:]), flush=True)
    if arguments:
        source, *photos = arguments
        lines += compare(source, map(Image.open, photos), "photographs")
        print("\n".join(lines[-4:]))
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
