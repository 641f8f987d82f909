"""The quality of a network on held-out examples: its answers counted against the truth.

Does not know how the network came about, nor who asks.
"""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from models.label_map import label_map
from models.preprocessing import NEAREST, Preprocessing, normalize
from models.registry import Network
from models.training.confusion import Confusion
from models.training.data.examples import IGNORED, Data, Example, LabelMap
from models.training.data.loader import as_served

Watch = Callable[[int, int], None]  # hears how many are measured, and of how many


@torch.no_grad()
def measure(
    network: Network,
    data: Data,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    at_input_size: bool = False,
    watch: Watch = lambda done, total: None,
) -> Confusion:
    """Count the answers to the held-out examples: by picture to classify, by pixel to segment.

    Pictures are neither augmented nor shuffled, but brought to the input size as the service does
    it; label maps are asked for at the size of the truth, or both at the input size. What is
    labelled 255 does not count.
    """
    device = next(network.parameters()).device
    count = len(data.labels)
    total, done = Confusion(data.labels, np.zeros((count, count), np.int64)), 0
    for examples in as_served(data.held_out, preprocessing, batch_size):
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image, _ in examples]))
        logits = network(normalize(pixels.to(device), preprocessing))  # (B, K) or (B, K, h, w)
        for example, one in zip(examples, logits, strict=True):
            truth = truth_of(example, at_input_size=at_input_size)
            answer = one.argmax(0, keepdim=True) if one.ndim == 1 else label_map(one, truth.shape)
            counted = truth != IGNORED if one.ndim > 1 else slice(None)
            total += Confusion.of(data.labels, truth[counted], answer.cpu().numpy()[counted])
        done += len(examples)
        watch(done, len(data.held_out))
    return total


def truth_of(example: Example, *, at_input_size: bool) -> LabelMap:
    """The label as an array of one, or the label map, maybe at the size of the picture."""
    image, truth = example
    if isinstance(truth, int):
        return np.array([truth])
    if not at_input_size:
        return truth
    return np.asarray(Image.fromarray(truth).resize(image.size, Image.Resampling(NEAREST)))
