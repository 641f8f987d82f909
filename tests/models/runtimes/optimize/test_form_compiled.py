import pytest
import torch

from models.runtimes.optimize import fold
from models.runtimes.optimize.form import compile_parts


@pytest.mark.slow  # tracing takes seconds per block
@pytest.mark.parametrize(
    "name", ["plain", "SegFormer", "SegFormer of one stage", "SegFormer classifier"]
)
@torch.inference_mode()
def test_compiled_parts_keep_the_logits(name, network, assert_equal_logits):
    plain = network(name)
    form = compile_parts(fold(plain), backend="eager")
    for size in ((32, 48), (64, 80)):
        pixels = torch.randn(2, 3, *size)
        assert_equal_logits(form(pixels), plain(pixels))
