"""The confidence of a label map, compared with a resize of the probabilities of every class."""

import subprocess
import sys
from itertools import accumulate, product

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from models.confidence import confidence, probability_strips
from models.label_map import label_map

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        ],
    ),
]
TOLERANCE = 1e-6
GRIDS = [(1, 1), (1, 9), (7, 1), (2, 2), (13, 32), (32, 32)]
SIZES = [(1, 1), (1, 50), (5, 5), (13, 32), (31, 33), (97, 65), (3, 200), (300, 1)]


def regions(num_labels: int, h: int, w: int, scale: float = 3.0) -> Tensor:
    """Logits like a trained network's: smooth regions a few positions wide."""
    coarse = torch.randn(1, num_labels, max(1, h // 8), max(1, w // 8))
    return scale * interpolate(coarse, (h, w), mode="bicubic")[0]


def noise(num_labels: int, h: int, w: int) -> Tensor:
    return torch.randn(num_labels, h, w)


def resized_probabilities(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax on the grid, resized for every class, read at the label map: (H, W).

    The softmax is float64: over the first dimension, torch adds 1000 float32 classes one after the
    other, which is wrong by up to 3e-6.
    """
    probabilities = logits.double().softmax(0).float()[None]
    resized = interpolate(probabilities, labels.shape, mode="bilinear", align_corners=False)[0]
    return resized.gather(0, labels.long()[None])[0]


def class_means(probabilities: Tensor, labels: Tensor, num_labels: int) -> Tensor:
    """The mean of each class in float64; nan for a class without pixels."""
    flat, classes = probabilities.flatten().double(), labels.flatten().long()
    return torch.stack([flat[classes == index].mean() for index in range(num_labels)])


def assert_equal_to_a_direct_computation(logits: Tensor, size: tuple[int, int]) -> None:
    labels = label_map(logits, size)
    expected = resized_probabilities(logits, labels)
    strips = list(probability_strips(logits, labels))
    ends = list(accumulate((len(strip) for _, strip in strips), initial=0))
    assert [first for first, _ in strips] == ends[:-1]
    torch.testing.assert_close(
        torch.cat([strip for _, strip in strips]), expected, rtol=0, atol=TOLERANCE
    )

    found = confidence(logits, labels)
    counts = labels.flatten().long().bincount(minlength=len(logits))
    assert found.sums.dtype == torch.float64
    torch.testing.assert_close(
        found.sums / counts,
        class_means(expected, labels, len(logits)),
        rtol=0,
        atol=TOLERANCE,
        equal_nan=True,
    )
    assert found.pixels.dtype == torch.uint8
    assert found.pixels.shape == labels.shape
    assert (found.pixels - 255 * expected).abs().max() <= 0.5 + 255 * TOLERANCE


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("make", [regions, noise])
def test_equals_softmax_resize_and_gather_for_all_ratios(make, grid, device):
    for size, num_labels in product(SIZES, (1, 2, 7)):
        assert_equal_to_a_direct_computation(make(num_labels, *grid).to(device), size)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("make", "num_labels", "size"),
    [
        (regions, 150, (480, 640)),
        (noise, 150, (333, 517)),
        (regions, 300, (333, 517)),
        (noise, 1000, (77, 100)),
        (regions, 2, (1001, 77)),
    ],
)
def test_equals_softmax_resize_and_gather_on_a_128x128_grid(make, num_labels, size, device):
    assert_equal_to_a_direct_computation(make(num_labels, 128, 128).to(device), size)


@pytest.mark.parametrize("size", [(480, 640), (333, 517), (100, 90)])
@pytest.mark.parametrize("scale", [30.0, 1e4, 1e30])
def test_sharp_and_extreme_logits_are_exact(scale, size):
    """From one grid position to the next the probability goes from 0 to 1, which is the worst."""
    logits = scale * torch.randn(20, 128, 128)
    assert_equal_to_a_direct_computation(logits, size)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    assert_equal_to_a_direct_computation(regions(150, 64, 64).to(dtype), (301, 400))


def test_many_strips_equal_one(monkeypatch):
    logits = regions(20, 33, 47)
    labels = label_map(logits, (150, 211))
    ((_, whole),) = probability_strips(logits, labels)
    for strip in ((1, 1), (700, 1 << 20), (1 << 20, 5000)):
        monkeypatch.setattr("models.confidence._STRIP", {"cpu": strip})
        pieces = list(probability_strips(logits, labels))
        assert len(pieces) > 5
        assert torch.equal(torch.cat([piece for _, piece in pieces]), whole)


def test_of_one_class_every_pixel_is_certain():
    found = confidence(noise(1, 8, 8), torch.zeros(30, 20, dtype=torch.uint8))
    assert found.sums.tolist() == [600]
    assert (found.pixels == 255).all()


def test_of_equal_classes_each_has_its_share():
    logits = torch.zeros(5, 8, 8)
    found = confidence(logits, label_map(logits, (40, 41)))
    torch.testing.assert_close(found.sums[0].item(), 40 * 41 / 5, rtol=1e-7, atol=0)
    assert not found.sums[1:].any()
    assert (found.pixels == 51).all()


def test_the_class_is_that_of_the_label_map_even_where_another_is_more_probable():
    """The logits of a pixel and its probabilities are resized separately, so this happens."""
    logits = torch.tensor([[[10.0, 0.0]], [[0.0, 0.0]]])  # class 0, and a tie on the right
    labels = torch.ones(1, 4, dtype=torch.uint8)
    expected = resized_probabilities(logits, labels)
    ((_, strip),) = probability_strips(logits, labels)
    torch.testing.assert_close(strip, expected, rtol=0, atol=TOLERANCE)
    assert strip[0, 0] < 1e-4


def test_any_layout_is_accepted_and_the_logits_are_not_modified():
    logits = regions(20, 32, 48).permute(1, 2, 0).contiguous().permute(2, 0, 1).requires_grad_()
    before = logits.detach().clone()
    assert_equal_to_a_direct_computation(logits.detach(), (200, 300))
    found = confidence(logits, label_map(logits, (200, 300)))
    assert torch.equal(logits, before)
    assert not found.sums.requires_grad


PEAK = """
import sys, torch
from pathlib import Path
from models.confidence import confidence
from models.label_map import label_map

def resident(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024

torch.set_num_threads(1)
torch.manual_seed(0)
logits = torch.randn(150, 128, 128)
labels = torch.randint(150, (3000, 4000), dtype=torch.uint8)
confidence(logits[:8], label_map(logits[:8], (64, 64)))  # torch's one-time allocations
Path("/proc/self/clear_refs").write_text("5")  # reset the peak
before = resident("VmRSS")
confidence(logits, labels)
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_confidence_of_12_megapixels_needs_less_than_80_mb():
    command = [sys.executable, "-c", PEAK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 80  # MB; the pixels have 12 MB
