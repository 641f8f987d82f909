"""The quality of a network on held-out examples."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from models.label_map import label_map
from models.preprocessing import NEAREST, Preprocessing, normalize
from models.registry import Network
from models.training.confusion import Confusion
from models.training.data.examples import IGNORED, Data, Dataset, Example, LabelMap
from models.training.data.loader import as_served

Watch = Callable[[int, int], None]  # receives the number of measured examples and of all examples
Pair = tuple[NDArray[np.integer], NDArray[np.integer]]  # truth and prediction, (1,) or (H, W)


def measure(
    network: Network,
    data: Data,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    at_input_size: bool = False,
    watch: Watch = lambda done, total: None,
) -> Confusion:
    """Count the predictions for the held-out examples: images to classify, pixels to segment.

    Images are resized as the service does it, neither augmented nor shuffled. Label maps are
    compared at the size of the truth, or at the network's input size. Pixels labeled 255 do not
    count.
    """
    count, held_out = len(data.labels), data.held_out
    total = Confusion(data.labels, np.zeros((count, count), np.int64))
    pairs = predictions(network, held_out, preprocessing, batch_size, at_input_size=at_input_size)
    for done, (truth, predicted) in enumerate(pairs, start=1):
        counted = truth != IGNORED if truth.ndim > 1 else slice(None)
        total += Confusion.of(data.labels, truth[counted], predicted[counted])
        if done % batch_size == 0 or done == len(held_out):
            watch(done, len(held_out))
    return total


@torch.no_grad()
def predictions(
    network: Network,
    dataset: Dataset,
    preprocessing: Preprocessing,
    batch_size: int,
    *,
    at_input_size: bool = False,
) -> Iterator[Pair]:
    """Yield the truth and the prediction of each example: an array of one label, or a label map."""
    device = next(network.parameters()).device
    for examples in as_served(dataset, preprocessing, batch_size):
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image, _ in examples]))
        logits = network(normalize(pixels.to(device), preprocessing))  # (B, K) or (B, K, h, w)
        for example, one in zip(examples, logits, strict=True):
            truth = truth_of(example, at_input_size=at_input_size)
            best = one.argmax(0, keepdim=True) if one.ndim == 1 else label_map(one, truth.shape)
            yield truth, best.cpu().numpy()


def truth_of(example: Example, *, at_input_size: bool) -> LabelMap:
    """Return the label as an array of one, or the label map, optionally at the image's size."""
    image, truth = example
    if isinstance(truth, int):
        return np.array([truth])
    if not at_input_size:
        return truth
    return np.asarray(Image.fromarray(truth).resize(image.size, Image.Resampling(NEAREST)))
