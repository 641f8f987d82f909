import pytest
import torch

from app.engine.placement import (
    model_name,
    resolve_device,
    resolve_dtype,
    resolve_preprocessing,
    resolve_source,
)
from models import checkpoint
from models.checkpoint import CheckpointError


def test_auto_is_bfloat16_on_cuda_and_float32_on_a_cpu():
    assert resolve_dtype("auto", torch.device("cuda")) is torch.bfloat16
    assert resolve_dtype("auto", torch.device("cpu")) is torch.float32
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == "cpu"


def test_the_bundled_checkpoints_have_the_names_of_their_folders():
    assert model_name("bundled", "classify") == "shapes-vit"
    assert model_name("bundled", "segment") == "shapes-segformer"


def test_bundled_is_the_checkpoint_that_ships_and_all_else_is_taken_as_it_is():
    assert resolve_source("bundled", "classify") == checkpoint.bundled("classify")
    assert resolve_source("google/vit", "classify") == "google/vit"


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="cuda:63 is asked for and not there"):
        resolve_device("cuda:63")


def test_an_input_size_is_the_checkpoint_s_own_unless_told():
    loaded = checkpoint.load(checkpoint.bundled("classify"))
    assert resolve_preprocessing(loaded, 0) is loaded.preprocessing
    assert resolve_preprocessing(loaded, 96).input_size == (96, 96)


@pytest.mark.parametrize(("task", "least"), [("classify", 6), ("segment", 32)])
def test_an_input_smaller_than_the_network_sees_is_refused_in_words(task, least):
    loaded = checkpoint.load(checkpoint.bundled(task))
    with pytest.raises(CheckpointError, match=f"needs an input of {least} pixels a side"):
        resolve_preprocessing(loaded, least - 1)
    assert resolve_preprocessing(loaded, least).input_size == (least, least)
