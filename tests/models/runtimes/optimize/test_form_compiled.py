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


@pytest.mark.parametrize("name", ["plain", "SegFormer"])
@torch.inference_mode()
def test_every_part_is_compiled_for_all_sizes(name, network, monkeypatch, assert_equal_logits):
    """torch.compile returns the part itself here."""
    compiled = []

    def compile_(part, **options):
        compiled.append(options)
        return part

    monkeypatch.setattr(torch, "compile", compile_)
    plain = network(name)
    pixels = torch.randn(2, 3, 32, 48)
    assert_equal_logits(compile_parts(fold(plain), backend="eager")(pixels), plain(pixels))
    parts = 2 if name == "SegFormer" else 1
    assert compiled == [{"dynamic": True, "backend": "eager"}] * parts
