"""Owns how a body comes off the wire: with as few copies, and as few pauses, as uvicorn allows.

Knows nothing of what is sent, nor of the app behind it.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_UNREAD = 2**20  # bytes of a body that may lie here before the sender is made to wait


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, which keeps a body that arrives in one piece as that piece.

    uvicorn itself copies every piece into a buffer and the buffer into a message, and stops reading
    at 64 KiB, which for a photograph means two more calls of the system.
    """

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body until the app asks for it."""
        cycle = self.cycle
        if self.parser.should_upgrade() or cycle.response_complete:
            super().on_body(body)  # it knows whose the piece is
            return
        if not cycle.body:
            cycle.body = body  # type: ignore[assignment]  # what is read of it is `bytes(body)`
        else:
            cycle.body = bytearray_of(cycle.body)  # it grows by small pieces in linear time
            cycle.body += body
        if len(cycle.body) > MOST_UNREAD:
            self.flow.pause_reading()
        cycle.message_event.set()


def bytearray_of(body: bytes | bytearray) -> bytearray:
    """A body that can grow; the same one if it can already."""
    return body if isinstance(body, bytearray) else bytearray(body)
