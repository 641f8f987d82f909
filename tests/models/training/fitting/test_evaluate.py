import numpy as np
import torch
from PIL import Image

from models.preprocessing import Preprocessing
from models.training.data.examples import Example
from models.training.fitting.evaluate import measure, ranking, truth_of

SIDE = 8
LABELS = ("a", "b", "c")


class RedChannel(torch.nn.Module):
    """Predicts the values of the red channel: of each pixel, or of the first pixel."""

    def __init__(self, num_labels: int, *, dense: bool) -> None:
        super().__init__()
        self.num_labels, self.dense = num_labels, dense
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        labels = pixels[:, 0].round().long()  # (B, H, W)
        logits = torch.nn.functional.one_hot(labels, self.num_labels).float().permute(0, 3, 1, 2)
        return logits if self.dense else logits[:, :, 0, 0]


class Listed:
    def __init__(self, examples: list[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def read(self, index: int) -> Example:
        return self.examples[index]


RAW = Preprocessing(size=(SIDE, SIDE), resample=0, rescale_factor=None, mean=None, std=None)


def red(labels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.stack([labels] * 3, axis=2).astype(np.uint8))


def test_predictions_of_a_classifier_are_counted_by_image():
    predicted, truth = [0, 1, 2, 1, 1], [0, 1, 2, 2, 1]
    examples = [
        Example(red(np.full((SIDE, SIDE), p)), t) for p, t in zip(predicted, truth, strict=True)
    ]
    reports = []
    confusion = measure(
        RedChannel(3, dense=False),
        Listed(examples),
        LABELS,
        RAW,
        batch_size=2,
        watch=lambda *progress: reports.append(progress),
    )
    assert confusion.counts.tolist() == [[1, 0, 0], [0, 2, 0], [0, 1, 1]]
    assert reports == [(2, 5), (4, 5), (5, 5)]


def test_predictions_of_a_segmenter_are_counted_at_the_size_of_the_truth():
    truth = np.repeat(np.array([[0, 1], [2, 1]], np.uint8), 16, 0).repeat(16, 1)  # 32 x 32
    ignored = truth.copy()
    ignored[:4] = 255
    data = Listed([Example(red(truth), ignored)])
    confusion = measure(RedChannel(3, dense=True), data, LABELS, RAW, batch_size=2)
    assert confusion.total == 28 * 32
    assert confusion.accuracy > 0.85
    small = measure(RedChannel(3, dense=True), data, LABELS, RAW, batch_size=2, at_input_size=True)
    assert small.total == 7 * SIDE
    assert small.accuracy == 1


def test_the_five_best_of_more_labels_are_counted_too():
    best = torch.tensor([[9.0, 1, 5, 5, 7, 6, 0], [0, 1, 2, 3, 4, 5, 6]])
    assert [ranking(logits).tolist() for logits in best] == [[0, 4, 5, 2, 3], [6, 5, 4, 3, 2]]
    examples = [Example(red(np.full((SIDE, SIDE), 6)), t) for t in (6, 0, 3, 4)]
    # of the equal logits of all other labels, the first ones are the next best
    network = RedChannel(7, dense=False)
    confusion = measure(network, Listed(examples), tuple("abcdefg"), RAW, batch_size=4)
    assert confusion.summary("classify") == {"accuracy": 0.25, "top_5_accuracy": 0.75}


def test_the_truth_is_resized_by_nearest_pixels():
    truth = np.arange(16, dtype=np.uint8).reshape(4, 4)
    example = Example(Image.new("RGB", (2, 2)), truth)
    assert truth_of(example, at_input_size=True).tolist() == [[5, 7], [13, 15]]
    assert truth_of(example, at_input_size=False) is truth
