"""The label map kernel on CUDA, or on a CPU with TRITON_INTERPRET=1 if Triton is installed."""

import os

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from models.label_map import label_map

pytest.importorskip("triton", reason="needs Triton, which torch for CUDA brings")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
on_cuda = pytest.mark.skipif(not torch.cuda.is_available() or INTERPRETED, reason="needs CUDA")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() and not INTERPRETED, reason="needs CUDA or TRITON_INTERPRET=1"
    ),
]


@pytest.fixture
def fused():
    """The kernel; its module is imported after the environment variable is set."""
    from models.label_map_triton import fused_label_map

    return fused_label_map


def noise(num_labels: int, h: int, w: int) -> Tensor:
    generator = torch.Generator().manual_seed(num_labels)
    return torch.randn(num_labels, h, w, generator=generator).to(DEVICE)


@pytest.mark.parametrize("num_labels", [1, 2, 7, 60])
@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (4, 1), (3, 4)])
@pytest.mark.parametrize("size", [(1, 1), (3, 4), (20, 33), (1, 50), (2, 3)])
def test_equals_the_torch_version_for_all_ratios(fused, num_labels, grid, size):
    logits = noise(num_labels, *grid)
    found, expected = fused(logits, size), label_map(logits, size)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_any_dtype_and_memory_layout_is_accepted(fused, dtype):
    logits = noise(20, 3, 4).to(dtype)
    expected = label_map(logits, (17, 30))
    side_by_side = logits.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for values in (logits, side_by_side, torch.stack([logits, -logits])[0]):
        assert torch.equal(fused(values, (17, 30)), expected)


def test_the_lowest_class_comes_first_among_equals(fused):
    logits = noise(9, 3, 3).round()  # integers, and positions in eighths: all results are exact
    resized = interpolate(logits[None], (24, 24), mode="bilinear", align_corners=False)[0]
    assert torch.equal(fused(logits, (24, 24)).long(), resized.argmax(0))
    assert not fused(torch.zeros_like(logits), (24, 24)).any()


def test_more_than_256_labels_are_int16(fused):
    logits = noise(300, 2, 2)
    found = fused(logits, (9, 9))
    assert found.dtype == torch.int16
    assert torch.equal(found, label_map(logits, (9, 9)))


def test_more_than_1024_labels_are_refused(fused):
    with pytest.raises(ValueError, match="1025 labels"):
        fused(torch.zeros(1025, 1, 1, device=DEVICE), (2, 2))


@on_cuda
@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("size", [(480, 640), (1500, 2000), (3000, 4000), (77, 100)])
def test_equals_the_torch_version_on_a_128x128_grid(fused, smooth, size):
    logits = noise(150, 128, 128)
    if smooth:
        logits = interpolate(logits[None, :, :16, :16], (128, 128), mode="bicubic")[0]
    agreement = (fused(logits, size) == label_map(logits, size)).double().mean()
    assert agreement >= 0.999999
