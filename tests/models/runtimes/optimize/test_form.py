import pytest
import torch

from models.runtimes.optimize import form
from models.runtimes.optimize.form import ClassifierForm, Form, form_of, place, split_batches


@pytest.mark.parametrize("name", ["plain", "segmenting ViT", "SegFormer", "SegFormer classifier"])
def test_only_the_form_of_a_classifier_has_classify(name, network):
    plain = network(name)
    assert hasattr(form_of(plain), "classify") == hasattr(plain, "classify")


def test_form_of_returns_a_form_unchanged(network):
    form = form_of(network("plain"))
    assert form_of(form) is form


@torch.no_grad()
def test_a_form_takes_any_float_dtype_and_returns_float32(network):
    plain, pixels = network("SegFormer"), torch.randn(1, 3, 64, 64)
    placed = place(plain, torch.device("cpu"), torch.bfloat16)
    assert placed(pixels).dtype == placed(pixels.half()).dtype == torch.float32
    assert plain(pixels).dtype == torch.float32


@torch.no_grad()
def test_logits_in_bfloat16_are_close(each_kind):
    pixels = torch.randn(2, 3, 64, 64)
    ours, plain = place(each_kind, torch.device("cpu"), torch.bfloat16)(pixels), each_kind(pixels)
    assert (ours - plain).abs().max() < 0.05 * plain.abs().max()


@pytest.mark.parametrize("max_pixels", [1, 2 * 40 * 40])
@torch.no_grad()
def test_a_split_batch_gives_the_outputs_of_the_whole_batch(max_pixels, network, monkeypatch):
    monkeypatch.setattr(form, "MAX_PIXELS", max_pixels)
    pixels = torch.randn(5, 3, 40, 40)
    segmenter, classifier = network("SegFormer"), network("SegFormer classifier")
    split = split_batches(segmenter)
    assert len(list(split.inputs(pixels))) == (5 if max_pixels == 1 else 3)
    torch.testing.assert_close(split(pixels), segmenter(pixels), atol=1e-5, rtol=1e-5)
    ours, plain = split_batches(classifier).classify(pixels), classifier.classify(pixels)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


def test_a_vit_does_not_split_batches(network):
    split = split_batches(network("plain"))
    assert isinstance(split, ClassifierForm)
    assert len(list(split.inputs(torch.randn(64, 3, 48, 48)))) == 1


def test_changed_does_not_modify_the_form(network):
    original = Form(network("SegFormer"))
    changed = original.changed(network("mean"), dtype=torch.float16)
    assert (original.dtype, changed.dtype) == (torch.float32, torch.float16)
    assert changed.network is not original.network
