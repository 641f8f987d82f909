from math import dist

import pytest
import torch

from models.explain import attention_distances, attention_maps
from models.explain.distance import centers, mean_distance
from models.explain.recording import record


def direct_distance(weights, layer):
    """Compute the definition in loops: for each query the weighted mean distance to its keys."""
    rows, columns = layer.grid
    key_rows, key_columns = layer.key_grid
    side = layer.cell * layer.ratio
    by_query = []
    for query in range(rows * columns):
        position = (query // columns + 0.5) * layer.cell, (query % columns + 0.5) * layer.cell
        total, distance = 0.0, 0.0
        for key in range(key_rows * key_columns):
            center = (key // key_columns + 0.5) * side, (key % key_columns + 0.5) * side
            weight = weights[layer.prefix + query][layer.prefix + key]
            total += weight
            distance += weight * dist(position, center)
        by_query.append(distance / total)
    return sum(by_query) / len(by_query)


@pytest.mark.parametrize(
    "name", ["vit", "deit", "axial", "axial_class_token", "vit_segmenter", "segformer"]
)
def test_the_distance_equals_a_direct_computation(make, name):
    network, pixels = make(name), torch.randn(1, 3, 38, 50)
    layers = record(network, pixels).layers
    found, maps = attention_distances(network, pixels), attention_maps(network, pixels)
    assert len(found) == len(maps) == len(layers)
    for distances, weights, layer in zip(found, maps, layers, strict=True):
        expected = [direct_distance(head, layer) for head in weights[0].tolist()]
        assert distances[0].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_half_the_attention_at_20_pixels_gives_a_distance_of_10():
    queries = torch.tensor([[0.0, 0.0]])
    keys = torch.tensor([[0.0, 0.0], [12.0, 16.0]])
    weights = torch.tensor([[[[0.5, 0.5]]]])
    assert mean_distance(weights, queries, keys).item() == pytest.approx(10.0)


def test_rows_without_the_class_token_are_renormalized():
    positions = torch.tensor([[0.0, 0.0], [0.0, 8.0]])
    weights = torch.tensor([[[[0.1, 0.1], [0.2, 0.6]]]])
    assert mean_distance(weights, positions, positions).item() == pytest.approx((4 + 2) / 2)


def test_attention_to_itself_or_nothing_has_distance_0():
    positions = centers((2, 3), 16)
    assert mean_distance(torch.eye(6)[None, None], positions, positions).item() == 0
    assert mean_distance(torch.zeros(1, 1, 6, 6), positions, positions).item() == 0


def test_centres_are_in_pixels_row_by_row():
    expected = torch.tensor([[8.0, 8.0], [8.0, 24.0], [24.0, 8.0], [24.0, 24.0]])
    torch.testing.assert_close(centers((2, 2), 16), expected)


def test_attention_along_an_axis_does_not_reach_beyond_its_line(make, pixels):
    along_the_height, along_the_width = attention_distances(make("axial"), pixels)[:2]
    assert (along_the_height < 70).all()
    assert (along_the_width < 45).all()
