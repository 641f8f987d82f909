"""What the bodies of all requests may hold together."""

import pytest

from app.api.body import BytesInFlight
from app.core.errors import Overloaded


def test_shares_grow_until_all_together_hold_what_they_may():
    quota = BytesInFlight(100)
    with quota.reserve() as first, quota.reserve() as second:
        first.grow(60)
        second.grow(40)
        assert quota.held == 100
        with pytest.raises(Overloaded) as refused:
            second.grow(41)
        assert (first.held, second.held, quota.held) == (60, 40, 100)
    assert quota.held == 0
    assert refused.value.limits == {"max_body_bytes_in_flight": 100}
    assert 1 <= refused.value.retry_after_s <= 1.5


def test_a_share_holds_the_most_that_was_known_of_its_body():
    quota = BytesInFlight(100)
    with quota.reserve() as share:
        share.grow(50)
        share.grow(10)
        assert quota.held == 50


def test_an_error_gives_back_what_was_held():
    quota = BytesInFlight(100)
    share = quota.reserve()
    share.grow(70)
    with pytest.raises(Overloaded), share:
        share.grow(101)
    with quota.reserve() as share:
        share.grow(100)
