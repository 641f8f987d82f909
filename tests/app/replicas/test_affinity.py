"""Dividing the cores and GPUs of a machine among replicas."""

import os

import pytest

from app.core.cores import usable_cores
from app.replicas.affinity import core_share, cpu_affinity, gpu_for, gpu_share, split_cores


def test_each_replica_gets_adjacent_cores():
    assert split_cores({3, 1, 2, 0}, 2) == [{0, 1}, {2, 3}]
    assert split_cores(range(8), 1) == [set(range(8))]


@pytest.mark.parametrize(("cores", "count"), [(7, 3), (16, 5), (5, 5)])
def test_every_core_belongs_to_one_replica_and_the_shares_are_even(cores, count):
    shares = split_cores(range(cores), count)
    assert sorted(core for share in shares for core in share) == list(range(cores))
    assert {len(share) for share in shares} <= {cores // count, cores // count + 1}


def test_more_replicas_than_cores_share_them():
    assert split_cores({4, 6}, 5) == [{4}, {6}, {4}, {6}, {4}]


def test_without_known_cores_no_replica_is_restricted(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert split_cores(usable_cores(), 2) == [set(), set()]
    with cpu_affinity(set()):
        pass


@pytest.mark.parametrize(
    ("setting", "gpus", "devices"),
    [
        ("auto", 2, ["cuda:0", "cuda:1", "cuda:0"]),
        ("cuda", 2, ["cuda:0", "cuda:1", "cuda:0"]),
        ("auto", 1, ["auto"] * 3),
        ("auto", 0, ["auto"] * 3),
        ("cuda:1", 4, ["cuda:1"] * 3),
        ("cpu", 4, ["cpu"] * 3),
    ],
)
def test_each_replica_gets_a_gpu_unless_the_setting_names_its_number(setting, gpus, devices):
    assert [gpu_for(index, setting, gpus) for index in range(3)] == devices


@pytest.mark.parametrize(
    ("setting", "gpus", "count", "shares"),
    [
        ("auto", 1, 4, [1 / 4] * 4),
        ("cuda", 2, 3, [1 / 2, 1, 1 / 2]),
        ("cuda:1", 4, 2, [1 / 2] * 2),
        ("auto", 4, 4, [1] * 4),
        ("auto", 4, 1, [1]),
    ],
)
def test_the_replicas_of_a_gpu_have_equal_parts_of_it(setting, gpus, count, shares):
    assert [gpu_share(index, setting, gpus, count) for index in range(count)] == shares


@pytest.mark.parametrize(
    ("total", "count", "own", "cores"),
    [
        (8, 2, range(4), 4),
        (3, 2, range(1), 1),
        (2, 4, range(1), 1),
        (4, 2, range(32), 2),
        (5, 2, (), 3),
    ],
)
def test_replicas_use_no_more_cores_than_a_quota_allows(total, count, own, cores):
    assert core_share(total, count, own) == cores


@pytest.mark.skipif(not usable_cores(), reason="the system has no CPU affinity")
def test_the_affinity_holds_inside_the_block_only():
    before = usable_cores()
    own = {min(before)}
    with cpu_affinity(own):
        assert usable_cores() == own
    assert usable_cores() == before
