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
        elif isinstance(cycle.body, bytearray):
            cycle.body += body
        else:  # from the second piece on a buffer, which grows by small ones in linear time
            cycle.body = bytearray().join((cycle.body, body))
        if len(cycle.body) > MOST_UNREAD:
            self.flow.pause_reading()
        cycle.message_event.set()
