"""Compares the labels of the bfloat16 form on the device with the plain float32 network on the CPU.

Weights of ViT are random. The bundled classifier has trained weights and runs on generated scenes.
"""

import json
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.common import checkpoints
from bench.gpu_checks.options import Options, parsed
from bench.runtimes.execution import use_attention_of_service
from bench.serving import photographs
from models import checkpoint
from models.checkpoint import Checkpoint
from models.preprocessing import fit, normalize, to_rgb
from models.runtimes.optimize import optimize
from models.training.scenes.scene import UNSEEN_SEED, draw_scene

NETWORKS = ("ViT-Ti/16", "ViT-B/16")
SCENES, PHOTOGRAPHS = 1000, 100
TOP_K = 5


def random_checkpoint(name: str) -> Checkpoint:
    """Return a network with random weights as a checkpoint."""
    random = checkpoints.randomized(name).eval()
    labels = tuple(map(str, range(checkpoints.LABELS["ViT"])))
    return Checkpoint(random, labels, checkpoints.preprocessing(name), "classify")


def best(logits: Tensor) -> list[int]:
    """Return the indices of the best labels, best first."""
    return logits.topk(min(TOP_K, len(logits))).indices.tolist()


@torch.inference_mode()
def agreement(loaded: Checkpoint, pictures: Iterator[Image.Image], device: str) -> dict[str, float]:
    """Return the fractions with the same best label and the same best five labels."""
    preprocessing = loaded.preprocessing
    form = optimize(
        loaded.network, device=device, dtype=torch.bfloat16, normalization=preprocessing
    )
    same_best, same_five, largest, count = 0, 0, 0.0, 0
    for picture in pictures:
        image = torch.from_numpy(np.asarray(fit(to_rgb(picture), preprocessing)).copy())[None]
        expected = loaded.network(normalize(image, preprocessing))[0]
        logits = form(image.to(device))[0].float().cpu()
        ours, theirs = best(logits), best(expected)
        same_best += ours[0] == theirs[0]
        same_five += set(ours) == set(theirs)
        change = (logits.softmax(0) - expected.softmax(0)).abs().max().item()
        largest, count = max(largest, change), count + 1
    return {
        "images": count,
        "top-1 agreement": same_best / count,
        "top-5 agreement": same_five / count,
        "largest change of a score": largest,
    }


def results(options: Options) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the name and the figures of each network."""
    scenes, photos = (4, 2) if options.quick else (SCENES, PHOTOGRAPHS)
    bundled = checkpoint.load(checkpoint.bundled("classify"))
    pictures = (Image.fromarray(draw_scene(UNSEEN_SEED, i).image) for i in range(scenes))
    yield "bundled", agreement(bundled, pictures, options.device)
    for name in NETWORKS[:1] if options.quick else NETWORKS:
        drawn = (photographs.draw(seed) for seed in range(photos))
        yield name, agreement(random_checkpoint(name), drawn, options.device)


def main(arguments: Sequence[str] = ()) -> None:
    """Print the agreement of all networks."""
    options = parsed("precision", arguments)
    use_attention_of_service(options.device)
    print(json.dumps(dict(results(options))))


if __name__ == "__main__":
    main(sys.argv[1:])
