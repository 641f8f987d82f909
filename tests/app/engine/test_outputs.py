"""Outputs: tensors on the device, and their form on the host."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from app.engine.interface import ClassifyInput, EmbedInput, ExplainInput, Ranking, SegmentInput
from app.engine.outputs import fused_label_map, reader_for
from models.explain import Explanation

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
    assert first.tolist() == np.zeros((3, 5)).tolist()
    assert second.tolist() == [[1, 1]]


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


def test_there_is_a_fused_label_map_if_triton_is_installed():
    assert (fused_label_map() is None) == (find_spec("triton") is None)
