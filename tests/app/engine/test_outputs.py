"""Outputs: tensors on the device, and their form on the host."""

from types import SimpleNamespace as Namespace

import numpy as np
import pytest
import torch

from app.engine import outputs
from app.engine.interface import ClassifyInput, EmbedInput, ExplainInput, Ranking, SegmentInput
from app.engine.outputs import label_map_on, reader_for
from models.explain import Explanation
from models.label_map import label_map

PIXELS = np.zeros((2, 2, 3), np.uint8)


def test_only_the_largest_top_k_of_a_batch_leaves_the_device():
    reader = reader_for([ClassifyInput(PIXELS, 1), ClassifyInput(PIXELS, 2)], torch.sigmoid)
    results = reader.on_device(torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]]))
    assert [tuple(tensor.shape) for tensor in results] == [(2, 2), (2, 2)]
    first, second = reader.on_host(results)
    assert first == Ranking([1], pytest.approx(torch.tensor([2.0]).sigmoid().tolist()))
    assert second.indices == [0, 1]


def test_an_embedding_is_a_copy_because_the_next_batch_overwrites_it():
    reader = reader_for([EmbedInput(PIXELS)], torch.sigmoid)
    embedding = torch.ones(1, 4)
    results = reader.on_device(embedding)
    embedding.zero_()
    assert reader.on_host(results)[0].tolist() == [1.0] * 4


def test_each_label_map_has_the_size_of_its_input():
    reader = reader_for([SegmentInput(PIXELS, (3, 5)), SegmentInput(PIXELS, (1, 2))], torch.sigmoid)
    logits = torch.zeros(2, 2, 2, 2)
    logits[1, 1] = 1.0
    first, second = reader.on_host(reader.on_device(logits))
    assert first.labels.tolist() == np.zeros((3, 5)).tolist()
    assert second.labels.tolist() == [[1, 1]]
    assert first.confidence is second.confidence is None


def test_only_the_confidence_that_is_wanted_leaves_the_device():
    wanted = [False, True, False]
    inputs = [SegmentInput(PIXELS, (2, 3), confidence) for confidence in wanted]
    reader = reader_for(inputs, torch.sigmoid)
    logits = torch.zeros(3, 2, 2, 2, dtype=torch.float16)
    logits[:, 1] = torch.tensor(3.0).log()  # class 1 has probability 0.75
    results = reader.on_device(logits)
    assert [tuple(tensor.shape) for tensor in results] == [(2, 3), (2, 3), (2,), (2, 3), (2, 3)]
    outputs = reader.on_host(results)
    assert [output.confidence is not None for output in outputs] == wanted
    confidence = outputs[1].confidence
    assert confidence.sums == pytest.approx([0, 4.5], abs=1e-3)
    assert confidence.pixels.tolist() == [[191] * 3] * 2
    assert all(output.labels.tolist() == [[1] * 3] * 2 for output in outputs)


def test_explanations_of_one_batch_may_have_different_grids():
    inputs = [ExplainInput(PIXELS, 1, "gradient"), ExplainInput(PIXELS, 2, "rollout")]
    raw = [
        Explanation(
            logits=torch.tensor([[0.0, float(index)]]),
            relevance=torch.full((1, index, 2), 0.5),
            cell=8 * index,
            attention_distance=(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]])),
        )
        for index in (1, 2)
    ]
    reader = reader_for(inputs, torch.sigmoid)
    first, second = reader.on_host(reader.on_device(raw))
    assert (first.grid.shape, second.grid.shape) == ((1, 2), (2, 2))
    assert (first.cell, second.cell) == (8, 16)
    assert first.ranking.indices == [1]
    assert second.ranking.indices == [1, 0]
    assert first.attention_distance == second.attention_distance == [[1.0, 2.0], [3.0]]


@pytest.fixture
def triton(monkeypatch):
    """Triton on a machine without it: a function stands for the kernel."""
    real_zeros = torch.zeros

    def use(kernel):
        monkeypatch.setattr(outputs, "find_spec", lambda name: object())
        monkeypatch.setattr(
            outputs, "import_module", lambda name: Namespace(fused_label_map=kernel)
        )
        on_cpu = Namespace(zeros=lambda *size, device: real_zeros(*size))
        monkeypatch.setattr(outputs, "torch", on_cpu)
        label_map_on.cache_clear()

    yield use
    label_map_on.cache_clear()


def test_on_a_gpu_the_kernel_is_tried_once_and_then_used(triton):
    calls = []

    def kernel(logits, size):
        calls.append((tuple(logits.shape), size))
        return "a label map"

    triton(kernel)
    assert label_map_on("cuda") is kernel
    assert label_map_on("cuda") is kernel
    assert len(calls) == 1


def test_without_a_compiler_label_maps_are_computed_by_torch_with_a_warning(triton, caplog):
    def kernel(logits, size):
        raise RuntimeError("Failed to find C compiler. Please specify via CC\nmore")

    triton(kernel)
    assert label_map_on("cuda") is label_map
    assert "without Triton, which is slower: Failed to find C compiler" in caplog.text
    assert "more" not in caplog.text


def test_on_a_cpu_label_maps_are_computed_by_torch():
    assert label_map_on("cpu") is label_map
