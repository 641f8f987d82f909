"""Compares scores of the service with scores of transformers, for a checkpoint and photographs.

    python -m bench.fidelity CHECKPOINT PHOTO...

A file named <something>_<class name> is a hit if one of the top 5 labels contains this name.
"""

import asyncio
import sys
from pathlib import Path

import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification
from transformers.image_utils import load_image

from bench.common.service import serving

TOP_K = 5


def reference(checkpoint: str, photos: list[Path]) -> list[torch.Tensor]:
    """Return the scores (num_labels,) of transformers for each photograph."""
    processor = AutoImageProcessor.from_pretrained(checkpoint, backend="pil")  # nosec B615  # local
    network = AutoModelForImageClassification.from_pretrained(checkpoint)  # nosec B615  # local
    with torch.inference_mode():
        return [
            network(**processor(load_image(str(photo)), return_tensors="pt")).logits[0].softmax(-1)
            for photo in photos
        ]


async def served(checkpoint: str, photos: list[Path]) -> list[list[dict[str, float | int | str]]]:
    """Return the predictions of the service for each photograph."""
    async with serving("--classifier", checkpoint, "--segmenter", "none") as client:
        responses = [
            await client.post(f"/classify?top_k={TOP_K}", content=photo.read_bytes())
            for photo in photos
        ]
    return [one.raise_for_status().json()["predictions"] for one in responses]


def main(checkpoint: str, *names: str) -> None:
    """Print a line for each photograph, the hits, and the largest difference of a score."""
    photos = [Path(name) for name in names]
    hits, worst = 0, 0.0
    pairs = zip(
        photos, asyncio.run(served(checkpoint, photos)), reference(checkpoint, photos), strict=True
    )
    for photo, predictions, scores in pairs:
        name = photo.stem.partition("_")[2].replace("_", " ").lower()
        hit = any(name in str(one["label"]).lower() for one in predictions)
        difference = max(
            abs(scores[int(p["index"])].item() - float(p["score"])) for p in predictions
        )
        hits, worst = hits + hit, max(worst, difference)
        best = predictions[0]
        print(f"{photo.name}: {best['label']} {best['score']:.4f}, difference {difference:.1e}")
    print(f"{hits} of {len(photos)} in the top {TOP_K}; largest difference {worst:.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
