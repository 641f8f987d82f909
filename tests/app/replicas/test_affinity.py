"""How replicas divide the cores and the GPUs of a machine."""

import os

import pytest

from app.core.process import usable_cores
from app.replicas.affinity import cpu_affinity, gpu_for, split_cores


def test_cores_are_divided_among_neighbours():
    assert split_cores({3, 1, 2, 0}, 2) == [{0, 1}, {2, 3}]
    assert split_cores(range(8), 1) == [set(range(8))]


@pytest.mark.parametrize(("cores", "count"), [(7, 3), (16, 5), (5, 5)])
def test_every_core_belongs_to_one_and_the_shares_are_even(cores, count):
    shares = split_cores(range(cores), count)
    assert sorted(core for share in shares for core in share) == list(range(cores))
    assert {len(share) for share in shares} <= {cores // count, cores // count + 1}


def test_more_replicas_than_cores_share_them():
    assert split_cores({4, 6}, 5) == [{4}, {6}, {4}, {6}, {4}]


def test_where_the_system_cannot_tell_nobody_is_confined(monkeypatch):
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
def test_each_replica_has_a_gpu_where_the_setting_leaves_it_open(setting, gpus, devices):
    assert [gpu_for(index, setting, gpus) for index in range(3)] == devices


@pytest.mark.skipif(not usable_cores(), reason="the system cannot confine a process")
def test_what_is_started_meanwhile_has_its_cores_only():
    before = usable_cores()
    mine = {min(before)}
    with cpu_affinity(mine):
        assert usable_cores() == mine
    assert usable_cores() == before
