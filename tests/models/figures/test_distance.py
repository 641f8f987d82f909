from itertools import product
from math import dist

import pytest

from models.figures.distance import attention_distance_figure, uniform_distance


def test_a_figure_is_drawn_for_layers_with_different_head_counts():
    images = [[[1.0], [2.0, 3.0]], [[3.0], [4.0, 5.0]]]
    assert attention_distance_figure(images, (32, 48), "two layers").startswith(b"\x89PNG")


def test_a_figure_is_drawn_for_60_layers():
    assert attention_distance_figure([[[1.0]] * 60], (32, 32), "deep").startswith(b"\x89PNG")


@pytest.mark.parametrize("size", [(40, 40), (20, 60)])
def test_uniform_attention_has_the_mean_distance_of_all_pixel_pairs(size):
    pixels = list(product(range(0, size[0], 2), range(0, size[1], 2)))
    every_pair = [dist(a, b) for a in pixels for b in pixels]
    assert uniform_distance(size) == pytest.approx(sum(every_pair) / len(every_pair), rel=0.01)
