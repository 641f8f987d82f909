import pytest
import torch

from models.runtimes.optimize import form
from models.runtimes.optimize.form import ClassifierForm, Form, form_of, place, split_batches


def test_only_a_classifier_has_an_embedding_to_tell(any_network):
    assert hasattr(form_of(any_network), "classify") == hasattr(any_network, "classify")


def test_the_form_of_a_form_is_itself(network):
    made = form_of(network("plain"))
    assert form_of(made) is made


@torch.no_grad()
def test_a_form_takes_pixels_of_any_format_and_answers_in_its_own(network):
    plain, pixels = network("SegFormer"), torch.randn(1, 3, 64, 64)
    placed = place(plain, torch.device("cpu"), torch.bfloat16)
    assert placed(pixels).dtype == placed(pixels.half()).dtype == torch.bfloat16
    assert plain(pixels).dtype == torch.float32


@torch.no_grad()
def test_placing_in_half_precision_keeps_the_logits_close(any_network):
    pixels = torch.randn(2, 3, 64, 64)
    ours, plain = (
        place(any_network, torch.device("cpu"), torch.bfloat16)(pixels),
        any_network(pixels),
    )
    assert (ours - plain).abs().max() < 0.05 * plain.abs().max()


@pytest.mark.parametrize("at_once", [1, 2 * 40 * 40])
@torch.no_grad()
def test_a_batch_in_parts_gives_what_the_whole_gives(at_once, network, monkeypatch):
    monkeypatch.setattr(form, "PIXELS_AT_ONCE", at_once)
    pixels = torch.randn(5, 3, 40, 40)
    segmenter, classifier = network("SegFormer"), network("SegFormer classifier")
    split = split_batches(segmenter)
    assert len(list(split.entering(pixels))) == (5 if at_once == 1 else 3)
    torch.testing.assert_close(split(pixels), segmenter(pixels), atol=1e-5, rtol=1e-5)
    ours, plain = split_batches(classifier).classify(pixels), classifier.classify(pixels)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


def test_a_vit_takes_a_batch_at_once(network):
    made = split_batches(network("plain"))
    assert isinstance(made, ClassifierForm)
    assert len(list(made.entering(torch.randn(64, 3, 48, 48)))) == 1


def test_changing_a_form_leaves_it_as_it_was(network):
    made = Form(network("SegFormer"))
    changed = made.changed(network("mean"), dtype=torch.float16)
    assert (made.dtype, changed.dtype) == (torch.float32, torch.float16)
    assert changed.network is not made.network
