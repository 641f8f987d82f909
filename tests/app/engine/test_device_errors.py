"""Errors of a device: out of memory, a lost device, and all others."""

import pytest
import torch

from app.engine.device_errors import translate_device_errors, why_lost
from app.engine.interface import DeviceLost, OutOfMemory

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB\nmore"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_every_kind_of_memory_error_becomes_out_of_memory(error):
    with pytest.raises(OutOfMemory) as raised, translate_device_errors(CPU):
        raise error
    assert "\n" not in str(raised.value)
    assert raised.value.__cause__ is error


def test_a_real_allocation_that_is_too_large_becomes_out_of_memory():
    with pytest.raises(OutOfMemory), translate_device_errors(CPU):
        torch.empty(2**50, dtype=torch.uint8)


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), ValueError("no"), KeyError(1)])
def test_other_errors_are_raised_unchanged(error):
    with pytest.raises(type(error)) as raised, translate_device_errors(CPU):
        raise error
    assert raised.value is error


@pytest.fixture
def cuda_errors(monkeypatch) -> list[RuntimeError]:
    """Errors that the next synchronisation with a GPU raises."""
    errors: list[RuntimeError] = []

    def synchronize(device: torch.device) -> None:
        for error in errors:
            raise error

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    return errors


def test_an_error_while_the_gpu_works_is_raised_unchanged(cuda_errors):
    with pytest.raises(RuntimeError, match="mismatch"), translate_device_errors(CUDA):
        raise RuntimeError("size mismatch")


def test_a_gpu_whose_synchronisation_fails_is_lost(cuda_errors):
    cuda_errors.append(RuntimeError("CUDA error: an illegal memory access\nCompile with ..."))
    with (
        pytest.raises(DeviceLost, match=r"^CUDA error: an illegal memory access$"),
        translate_device_errors(CUDA),
    ):
        raise RuntimeError("CUDA error")


def test_a_cpu_is_never_lost():
    assert why_lost(CPU) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_works_after_out_of_memory():
    device = torch.device("cuda")
    free, _ = torch.cuda.mem_get_info(device)
    with pytest.raises(OutOfMemory), translate_device_errors(device):
        torch.empty(2 * free, dtype=torch.uint8, device=device)
    with translate_device_errors(device):
        assert torch.ones(4, device=device).sum().item() == 4
