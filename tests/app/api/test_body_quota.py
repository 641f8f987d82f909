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
