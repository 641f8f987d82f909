import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

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
GRIDS = [(1, 1), (1, 9), (7, 1), (2, 2), (13, 32), (32, 32)]
SIZES = [(1, 1), (1, 50), (5, 5), (13, 32), (31, 33), (64, 96), (97, 65), (3, 200)]


def resized_argmax(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Compute what post_process_semantic_segmentation of transformers does with one image."""
    resized = interpolate(logits[None], size, mode="bilinear", align_corners=False)
    return resized[0].argmax(0)


def regions(num_labels: int, h: int, w: int, seed: int = 0) -> Tensor:
    """Logits like a trained network's: smooth regions a few positions wide."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, num_labels, max(1, h // 8), max(1, w // 8), generator=generator)
    return 3 * interpolate(coarse, (h, w), mode="bicubic")[0]


def noise(num_labels: int, h: int, w: int, seed: int = 0) -> Tensor:
    return torch.randn(num_labels, h, w, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("make", "num_labels", "size"),
    [
        (regions, 150, (480, 640)),
        (regions, 300, (333, 517)),
        (regions, 150, (128, 128)),
        (regions, 150, (77, 100)),
        (noise, 150, (333, 517)),
        (noise, 300, (77, 100)),
    ],
)
def test_equals_resize_and_argmax_on_a_128x128_grid(make, num_labels, size, device):
    logits = make(num_labels, 128, 128).to(device)
    values = interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]
    labels, plain = label_map(logits, size).long(), values.argmax(0)
    assert (labels == plain).double().mean() >= 0.9999
    difference = values.gather(0, plain[None]) - values.gather(0, labels[None])
    assert difference.max() <= 2e-6 * logits.abs().max()  # equal up to rounding


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("make", [regions, noise])
def test_equals_resize_and_argmax_for_all_ratios(make, grid, device):
    for size, num_labels in product(SIZES, (1, 2, 7, 60)):
        logits = make(num_labels, *grid).to(device)
        assert torch.equal(label_map(logits, size).long(), resized_argmax(logits, size))


@pytest.mark.parametrize("size", [(97, 65), (64, 96), (32, 32), (9, 17)])
def test_for_tied_classes_a_tied_class_wins(size):
    logits = noise(40, 32, 32).round()  # integers: many classes tie between the positions
    resized = interpolate(logits[None].double(), size, mode="bilinear")[0]
    winners = resized.gather(0, label_map(logits, size)[None].long())[0]
    torch.testing.assert_close(winners, resized.amax(0), rtol=0, atol=1e-5)


def test_the_lowest_class_comes_first_among_equals():
    assert not label_map(torch.zeros(5, 8, 8), (40, 40)).any()
    doubled = regions(6, 16, 16).repeat(2, 1, 1)  # classes k and k + 6 are equal everywhere
    labels = label_map(doubled, (100, 90))
    assert torch.equal(labels.long(), resized_argmax(doubled, (100, 90)))
    assert labels.max() < 6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_resized_in_float32(dtype):
    logits = regions(150, 64, 64).to(dtype)
    expected = resized_argmax(logits.float(), (300, 400))
    assert (label_map(logits, (300, 400)) == expected).double().mean() >= 0.9999


@pytest.mark.parametrize(("num_labels", "dtype"), [(256, torch.uint8), (257, torch.int16)])
def test_up_to_256_labels_are_uint8(num_labels, dtype):
    logits = torch.zeros(num_labels, 2, 2)
    logits[-1] = 1
    labels = label_map(logits, (4, 6))
    assert labels.dtype == dtype
    assert (labels == num_labels - 1).all()


def test_more_than_32768_labels_are_refused():
    with pytest.raises(ValueError, match="32769 labels"):
        label_map(torch.zeros(32769, 1, 1), (1, 1))


def test_any_layout_is_accepted_and_the_logits_are_not_modified():
    logits = regions(20, 32, 48).permute(1, 2, 0).contiguous().permute(2, 0, 1).requires_grad_()
    before = logits.detach().clone()
    labels = label_map(logits, (200, 300))
    assert torch.equal(labels.long(), resized_argmax(before, (200, 300)))
    assert torch.equal(logits, before)
    assert logits.grad is None


def test_concurrent_calls_do_not_affect_each_other():
    jobs = [(regions(30, 32, 32, seed), (150 + seed, 220 - seed)) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        for (logits, size), labels in zip(
            jobs, pool.map(lambda job: label_map(*job), jobs), strict=True
        ):
            assert torch.equal(labels.long(), resized_argmax(logits, size))


PEAK = """
import sys, torch
from pathlib import Path
from torch.nn.functional import interpolate
from models.label_map import label_map

def resident(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024

torch.set_num_threads(1)
torch.manual_seed(0)
logits = torch.randn(150, 128, 128)
if sys.argv[1] == "regions":
    logits = 3 * interpolate(torch.randn(1, 150, 16, 16), (128, 128), mode="bicubic")[0]
label_map(logits[:8], (64, 64))  # torch's one-time allocations
Path("/proc/self/clear_refs").write_text("5")  # reset the peak
before = resident("VmRSS")
label_map(logits, (3000, 4000))
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["regions", pytest.param("noise", marks=pytest.mark.slow)])
def test_a_label_map_of_12_megapixels_needs_less_than_120_mb(kind):
    command = [sys.executable, "-c", PEAK, kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 120  # MB; the map has 12 MB, and resizing every class takes 7041 MB
