"""Settings of an engine: device, number format, checkpoint source and input size."""

from contextlib import nullcontext

import pytest
import torch

from app.engine.placement import (
    configure_cuda,
    limit_gpu_memory,
    model_name,
    resolve_device,
    resolve_dtype,
    resolve_preprocessing,
    resolve_source,
)
from models import checkpoint
from models.checkpoint import CheckpointError


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_is_a_half_precision_that_the_gpu_computes_in(monkeypatch, native, dtype):
    def supported(*, including_emulation: bool) -> bool:
        return native or including_emulation

    monkeypatch.setattr("torch.cuda.is_bf16_supported", supported)
    monkeypatch.setattr("torch.cuda.device", nullcontext)
    assert resolve_dtype("auto", torch.device("cuda")) is dtype


@pytest.fixture
def backends(monkeypatch):
    """Flags of torch's backends for CUDA, which have their values again after the test."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    monkeypatch.setattr("torch.backends.cudnn.allow_tf32", True)
    torch.backends.cuda.enable_cudnn_sdp(True)
    yield torch.backends
    torch.backends.cuda.enable_cudnn_sdp(before)


@pytest.mark.parametrize(("dtype", "tf32"), [(torch.float32, False), (torch.bfloat16, True)])
def test_on_cuda_attention_needs_no_plans_and_float32_is_not_rounded(backends, dtype, tf32):
    configure_cuda(dtype)
    assert not backends.cuda.cudnn_sdp_enabled()
    assert backends.cudnn.allow_tf32 is tf32


@pytest.mark.parametrize(
    ("name", "share", "calls"),
    [("cuda:1", 0.25, [(0.25, 1)]), ("cuda", 0.5, [(0.5, None)]), ("cuda", 1.0, [])],
)
def test_memory_is_limited_only_on_a_shared_gpu(monkeypatch, name, share, calls):
    found = []
    monkeypatch.setattr(
        "torch.cuda.set_per_process_memory_fraction", lambda *arguments: found.append(arguments)
    )
    limit_gpu_memory(torch.device(name), share)
    assert found == calls


def test_auto_is_float32_on_a_cpu():
    assert resolve_dtype("auto", torch.device("cpu")) is torch.float32
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == "cpu"


def test_the_bundled_checkpoints_have_the_names_of_their_folders():
    assert model_name("bundled", "classify") == "shapes-vit"
    assert model_name("bundled", "segment") == "shapes-segformer"


def test_bundled_resolves_to_a_folder_and_other_sources_stay_unchanged():
    assert resolve_source("bundled", "classify") == checkpoint.bundled("classify")
    assert resolve_source("google/vit", "classify") == "google/vit"


def test_a_missing_device_is_an_error():
    with pytest.raises(ValueError, match="there is no device cuda:63"):
        resolve_device("cuda:63")


def test_the_input_size_is_that_of_the_checkpoint_unless_it_is_set():
    loaded = checkpoint.load(checkpoint.bundled("classify"))
    assert resolve_preprocessing(loaded, 0) is loaded.preprocessing
    assert resolve_preprocessing(loaded, 96).input_size == (96, 96)


@pytest.mark.parametrize(("task", "min_side"), [("classify", 6), ("segment", 32)])
def test_an_input_that_is_too_small_for_the_network_is_an_error(task, min_side):
    loaded = checkpoint.load(checkpoint.bundled(task))
    with pytest.raises(CheckpointError, match=f"an input of at least {min_side} pixels a side"):
        resolve_preprocessing(loaded, min_side - 1)
    assert resolve_preprocessing(loaded, min_side).input_size == (min_side, min_side)
