"""The table of heartbeats: which replica is ready, stuck, or should accept connections."""

import pytest

from app.replicas.heartbeats import LATE_S, REASON_BYTES, SETTLE_S, START_S, HeartbeatTable

NOW = 1000.0


@pytest.fixture
def table():
    """Two replicas that have just been started, and a parent with a heartbeat."""
    table = HeartbeatTable(2)
    table.parent_beat(NOW)
    for index in range(2):
        table.started(index, 100 + index, NOW, again=False)
    return table


def ready(table, index, now=NOW):
    table.beat(index, now, None, None)


def test_a_replica_is_starting_until_its_first_beat(table):
    status = table.status(1, NOW)
    assert (status.index, status.pid, status.state) == (1, 101, "starting")
    assert (status.ready, status.stuck, status.restarts) == (False, None, 0)


def test_a_heartbeat_has_the_reason_why_a_replica_is_not_ready(table):
    table.beat(0, NOW, "shapes-vit is loading", None)
    assert table.status(0, NOW).state == "shapes-vit is loading"
    ready(table, 0)
    assert table.status(0, NOW).state == "ready"
    assert table.status(0, NOW).ready


def test_without_a_beat_a_ready_replica_becomes_stuck(table):
    ready(table, 0)
    assert table.status(0, NOW + LATE_S).stuck is None
    late = table.status(0, NOW + LATE_S + 1)
    assert (late.ready, late.stuck) == (False, "no heartbeat for 11 s")


def test_the_first_heartbeat_may_take_longer(table):
    assert table.status(0, NOW + START_S).stuck is None
    assert table.status(0, NOW + START_S + 1).stuck == "no heartbeat within 120 s of its start"


def test_a_broken_replica_is_stuck_despite_its_heartbeats(table):
    table.beat(0, NOW, "the thread of cpu is stuck", "the thread of cpu is stuck")
    status = table.status(0, NOW)
    assert status.stuck == status.state == "the thread of cpu is stuck"
    ready(table, 0)
    assert table.status(0, NOW).stuck is None


def test_a_replica_has_ended_from_its_exit_to_its_restart(table):
    ready(table, 0)
    table.set_connections(0, 5)
    table.exited(0)
    assert (table.status(0, NOW).state, table.status(0, NOW).pid) == ("ended", None)
    assert not table.status(0, NOW).ready
    table.started(0, 200, NOW, again=True)
    status = table.status(0, NOW)
    assert (status.state, status.pid, status.restarts) == ("starting", 200, 1)
    assert table.was_ready(0)
    assert not table.was_ready(1)


def test_the_time_that_a_replica_has_been_ready_is_kept_until_its_exit(table):
    assert table.ready_s(0, NOW) == 0
    ready(table, 0)
    ready(table, 0, NOW + 5)
    assert table.ready_s(0, NOW + 5) == 5
    table.beat(0, NOW + 6, "draining", None)
    assert table.ready_s(0, NOW + 6) == 0
    assert table.last_ready_s(0, NOW + 7) == 6
    table.beat(0, NOW + 8, "draining", None)
    assert table.last_ready_s(0, NOW + 8) == 6
    table.exited(0)
    assert table.last_ready_s(0, NOW + 9) == 0


def test_a_long_reason_is_truncated_even_inside_a_character(table):
    table.fail(0, "ü" * REASON_BYTES)
    assert table.reason(0).startswith("üüü")
    assert len(table.reason(0)) <= REASON_BYTES // 2 + 1


def test_all_replicas_accept_connections_until_one_is_ready(table):
    assert table.should_accept(0, NOW)
    assert table.should_accept(1, NOW)
    ready(table, 1)
    assert not table.should_accept(0, NOW)
    assert table.should_accept(1, NOW)
    ready(table, 0)
    assert table.should_accept(0, NOW)


def test_the_least_connections_are_those_of_another_ready_replica(table):
    table.set_connections(1, 7)
    assert table.least_connections(0, NOW) is None
    ready(table, 1)
    assert table.least_connections(0, NOW) == 7
    assert table.least_connections(1, NOW) is None


def test_the_service_is_alive_while_one_replica_is_not_stuck(table):
    ready(table, 0)
    table.beat(1, NOW, "stuck", "stuck")
    assert table.reasons_dead(NOW) == []
    table.beat(0, NOW, "stuck", "the thread of cuda:0 is stuck")
    assert table.reasons_dead(NOW) == [
        "replica 0: the thread of cuda:0 is stuck",
        "replica 1: stuck",
    ]


def test_the_service_is_dead_without_heartbeats_of_the_parent(table):
    ready(table, 0, NOW + LATE_S + 1)
    (reason,) = table.reasons_dead(NOW + LATE_S + 1)
    assert "parent" in reason


def test_the_service_is_ready_some_heartbeats_after_its_first_replica(table):
    assert len(table.reasons_unready(NOW)) == 2
    ready(table, 1)
    assert table.reasons_unready(NOW) == [
        "replica 1 has just become ready",
        "replica 0: starting",
    ]
    assert table.reasons_unready(NOW + SETTLE_S) == []


def test_the_service_has_started_once_a_replica_was_ready(table):
    assert table.reasons_unstarted(NOW) == ["replica 0: starting", "replica 1: starting"]
    ready(table, 0)
    table.exited(0)
    assert table.reasons_unstarted(NOW) == []
