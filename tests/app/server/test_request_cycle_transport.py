"""The transport that sends the head of a response with its body."""

import pytest

from app.server.request_cycle import CoalescingTransport


class Transport:
    """Keeps the bytes of each call."""

    def __init__(self):
        self.calls = []
        self.closed = False

    def write(self, data):
        self.calls.append(data)

    def writelines(self, pieces):
        self.calls.append(b"".join(pieces))

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True


@pytest.fixture
def transport():
    return Transport()


@pytest.fixture
def coalescing(transport):
    return CoalescingTransport(transport)


def test_the_head_waits_for_the_body(transport, coalescing):
    coalescing.write(b"head ")
    assert transport.calls == []
    coalescing.write(b"body")
    assert transport.calls == [b"head body"]


def test_the_head_of_an_empty_body_is_sent(transport, coalescing):
    coalescing.write(b"head")
    coalescing.write(b"")
    assert transport.calls == [b"head"]


def test_later_pieces_of_a_body_are_sent_at_once(transport, coalescing):
    for piece in (b"head ", b"one", b"two", b"three"):
        coalescing.write(piece)
    assert transport.calls == [b"head one", b"two", b"three"]


def test_closing_it_closes_the_connection(transport, coalescing):
    assert not coalescing.is_closing()
    coalescing.close()
    assert transport.closed
    assert coalescing.is_closing()
