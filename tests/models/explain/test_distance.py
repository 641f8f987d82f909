from math import dist

import pytest
import torch

from models.explain import attention_distances, attention_maps
from models.explain.distance import centres, mean_distance
from models.explain.recording import record


def directly(weights, layer):
    """The definition in loops: for each query the mean distance to its keys, by attention."""
    rows, columns = layer.grid
    down, across = layer.key_grid
    side = layer.cell * layer.ratio
    of_queries = []
    for query in range(rows * columns):
        at = (query // columns + 0.5) * layer.cell, (query % columns + 0.5) * layer.cell
        heeded, far = 0.0, 0.0
        for key in range(down * across):
            weight = weights[layer.prefix + query][layer.prefix + key]
            heeded += weight
            far += weight * dist(at, ((key // across + 0.5) * side, (key % across + 0.5) * side))
        of_queries.append(far / heeded)
    return sum(of_queries) / len(of_queries)


@pytest.mark.parametrize("name", ["vit", "deit", "axial", "vit_segmenter", "segformer"])
def test_it_equals_a_slow_direct_computation(make, name):
    network, pixels = make(name), torch.randn(1, 3, 38, 50)
    layers = record(network, pixels).layers
    found, maps = attention_distances(network, pixels), attention_maps(network, pixels)
    assert len(found) == len(maps) == len(layers)
    for distances, weights, layer in zip(found, maps, layers, strict=True):
        expected = [directly(head, layer) for head in weights[0].tolist()]
        assert distances[0].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_the_example_of_the_text_half_a_weight_at_twenty_pixels_is_ten():
    queries = torch.tensor([[0.0, 0.0]])
    keys = torch.tensor([[0.0, 0.0], [12.0, 16.0]])
    weights = torch.tensor([[[[0.5, 0.5]]]])
    assert mean_distance(weights, queries, keys).item() == pytest.approx(10.0)


def test_rows_of_which_the_class_token_has_a_part_are_brought_to_a_sum_of_one():
    at = torch.tensor([[0.0, 0.0], [0.0, 8.0]])
    weights = torch.tensor([[[[0.1, 0.1], [0.2, 0.6]]]])
    assert mean_distance(weights, at, at).item() == pytest.approx((4 + 2) / 2)


def test_who_heeds_itself_or_nothing_reaches_nowhere():
    at = centres((2, 3), 16)
    assert mean_distance(torch.eye(6)[None, None], at, at).item() == 0
    assert mean_distance(torch.zeros(1, 1, 6, 6), at, at).item() == 0


def test_centres_go_row_by_row_in_pixels():
    expected = torch.tensor([[8.0, 8.0], [8.0, 24.0], [24.0, 8.0], [24.0, 24.0]])
    torch.testing.assert_close(centres((2, 2), 16), expected)


def test_attention_along_an_axis_reaches_no_farther_than_its_line(make, pixels):
    along_the_height, along_the_width = attention_distances(make("axial"), pixels)[:2]
    assert (along_the_height < 70).all()
    assert (along_the_width < 45).all()
