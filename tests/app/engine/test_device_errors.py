"""What a device's failures are taken for."""

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
    ],
)
def test_want_of_memory_is_told_by_its_name(error):
    with pytest.raises(OutOfMemory) as told, translate_device_errors(CPU):
        raise error
    assert "\n" not in str(told.value)
    assert told.value.__cause__ is error


def test_a_real_allocation_that_cannot_be_had_is_one():
    with pytest.raises(OutOfMemory), translate_device_errors(CPU):
        torch.empty(2**50, dtype=torch.uint8)


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), ValueError("no"), KeyError(1)])
def test_what_is_not_the_devices_fault_is_raised_as_it_is(error):
    with pytest.raises(type(error)) as told, translate_device_errors(CPU):
        raise error
    assert told.value is error


@pytest.fixture
def cuda(monkeypatch) -> list[RuntimeError]:
    """What a GPU says when it is asked for nothing."""
    says: list[RuntimeError] = []

    def synchronize(device: torch.device) -> None:
        for error in says:
            raise error

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    return says


def test_a_gpu_that_still_answers_is_not_at_fault(cuda):
    with pytest.raises(RuntimeError, match="mismatch"), translate_device_errors(CUDA):
        raise RuntimeError("size mismatch")


def test_a_gpu_that_fails_whatever_it_is_asked_is_lost(cuda):
    cuda.append(RuntimeError("CUDA error: an illegal memory access\nCompile with ..."))
    with (
        pytest.raises(DeviceLost, match=r"^CUDA error: an illegal memory access$"),
        translate_device_errors(CUDA),
    ):
        raise RuntimeError("CUDA error")


def test_a_cpu_is_never_lost():
    assert why_lost(CPU) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_without_memory_goes_on():
    device = torch.device("cuda")
    free, _ = torch.cuda.mem_get_info(device)
    with pytest.raises(OutOfMemory), translate_device_errors(device):
        torch.empty(2 * free, dtype=torch.uint8, device=device)
    with translate_device_errors(device):
        assert torch.ones(4, device=device).sum().item() == 4
