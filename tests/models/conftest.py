"""Fixtures for comparisons with the models of transformers."""

from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture(autouse=True, scope="session")
def _without_progress_bars() -> None:
    """Silence transformers where it is installed; some tests run without it."""
    if find_spec("transformers") is not None:
        import transformers

        transformers.utils.logging.disable_progress_bar()


@pytest.fixture
def perturb() -> Callable[[nn.Module], None]:
    """Fill a network with random weights, including biases, norms and their statistics."""

    def fill(module: nn.Module, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in module.state_dict().items():
            noise = torch.randn(tensor.shape, generator=generator) if tensor.ndim else 0.0
            if name.endswith("running_var"):
                tensor.copy_(noise.abs() + 0.5)
            elif tensor.ndim == 1:
                tensor.copy_(0.1 * noise + (1.0 if name.endswith("weight") else 0.0))
            elif name.endswith(("cls_token", "distillation_token", "position_embeddings")):
                tensor.copy_(0.5 * noise)
            elif tensor.ndim > 1:
                tensor.copy_(noise / tensor[0].numel() ** 0.5)

    return torch.no_grad()(fill)


@pytest.fixture
def assert_equal_logits() -> Callable[[Tensor, Tensor], None]:
    """Compare our logits with the reference: the error is at most 2e-5 of the largest logit."""

    def check(ours: Tensor, theirs: Tensor) -> None:
        assert ours.shape == theirs.shape
        error = (ours - theirs).abs().max().item()
        scale = max(1.0, theirs.abs().max().item())
        print(f"largest error {error:.2e} at {scale:.2f}")  # noqa: T201 - for pytest -rP
        assert error <= 2e-5 * scale

    return check
