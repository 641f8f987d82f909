"""The limit on body bytes of all requests together."""

import pytest

from app.api.body import BytesInFlight
from app.core.errors import Overloaded


def test_reservations_grow_up_to_the_common_limit():
    total = BytesInFlight(100)
    with total.reserve() as first, total.reserve() as second:
        first.resize(60)
        second.resize(40)
        assert total.held == 100
        with pytest.raises(Overloaded) as refused:
            second.resize(41)
        assert (first.held, second.held, total.held) == (60, 40, 100)
    assert total.held == 0
    assert refused.value.limits == {"max_body_bytes_in_flight": 100}
    assert 1 <= refused.value.retry_after_s <= 1.5


def test_a_smaller_reservation_releases_the_rest():
    total = BytesInFlight(100)
    with total.reserve() as reservation:
        reservation.resize(50)
        reservation.resize(10)
        assert total.held == 10
    assert total.held == 0


def test_an_error_releases_the_reservation():
    total = BytesInFlight(100)
    reservation = total.reserve()
    reservation.resize(70)
    with pytest.raises(Overloaded), reservation:
        reservation.resize(101)
    with total.reserve() as reservation:
        reservation.resize(100)


def test_a_client_with_many_requests_leaves_room_for_others():
    total = BytesInFlight(100)
    first = [total.reserve("first") for _ in range(10)]
    for reservation in first[:8]:
        reservation.resize(10)
    with pytest.raises(Overloaded):
        first[8].resize(10)  # it would hold 90, and 10 are free
    second = total.reserve("second")
    second.resize(20)
    for reservation in [*first, second]:
        with reservation:
            pass
    assert (total.held, total.by_client) == (0, {})


def test_a_single_request_of_a_client_may_use_all_bytes():
    total = BytesInFlight(100)
    with total.reserve("only") as reservation:
        for size in (30, 70, 100):
            reservation.resize(size)
        with pytest.raises(Overloaded):
            total.reserve("other").resize(1)
