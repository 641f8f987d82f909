import numpy as np
import pytest
import torch
from PIL import Image

from models.preprocessing import Preprocessing
from models.training.data.sources import open_data
from models.training.fitting.snapshots import PROGRESS, SIDE, Snapshots, palette

PREPROCESSING = Preprocessing(size=(16, 16), mean=None, std=None)


class Constant(torch.nn.Module):
    """Predicts the same label for all pixels."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.eye(2)[label])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.logits[None, :, None, None].expand(len(pixels), 2, 4, 4)


@pytest.fixture
def snapshots(masked_folder, tmp_path) -> Snapshots:
    data = open_data(str(masked_folder(tmp_path / "data", 6)), "segment", seed=1)
    return Snapshots.of(data.train, PREPROCESSING, last=7)


def test_only_some_epochs_and_the_last_are_kept(snapshots):
    for epoch in range(1, 8):
        snapshots.take(epoch, Constant(epoch % 2))
    assert list(snapshots.taken) == [1, 2, 5, 7]
    assert snapshots.taken[2].shape == (4, 16, 16)
    assert not snapshots.taken[2].any()
    assert snapshots.taken[5].all()


def test_the_image_has_a_row_per_example_and_a_column_per_epoch(snapshots, tmp_path):
    snapshots.take(1, Constant(0))
    snapshots.take(7, Constant(1))
    snapshots.draw(tmp_path)
    with Image.open(tmp_path / PROGRESS) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] // SIDE == 4
    assert pixels.shape[0] // SIDE == 4
    middle = pixels[26 + SIDE // 2, [8 + k * (SIDE + 4) + SIDE // 2 for k in (2, 3)]]
    assert middle.tolist() == palette()[:2].tolist()


def test_snapshots_continue_after_an_interruption(snapshots):
    snapshots.take(1, Constant(1))
    other = Snapshots(snapshots.examples, PREPROCESSING, last=7)
    other.restore(snapshots.state())
    assert torch.equal(other.taken[1], snapshots.taken[1])


def test_every_label_has_a_color_and_neighbors_differ():
    colors = palette()
    assert colors.shape == (256, 3)
    assert len(np.unique(colors, axis=0)) > 200
    assert (np.abs(np.diff(colors.astype(int), axis=0)).sum(1) > 40).all()
