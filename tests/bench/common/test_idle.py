import os

import pytest

from bench.common import cpu, idle
from bench.common.cpu import Usage, UsageDelta, cpu_seconds, peak_memory, tree, usage_between

QUIET, BUSY = UsageDelta(1.0, {}, 0.02), UsageDelta(1.0, {}, 0.16)


@pytest.fixture
def quiet_machine(monkeypatch):
    """Let the machine be quiet before every measurement."""
    monkeypatch.setattr(idle, "machine_use", lambda: QUIET)


def test_cpu_time_outside_of_the_process_trees_is_foreign(monkeypatch):
    monkeypatch.setattr(cpu.os, "cpu_count", lambda: 2)
    before = Usage(10.0, 100.0, {"server": 5.0, "generator": 1.0})
    after = Usage(12.0, 103.4, {"server": 7.5, "generator": 1.5})
    delta = usage_between(before, after)
    assert delta.seconds == 2
    assert delta.cpu == {"server": 2.5, "generator": 0.5}
    assert delta.foreign == pytest.approx(0.1)


def test_foreign_cpu_time_is_never_negative():
    delta = usage_between(Usage(0.0, 0.0, {"server": 0.0}), Usage(1.0, 0.9, {"server": 1.0}))
    assert delta.foreign == 0


def test_more_than_15_percent_foreign_cpu_time_is_a_disturbance():
    assert not UsageDelta(1.0, {}, 0.15).disturbed
    assert BUSY.disturbed


def test_a_disturbed_measurement_is_repeated(quiet_machine, capsys):
    results = iter([("first", BUSY), ("second", BUSY), ("third", QUIET)])
    assert idle.undisturbed("a server", lambda: next(results)) == "third"
    assert capsys.readouterr().err.count("a server, other processes used 16%") == 2


def test_nothing_is_measured_while_the_machine_is_busy(monkeypatch):
    checks = iter([BUSY, BUSY, QUIET])
    monkeypatch.setattr(idle, "machine_use", lambda: next(checks))
    assert idle.undisturbed("a server", lambda: ("found", QUIET)) == "found"
    assert not list(checks)


def test_a_machine_that_is_never_quiet_is_an_error(monkeypatch):
    monkeypatch.setattr(idle, "machine_use", lambda: BUSY)
    monkeypatch.setattr(idle, "TIMEOUT_S", 0.01)
    with pytest.raises(RuntimeError, match="a server: other processes use the machine"):
        idle.undisturbed("a server", lambda: ("found", QUIET))


def test_a_tree_has_all_descendants_of_a_process():
    assert tree(1, {1: 0, 2: 1, 3: 2, 4: 1, 5: 0}) == [1, 2, 4, 3]


def test_processes_have_parents_and_cpu_time():
    assert dict(cpu.processes())[os.getpid()] == os.getppid()
    assert cpu_seconds(os.getpid()) > 0
    assert cpu_seconds(2**22 + 1) == 0  # above the maximum process id
    assert peak_memory(os.getpid()) > 1
    used = cpu.usage({"us": os.getpid()})
    assert 0 < used.trees["us"] < used.machine
