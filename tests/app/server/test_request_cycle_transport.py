"""What goes over a connection in one piece, and what ends it."""

import pytest

from app.server.request_cycle import CoalescingTransport


class Transport:
    """Keeps what is sent, call by call."""

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
def envelope(transport):
    return CoalescingTransport(transport)


def test_the_head_waits_for_what_follows_it(transport, envelope):
    envelope.write(b"head ")
    assert transport.calls == []
    envelope.write(b"body")
    assert transport.calls == [b"head body"]


def test_the_head_of_an_empty_body_is_sent(transport, envelope):
    envelope.write(b"head")
    envelope.write(b"")
    assert transport.calls == [b"head"]


def test_the_rest_of_a_body_in_pieces_is_sent_as_it_comes(transport, envelope):
    for piece in (b"head ", b"one", b"two", b"three"):
        envelope.write(piece)
    assert transport.calls == [b"head one", b"two", b"three"]


def test_the_connection_is_ended_through_it(transport, envelope):
    assert not envelope.is_closing()
    envelope.close()
    assert transport.closed
    assert envelope.is_closing()
