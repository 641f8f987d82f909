import os

import pytest

from bench.common import cpu, idle
from bench.common.cpu import Share, Usage, between, cpu_seconds, peak_memory, tree

QUIET, BUSY = Share(1.0, {}, 0.02), Share(1.0, {}, 0.16)


@pytest.fixture
def at_once(monkeypatch):
    """The machine is quiet before every measurement, and a glance takes no time."""
    monkeypatch.setattr(idle, "glance", lambda: QUIET)


def test_what_neither_the_server_nor_the_generator_used_is_foreign(monkeypatch):
    monkeypatch.setattr(cpu.os, "cpu_count", lambda: 2)
    before = Usage(10.0, 100.0, {"server": 5.0, "generator": 1.0})
    after = Usage(12.0, 103.4, {"server": 7.5, "generator": 1.5})
    share = between(before, after)
    assert share.seconds == 2
    assert share.cpu == {"server": 2.5, "generator": 0.5}
    assert share.foreign == pytest.approx(0.1)


def test_clocks_that_disagree_make_nobody_busy():
    share = between(Usage(0.0, 0.0, {"server": 0.0}), Usage(1.0, 0.9, {"server": 1.0}))
    assert share.foreign == 0


def test_more_than_15_percent_in_others_hands_is_void():
    assert not Share(1.0, {}, 0.15).void
    assert BUSY.void


def test_a_void_turn_is_repeated(at_once, capsys):
    turns = iter([("first", BUSY), ("second", BUSY), ("third", QUIET)])
    assert idle.undisturbed("a server", lambda: next(turns)) == "third"
    assert capsys.readouterr().err.count("void: a server, 16% in others' hands") == 2


def test_nothing_is_measured_while_the_machine_is_busy(monkeypatch):
    glances = iter([BUSY, BUSY, QUIET])
    monkeypatch.setattr(idle, "glance", lambda: next(glances))
    assert idle.undisturbed("a server", lambda: ("found", QUIET)) == "found"
    assert not list(glances)


def test_a_machine_that_is_never_quiet_is_an_error(monkeypatch):
    monkeypatch.setattr(idle, "glance", lambda: BUSY)
    monkeypatch.setattr(idle, "PATIENCE_S", 0.01)
    with pytest.raises(RuntimeError, match="a server: others use the machine"):
        idle.undisturbed("a server", lambda: ("found", QUIET))


def test_a_tree_is_all_that_descend_from_a_process():
    assert tree(1, {1: 0, 2: 1, 3: 2, 4: 1, 5: 0}) == [1, 2, 4, 3]


def test_processes_are_found_with_their_parents_and_what_they_used():
    assert dict(cpu.processes())[os.getpid()] == os.getppid()
    assert cpu_seconds(os.getpid()) > 0
    assert cpu_seconds(2**22 + 1) == 0  # above the largest number that a process can have
    assert peak_memory(os.getpid()) > 1
    used = cpu.usage({"us": os.getpid()})
    assert 0 < used.trees["us"] < used.machine
