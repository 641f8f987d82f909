"""The quality of a network on held-out examples."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.label_map import label_map
from models.preprocessing import NEAREST, Preprocessing, normalize
from models.registry import Network
from models.training.confusion import TOP, Confusion
from models.training.data.examples import IGNORED, Dataset, Example, LabelMap
from models.training.data.loader import as_served

Watch = Callable[[int, int], None]  # receives the number of measured examples and of all examples
Pair = tuple[NDArray[np.integer], NDArray[np.integer]]  # truth and prediction; see `predictions`


def measure(
    network: Network,
    dataset: Dataset,
    labels: tuple[str, ...],
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    at_input_size: bool = False,
    watch: Watch = lambda done, total: None,
) -> Confusion:
    """Count the predictions for the examples: images to classify, pixels to segment.

    Images are resized as the service does it, neither augmented nor shuffled. Label maps are
    compared at the size of the truth, or at the network's input size. Pixels labeled 255 do not
    count.
    """
    pixels: Confusion | None = None
    images: list[Pair] = []
    pairs = predictions(network, dataset, preprocessing, batch_size, at_input_size=at_input_size)
    for done, (truth, predicted) in enumerate(pairs, start=1):
        if truth.ndim == 1:
            images.append((truth, predicted))
        else:
            counted = truth != IGNORED
            one = Confusion.of(labels, truth[counted], predicted[counted])
            pixels = one if pixels is None else pixels + one
        if done % batch_size == 0 or done == len(dataset):
            watch(done, len(dataset))
    if pixels is not None:
        return pixels
    truths, ranked = zip(*images, strict=True)
    return Confusion.of_images(labels, np.concatenate(truths), np.stack(ranked))


@torch.no_grad()
def predictions(
    network: Network,
    dataset: Dataset,
    preprocessing: Preprocessing,
    batch_size: int,
    *,
    at_input_size: bool = False,
) -> Iterator[Pair]:
    """Yield the truth and the prediction of each example.

    They are the label (1,) and the best labels (TOP or fewer,), best first; or two label maps.
    """
    device = next(network.parameters()).device
    for examples in as_served(dataset, preprocessing, batch_size):
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image, _ in examples]))
        logits = network(normalize(pixels.to(device), preprocessing))  # (B, K) or (B, K, h, w)
        for example, one in zip(examples, logits, strict=True):
            truth = truth_of(example, at_input_size=at_input_size)
            best = ranking(one) if one.ndim == 1 else label_map(one, truth.shape)
            yield truth, best.cpu().numpy()


def ranking(logits: Tensor) -> Tensor:
    """Return the best labels (TOP or fewer,); of equal logits (K,), the first one comes first."""
    return logits.argsort(descending=True, stable=True)[:TOP]


def truth_of(example: Example, *, at_input_size: bool) -> LabelMap:
    """Return the label as an array of one, or the label map, optionally at the image's size."""
    image, truth = example
    if isinstance(truth, int):
        return np.array([truth])
    if not at_input_size:
        return truth
    return np.asarray(Image.fromarray(truth).resize(image.size, Image.Resampling(NEAREST)))
