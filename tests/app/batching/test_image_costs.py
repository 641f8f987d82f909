"""The learned costs of operations on images."""

import pytest

from app.batching.image_costs import ImageCosts


def test_the_cost_of_an_image_follows_what_its_operation_took():
    costs = ImageCosts()
    before = costs.seconds("mask", 1e6)
    for _ in range(60):
        costs.observe("mask", 1e6, 0.05)
    assert costs.seconds("mask", 1e6) == pytest.approx(0.05, rel=0.02)
    assert costs.seconds("mask", 50e6) == pytest.approx(2.0, rel=0.05)  # 10 ms may be fixed
    assert costs.seconds("another", 1e6) == before


def test_before_it_is_measured_the_cost_is_the_one_of_a_current_cpu():
    assert 0.2 < ImageCosts().seconds("classify", 50e6) < 1.0


def test_small_images_say_little_about_a_large_one():
    costs = ImageCosts()
    for _ in range(100):
        costs.observe("mask", 1e5, 0.01)  # most of it does not depend on the work
    assert costs.seconds("mask", 1e5) == pytest.approx(0.01, rel=0.05)
    assert costs.seconds("mask", 50e6) < 0.4


def test_the_cost_of_small_and_large_images_is_learned_together():
    costs = ImageCosts()
    for _ in range(50):
        costs.observe("mask", 50e6, 2.0)
        costs.observe("mask", 1e5, 0.01)
    assert costs.seconds("mask", 50e6) == pytest.approx(2.0, rel=0.05)
    assert costs.seconds("mask", 1e5) == pytest.approx(0.01, abs=0.01)


def test_a_faster_machine_is_learned_from_images_of_one_size():
    costs = ImageCosts()
    for _ in range(100):
        costs.observe("mask", 1e6, 0.001)
    assert costs.seconds("mask", 1e6) == pytest.approx(0.001, rel=0.05)
    assert 0.0 < costs.seconds("mask", 10e6) <= 0.011


def test_an_explanation_is_a_multiple_of_the_network_until_it_is_measured():
    costs = ImageCosts()
    assert costs.engine_seconds("rollout", network_s=0.2) == pytest.approx(0.8)
    costs.observe_engine("rollout", 0.1)
    assert costs.engine_seconds("rollout", network_s=0.2) == pytest.approx(0.1)
    costs.observe_engine("rollout", 0.2)
    assert costs.engine_seconds("rollout", network_s=0.2) == pytest.approx(0.11)
